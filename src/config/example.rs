//! The commented example, `dist/smsd.conf`, read for people: its comments are the words of the reference and of the
//! manual page smsd.conf(5), so that nothing about a key is said twice.
//!
//! A comment and the keys under it belong together; one before the header of a section is about the section. `#key:`
//! shows a default, or an example if the comment says "(example)". That the defaults are those of the code is proved by
//! `tests/config.rs`, that it has every key of the code by the tests here.

use std::collections::BTreeMap;

use super::keys::{self, Known};
use super::section::SECRET_FORMS;

/// The file itself.
pub(crate) const TEXT: &str = include_str!("../../dist/smsd.conf");

/// The file as people read it.
#[derive(Debug, Default)]
pub(crate) struct Example {
    /// What stands before the first section.
    pub(crate) intro: Vec<Words>,
    /// The sections in the order of the file.
    pub(crate) sections: Vec<Section>,
}

/// A section and what is said about it.
#[derive(Debug)]
pub(crate) struct Section {
    /// Between the brackets, or [`COMMON`], which is no section.
    pub(crate) name: String,
    /// What stands before it.
    pub(crate) intro: Vec<Words>,
    /// What stands in it.
    pub(crate) items: Vec<Item>,
}

/// A piece of a section.
#[derive(Debug)]
pub(crate) enum Item {
    /// What the keys below have in common.
    Heading(String),
    /// Keys, and what is said about them.
    Keys(Vec<Key>, Vec<Words>),
}

/// A piece of a comment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Lines that flow.
    Paragraph(String),
    /// Lines that stand as they are.
    Lines(Vec<String>),
}

/// A key as the example shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its name, in the case in which it is shown.
    pub(crate) name: String,
    /// What it is set to there.
    pub(crate) value: String,
    /// True: that holds, too, if it is not set.
    pub(crate) is_default: bool,
    /// It may be given as `KEY_file` and the like.
    pub(crate) is_secret: bool,
    /// How the key begins, if the rest is the operator's own.
    pub(crate) prefix: Option<String>,
}

impl Key {
    /// The keys by which a secret may be given instead.
    pub(crate) fn other_places(&self) -> Vec<String> {
        let forms = SECRET_FORMS.iter().filter(|form| self.is_secret && !form.is_empty());
        forms.map(|form| format!("{}{form}", self.name)).collect()
    }
}

/// How the keys are titled that may stand in the section of every way out.
pub(crate) const COMMON: &str = "every way out";
/// The sentence in the example after which they come.
const COMMON_BEGIN: &str = "The keys below may stand in the section of every way out.";

impl Example {
    /// Reads the file, and marks what the code knows of its keys.
    pub(crate) fn read() -> Example {
        let mut reader = Reader::default();
        for line in TEXT.lines() {
            reader.line(line);
        }
        reader.end_of_block();
        let mut example = reader.example;
        example.mark(&keys::known());
        example
    }

    fn mark(&mut self, known: &BTreeMap<String, Known>) {
        let nothing = Known::default();
        for section in &mut self.sections {
            let known = known.get(home_of(&section.name)).unwrap_or(&nothing);
            let keys = section.items.iter_mut().flat_map(|item| match item {
                Item::Keys(keys, _) => keys.iter_mut(),
                Item::Heading(_) => [].iter_mut(),
            });
            for key in keys {
                let name = key.name.to_lowercase();
                key.is_secret = known.is_secret(&name);
                key.prefix = known.prefix_of(&name).map(str::to_owned);
            }
        }
    }
}

/// Whose reader knows the keys of a section of the example.
fn home_of(section: &str) -> &str {
    if section == COMMON { "DebugDispatcher" } else { section }
}

/// Reads line by line: a block is a comment, then keys.
#[derive(Default)]
struct Reader {
    example: Example,
    comment: Vec<String>,
    /// Comments without keys, which are about the section that comes.
    is_about_section: Vec<Words>,
    keys: Vec<Key>,
    is_example: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let commented = line.strip_prefix('#');
        let setting = commented.unwrap_or(line);
        let is_setting = setting.starts_with(|c: char| c.is_ascii_lowercase());
        if line.is_empty() || line.starts_with("# ---") {
            self.end_of_block();
        } else if let Some(title) = line.strip_prefix("# -- ") {
            self.end_of_block();
            let title = title.trim_end_matches('-').trim_end().to_owned();
            self.items(|items| items.push(Item::Heading(title)));
        } else if let Some(name) = setting.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            self.end_of_block();
            let intro = std::mem::take(&mut self.is_about_section);
            self.example.sections.push(Section { name: name.to_owned(), intro, items: Vec::new() });
        } else if let (true, Some((name, value))) = (is_setting, setting.split_once(':')) {
            self.keys.push(Key {
                name: name.to_owned(),
                value: value.trim().to_owned(),
                is_default: commented.is_some() && !self.is_example,
                is_secret: false,
                prefix: None,
            });
        } else {
            if !self.keys.is_empty() {
                self.end_of_block();
            }
            self.comment.push(commented.unwrap_or(line).strip_prefix(' ').unwrap_or_default().to_owned());
            self.is_example = self.comment.iter().any(|line| line.contains(EXAMPLE));
        }
    }

    fn end_of_block(&mut self) {
        let words = words(&std::mem::take(&mut self.comment));
        let keys = std::mem::take(&mut self.keys);
        self.is_example = false;
        if !keys.is_empty() {
            self.items(|items| items.push(Item::Keys(keys, words)));
        } else if words.first() == Some(&Words::Paragraph(COMMON_BEGIN.to_owned())) {
            let name = COMMON.to_owned();
            self.example.sections.push(Section { name, intro: words, items: Vec::new() });
        } else if self.example.sections.is_empty() && self.example.intro.is_empty() {
            self.example.intro.extend(words);
        } else {
            self.is_about_section.extend(words);
        }
    }

    fn items(&mut self, change: impl FnOnce(&mut Vec<Item>)) {
        if let Some(section) = self.example.sections.last_mut() {
            change(&mut section.items);
        }
    }
}

/// A comment as paragraphs; lines that are indented stand as they are.
fn words(comment: &[String]) -> Vec<Words> {
    let mut words: Vec<Words> = Vec::new();
    let mut is_open = false;
    for line in comment {
        match words.last_mut() {
            _ if line.is_empty() => is_open = false,
            Some(Words::Lines(lines)) if line.starts_with(' ') => lines.push(line.trim().to_owned()),
            _ if line.starts_with(' ') => {
                words.push(Words::Lines(vec![line.trim().to_owned()]));
                is_open = false;
            }
            Some(Words::Paragraph(text)) if is_open => {
                text.push(' ');
                text.push_str(line);
            }
            _ => {
                words.push(Words::Paragraph(line.clone()));
                is_open = true;
            }
        }
    }
    for piece in &mut words {
        if let Words::Paragraph(text) = piece {
            *text = text.replace(&format!(" {EXAMPLE}"), "").replace(EXAMPLE, "");
        }
    }
    words.retain(|piece| !matches!(piece, Words::Paragraph(text) if text.is_empty()));
    words
}

/// In a comment: what its keys are set to is an example and no default.
const EXAMPLE: &str = "(example)";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names under which the example shows the keys of a section.
    fn shown(example: &Example, name: &str) -> BTreeSet<String> {
        let section = example.sections.iter().find(|section| section.name == name);
        let items = section.unwrap_or_else(|| panic!("the example has no [{name}]")).items.iter();
        let keys = items.filter_map(|item| match item {
            Item::Keys(keys, _) => Some(keys),
            Item::Heading(_) => None,
        });
        keys.flatten().map(|key| key.prefix.clone().unwrap_or_else(|| key.name.to_lowercase())).collect()
    }

    /// In both directions: a key that is read and not explained, and one that is explained and not read.
    #[test]
    fn every_key_that_the_code_asks_for_is_explained_and_no_other() {
        let example = Example::read();
        let known = keys::known();
        let common = shown(&example, COMMON);
        let mut explained = BTreeSet::new();
        for (name, known) in &known {
            let mut shown = shown(&example, name);
            explained.insert(name.clone());
            if name.ends_with("Dispatcher") {
                let twice: Vec<_> = common.intersection(&shown).filter(|key| *key != "class.").collect();
                assert!(twice.is_empty(), "[{name}] explains again what every way out has: {twice:?}");
                shown.extend(common.clone());
            } else if name == "grafana" {
                // It says itself that it is "the same".
                shown.extend(self::shown(&example, "alertmanager"));
            }
            let asked: BTreeSet<String> = known.exact.union(&known.prefixes).cloned().collect();
            let missing: Vec<_> = asked.difference(&shown).collect();
            let unknown: Vec<_> = shown.difference(&asked).collect();
            assert!(missing.is_empty(), "dist/smsd.conf does not explain {missing:?} of [{name}]");
            assert!(
                unknown.is_empty(),
                "dist/smsd.conf explains {unknown:?} of [{name}], which nobody reads"
            );
        }
        let sections: BTreeSet<String> =
            example.sections.iter().map(|s| s.name.clone()).filter(|name| name != COMMON).collect();
        assert_eq!(sections, explained);
    }

    #[test]
    fn comments_are_read_as_people_read_them() {
        let example = Example::read();
        assert!(
            example.intro.iter().any(|w| matches!(w, Words::Paragraph(p) if p.contains("a line of its own")))
        );
        let section = |name: &str| example.sections.iter().find(|s| s.name == name).unwrap();
        let find = |name: &str, key: &str| {
            section(name)
                .items
                .iter()
                .find_map(|item| match item {
                    Item::Keys(keys, words) => Some((keys.iter().find(|k| k.name == key)?, words)),
                    Item::Heading(_) => None,
                })
                .unwrap()
        };
        let (delay, words) = find("main", "delay");
        assert!(delay.is_default && delay.value == "30" && !words.is_empty());
        let (url, _) = find("HttpGetDispatcher", "url");
        assert!(url.is_secret && !url.is_default);
        let (reject, words) = find("HttpDispatcher", "reject");
        assert!(
            !reject.is_default && words.iter().any(|w| matches!(w, Words::Lines(lines) if lines.len() > 2))
        );
        assert_eq!(find("HttpDispatcher", "var.tenant").0.prefix.as_deref(), Some("var."));
        assert!(
            section("dispatcher")
                .intro
                .iter()
                .any(|w| matches!(w, Words::Paragraph(p) if p.starts_with("The ways out")))
        );
        assert!(section("main").items.iter().any(|i| matches!(i, Item::Heading(h) if h == "when it fails")));
        let all = format!("{example:?}");
        assert!(!all.contains(EXAMPLE), "what marks an example is not for people");
    }
}
