//! smsd.conf(5), and the same as Markdown: the commented example, with what the code knows of each key.

use std::fmt::Write as _;

use roff::{Inline, Roff, bold, roman};

use crate::config::example::{COMMON, Example, Item, Key, Section, Words};

/// The manual page.
pub(super) fn page(example: &Example) -> String {
    let mut roff = Roff::new();
    let version = format!("smsd {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["smsd.conf", "5", "", &version, "File Formats"]);
    roff.control("SH", ["NAME"]).text([roman("smsd.conf - configuration of smsd")]);
    roff.control("SH", ["DESCRIPTION"]);
    for words in &example.intro {
        roff.control("PP", []);
        say(&mut roff, words);
    }
    for section in &example.sections {
        roff.control("SH", [title(section).as_str()]);
        for words in &section.intro {
            roff.control("PP", []);
            say(&mut roff, words);
        }
        for item in &section.items {
            match item {
                Item::Heading(heading) => {
                    roff.control("SS", [capital(heading).as_str()]);
                }
                Item::Keys(keys, words) => {
                    for (n, key) in keys.iter().enumerate() {
                        roff.control(if n == 0 { "TP" } else { "TQ" }, []);
                        let mut said = vec![bold(line(key)), roman(format!(" ({})", word(key)))];
                        for (n, other) in key.other_places().into_iter().enumerate() {
                            said.extend([roman(if n == 0 { "; or " } else { ", " }), bold(other)]);
                        }
                        roff.text(said);
                    }
                    for (n, words) in words.iter().enumerate() {
                        if n > 0 {
                            roff.control("IP", []);
                        }
                        say(&mut roff, words);
                    }
                }
            }
        }
    }
    roff.control("SH", ["EXAMPLES"])
        .text([roman("A gateway by HTTP, a phone when it is down, and the HTTP interface:")]);
    roff.control("PP", []).control("EX", []);
    for line in SHORTEST.lines() {
        roff.text([roman(format!("    {line}"))]);
    }
    roff.control("EE", []);
    roff.control("SH", ["SEE ALSO"]).text([
        bold("smsd"),
        roman("(1), "),
        bold("smsd-check"),
        roman("(1), "),
        bold("smsd-dispatcher-presets"),
        roman("(1)"),
    ]);
    roff.render()
}

/// The reference in `docs/reference/configuration.md`.
pub(super) fn markdown(example: &Example) -> String {
    let mut text =
        format!("{GENERATED}# Configuration\n\nEvery key of smsd.conf, as `man smsd.conf` has them.\n");
    for words in &example.intro {
        markdown_of(&mut text, words);
    }
    text.push_str(
        "\nA minimal file, for an HTTP gateway and a phone that takes over when it is down:\n\n```ini\n",
    );
    text.push_str(SHORTEST);
    text.push_str("```\n");
    for section in &example.sections {
        let _ = writeln!(text, "\n## {}", title(section));
        for words in &section.intro {
            markdown_of(&mut text, words);
        }
        for item in &section.items {
            match item {
                Item::Heading(heading) => {
                    let _ = writeln!(text, "\n### {}", capital(heading));
                }
                Item::Keys(keys, words) => {
                    let names: Vec<String> = keys.iter().map(|key| format!("`{}`", name(key))).collect();
                    let _ = writeln!(text, "\n#### {}\n", names.join(", "));
                    for key in keys {
                        let _ = write!(text, "* `{}` ({})", line(key), word(key));
                        let others: Vec<String> =
                            key.other_places().iter().map(|key| format!("`{key}`")).collect();
                        let _ = match others.is_empty() {
                            true => writeln!(text),
                            false => writeln!(text, "; a secret: or {}", others.join(", ")),
                        };
                    }
                    for words in words {
                        markdown_of(&mut text, words);
                    }
                }
            }
        }
    }
    text
}

fn title(section: &Section) -> String {
    if section.name == COMMON { "Keys of every way out".to_owned() } else { format!("[{}]", section.name) }
}

/// The key as its heading has it.
fn name(key: &Key) -> String {
    match &key.prefix {
        Some(prefix) if !prefix.is_empty() => format!("{prefix}…"),
        _ => key.name.clone(),
    }
}

fn line(key: &Key) -> String {
    format!("{}: {}", key.name, key.value)
}

/// Whether that holds without being said.
fn word(key: &Key) -> &'static str {
    if key.is_default { "default" } else { "example" }
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn say(roff: &mut Roff, words: &Words) {
    match words {
        Words::Paragraph(text) => {
            // What stands between backticks is typed.
            let piece = |(n, part): (usize, &str)| if n % 2 == 1 { bold(part) } else { roman(part) };
            let pieces: Vec<Inline> = text.split('`').enumerate().map(piece).collect();
            roff.text(pieces);
        }
        Words::Lines(lines) => {
            roff.control("RS", ["4"]).control("nf", []);
            for line in lines {
                roff.text([roman(line.as_str())]);
            }
            roff.control("fi", []).control("RE", []);
        }
    }
}

fn markdown_of(text: &mut String, words: &Words) {
    match words {
        Words::Paragraph(paragraph) => {
            text.push('\n');
            for (n, part) in paragraph.split('`').enumerate() {
                if n % 2 == 1 {
                    let _ = write!(text, "`{part}`");
                } else {
                    text.push_str(&linked(&escaped(part)));
                }
            }
            text.push('\n');
        }
        Words::Lines(lines) => {
            text.push_str("\n```text\n");
            for line in lines {
                let _ = writeln!(text, "{line}");
            }
            text.push_str("```\n");
        }
    }
}

/// Plain words, of which Markdown makes nothing else.
pub(super) fn escaped(words: &str) -> String {
    let mut text = String::new();
    for c in words.chars() {
        if matches!(c, '\\' | '*' | '_' | '<' | '>' | '~' | '|' | '`' | '[' | ']') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// With a link for each page of `docs` that is named.
fn linked(words: &str) -> String {
    let mut text = String::new();
    let mut rest = words;
    while let Some((before, after)) = rest.split_once("docs/") {
        let end = after.find(".md").map(|at| at + 3);
        let page = end.and_then(|end| after.get(..end)).filter(|page| !page.contains(' '));
        text.push_str(before);
        match page {
            Some(page) => {
                let _ = write!(text, "[docs/{page}](../{page})");
                rest = after.get(page.len()..).unwrap_or_default();
            }
            None => {
                text.push_str("docs/");
                rest = after;
            }
        }
    }
    text + rest
}

/// What stands above a file that nobody writes.
pub(super) const GENERATED: &str =
    "<!-- Made from the code and from dist/smsd.conf by `make docs`: do not change this file. -->\n\n";

const SHORTEST: &str = "\
[dispatcher]
dispatcher1: gateway
dispatcher2: GammuDispatcher

[gateway]
type: HttpGetDispatcher
url: https://sms.example.org/send?user=noc&key=secret&to=%(phone)s&text=%(sms)s

[http]
listen: 127.0.0.1:8465
";
