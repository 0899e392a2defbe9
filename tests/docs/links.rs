//! Links, anchors, files, pages.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::pages::{all, anchors, page, root};

/// Within the project only: what is elsewhere may be out of reach of a test.
#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut followed = 0;
    for from in all() {
        for link in &from.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { from.path.clone().into() } else { beside(&from.path, path) };
            let is_page = target.extension().is_some_and(|extension| extension == "md");
            if !root().join(&target).exists() {
                wrong.push(format!("{}: there is no {link}", from.path));
            } else if !anchor.is_empty() && is_page {
                let known = anchors(&page(target.to_str().unwrap()));
                if !known.iter().any(|known| known == anchor) {
                    wrong.push(format!("{}: there is no heading for {link}", from.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(followed > 100, "{followed} links");
}

#[test]
fn every_page_is_in_the_book() {
    let summary = page("docs/SUMMARY.md");
    let named: BTreeSet<PathBuf> = summary.links.iter().map(|link| beside("docs/SUMMARY.md", link)).collect();
    assert_eq!(named.len(), summary.links.len(), "a page is named twice");
    for page in all() {
        let is_of_the_book = page.path != "docs/SUMMARY.md";
        assert!(
            !is_of_the_book || named.contains(Path::new(&page.path)),
            "{} is not in docs/SUMMARY.md: nobody who reads the book will find it",
            page.path
        );
    }
}

/// Paths and targets of make that are named in running text.
#[test]
fn what_is_named_is_there() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in all() {
        for span in page.spans.iter().chain(page.blocks.iter().map(|block| &block.text)) {
            for line in span.lines() {
                let mut words = line.trim().trim_start_matches("$ ").split_whitespace();
                if let (Some("make"), Some(target)) = (words.next(), words.next())
                    && target.starts_with(|c: char| c.is_ascii_lowercase())
                {
                    found += 1;
                    if !makefile.contains(&format!("\n{target}:")) {
                        wrong.push(format!("{}: the Makefile has no `{target}`", page.path));
                    }
                }
            }
        }
        for span in &page.spans {
            let folders = ["src/", "tests/", "docs/", "dist/", "scripts/", "benches/", "examples/"];
            let path = span.split("::").next().unwrap_or_default().trim_end_matches('/');
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
            if folders.iter().any(|folder| path.starts_with(folder)) && path.chars().all(plain) {
                found += 1;
                if !root().join(path).exists() && !root().join("src").join(path).exists() {
                    wrong.push(format!("{}: there is no `{path}`", page.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 40, "{found} names");
}

/// The path of a link that stands in `from`.
fn beside(from: &str, link: &str) -> PathBuf {
    let joined = Path::new(from).parent().unwrap_or(Path::new("")).join(link);
    let mut path = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{from}: {link} leads out of the project"),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}
