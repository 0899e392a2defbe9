//! Which keys there are: written down while their readers ask for them, so that no list of them is kept by hand.
//!
//! The readers are shown a file that says next to nothing for each type of dispatcher and queue, and ask for all that
//! they know. What [`super::example`] says of the keys is held against that by its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::fault::Collector;
use super::section::{Reader, SECRET_FORMS};
use super::source::Source;
use super::{Env, dispatchers, smsd_conf};

/// The keys that one section knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Asked for by their whole name.
    pub(crate) exact: BTreeSet<String>,
    /// Of these, those that are secret: `KEY_file` and its like are known, too.
    pub(crate) secret: BTreeSet<String>,
    /// How keys begin whose end is a name of the operator's own, such as `class.`; empty: any key.
    pub(crate) prefixes: BTreeSet<String>,
    /// Of these, those that are secret.
    pub(crate) secret_prefixes: BTreeSet<String>,
}

impl Known {
    /// The prefix that a key begins with, if it is not known by its whole name.
    pub(crate) fn prefix_of(&self, key: &str) -> Option<&str> {
        if self.exact.contains(key) {
            return None;
        }
        self.prefixes.iter().rev().find(|prefix| key.starts_with(prefix.as_str())).map(String::as_str)
    }

    /// Is what this key holds a secret?
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        let prefix = self.prefix_of(key);
        self.secret.contains(key) || prefix.is_some_and(|prefix| self.secret_prefixes.contains(prefix))
    }

    fn add(&mut self, more: Known) {
        self.exact.extend(more.exact);
        self.secret.extend(more.secret);
        self.prefixes.extend(more.prefixes);
        self.secret_prefixes.extend(more.secret_prefixes);
    }
}

/// All sections with their keys. A dispatcher's section has the name of its type, that of a webhook the name
/// [`WEBHOOK`].
pub(crate) fn known() -> BTreeMap<String, Known> {
    let mut all: BTreeMap<String, Known> = BTreeMap::new();
    let webhook = format!("[{WEBHOOK}]\n");
    let texts = dispatchers::built_types()
        .map(|word| format!("[dispatcher]\ndispatcher1: {word}\n"))
        .chain(smsd_conf::queue_types().map(|word| format!("[queue]\ntype: {word}\n")))
        .chain([webhook]);
    for text in texts {
        for (section, known) in asked_in(&text) {
            all.entry(section).or_default().add(known);
        }
    }
    all
}

/// What is asked for while `text` is read.
fn asked_in(text: &str) -> BTreeMap<String, Known> {
    let source = Source { path: "smsd.conf".into(), text: text.to_owned(), mode: 0o600 };
    let mut keys = Keys::default();
    smsd_conf::read_and_note(
        &source,
        &Env::empty(Path::new("/")),
        false,
        &mut Collector::default(),
        &mut keys,
    );
    keys.0
}

/// What readers ask for, by section.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<String, Known>);

impl Keys {
    /// Takes down what a reader was asked.
    pub(super) fn note(&mut self, reader: &Reader<'_>) {
        for (key, sections) in &reader.known {
            for section in sections {
                self.0.entry(section.clone()).or_default().exact.insert(key.clone());
            }
        }
        // A secret was asked for in each of its forms.
        for known in self.0.values_mut() {
            let forms = |key: &String| SECRET_FORMS.map(|form| format!("{key}{form}"));
            let keys = &known.exact;
            let secret = keys.iter().filter(|key| forms(key).iter().all(|form| keys.contains(form)));
            known.secret.extend(secret.cloned().collect::<Vec<_>>());
            for form in known.secret.iter().flat_map(forms) {
                known.exact.remove(&form);
            }
            known.exact.extend(known.secret.iter().cloned());
        }
        for (section, prefix, secret) in &reader.prefixes {
            let known = self.0.entry(section.clone()).or_default();
            known.prefixes.insert(prefix.clone());
            if *secret {
                known.secret_prefixes.insert(prefix.clone());
            }
        }
    }
}

/// How the section of a webhook is called where it has no name yet.
pub(crate) const WEBHOOK: &str = "webhook.NAME";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_say_what_they_ask_for() {
        let known = known();
        let http = &known["HttpDispatcher"];
        assert!(http.exact.contains("body_file") && http.exact.contains("max_segments"), "{http:?}");
        assert!(http.is_secret("token") && http.is_secret("var.tenant") && !http.is_secret("header.x"));
        assert!(!http.exact.contains("token_file"), "a form of a key is no key");
        assert_eq!(http.prefix_of("class.500"), Some("class."));
        assert_eq!(known["ExecDispatcher"].prefix_of("env.KEY"), Some("env."));
        assert!(known["ExecDispatcher"].is_secret("env.KEY"));
        // What only one type of queue knows.
        for key in ["url", "path", "module", "python_path"] {
            assert!(known["queue"].exact.contains(key), "{key}");
        }
        assert!(known[WEBHOOK].exact.contains("when"));
        assert_eq!(known["groups"].prefix_of("noc"), Some(""));
    }
}
