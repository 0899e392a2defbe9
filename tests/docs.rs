//! The documentation, held against the program: what it shows to type is understood, what it shows to configure is read
//! without a complaint, and every link, file and page is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/configurations.rs"]
mod configurations;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/pages.rs"]
mod pages;

use std::process::Command;

use pages::{page, root};

fn smsd(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_smsd")).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_reference_is_as_the_program_makes_it() {
    for (path, args) in [
        ("docs/reference/configuration.md", &["man", "--markdown", "smsd.conf"][..]),
        ("docs/reference/command-line.md", &["man", "--markdown"]),
    ] {
        let (here, made) = (std::fs::read_to_string(root().join(path)).unwrap_or_default(), smsd(args));
        let differ = here.lines().zip(made.lines()).position(|(here, made)| here != made);
        let line = differ.unwrap_or_else(|| here.lines().count().min(made.lines().count())) + 1;
        assert!(here == made, "{path} differs from the program in line {line}; `make docs` renews it");
    }
}

/// What groff would complain about, nobody can read well.
#[test]
fn the_manual_pages_are_sound() {
    let dir = tempfile::TempDir::new().unwrap();
    smsd(&["man", "--dir", dir.path().to_str().unwrap()]);
    let mut pages = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let groff = ["-man", "-Kutf8", "-Tutf8", "-ww", "-z"];
        let output = Command::new("groff").args(groff).arg(&path).output();
        let output = output.expect("scripts/install-test-deps installs groff");
        assert!(output.status.success() && output.stderr.is_empty(), "{path:?}: {output:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("SEE ALSO") && text.contains("SH NAME"), "{path:?}");
        pages += 1;
    }
    assert!(pages > 25, "{pages} pages");
}

#[test]
fn the_reference_has_every_page_and_key_that_people_look_for() {
    let configuration = page("docs/reference/configuration.md");
    for heading in ["[main]", "[webhook.NAME]", "Keys of every way out", "`retrylimit`"] {
        assert!(configuration.headings.iter().any(|h| h.contains(heading.trim_matches('`'))), "{heading}");
    }
    let commands = page("docs/reference/command-line.md");
    assert!(commands.headings.iter().any(|heading| heading == "smsd queue release"));
}
