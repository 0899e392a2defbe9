//! The pages, read as readers of Markdown read them.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A page.
pub(crate) struct Page {
    /// From the root of the repository.
    pub(crate) path: String,
    /// Code blocks in their order.
    pub(crate) blocks: Vec<Block>,
    /// Code within text.
    pub(crate) spans: Vec<String>,
    /// Where links and pictures lead.
    pub(crate) links: Vec<String>,
    /// Headings as text.
    pub(crate) headings: Vec<String>,
}

/// A code block.
pub(crate) struct Block {
    /// What stands behind the fence; empty for indented blocks.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The folder of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages that people read: those at the root, in `docs` and in `dist`.
pub(crate) fn all() -> Vec<Page> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        paths.push(entry.unwrap().path());
    }
    for folder in ["docs", "dist"] {
        walk(&root().join(folder), &mut paths);
    }
    let mut paths: Vec<String> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned())
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "{paths:?}");
    paths.iter().map(|path| page(path)).collect()
}

/// One page.
pub(crate) fn page(path: &str) -> Page {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let mut page = Page {
        path: path.to_owned(),
        blocks: Vec::new(),
        spans: Vec::new(),
        links: Vec::new(),
        headings: Vec::new(),
    };
    let (mut block, mut heading): (Option<Block>, Option<String>) = (None, None);
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                block = Some(Block { language, text: String::new() });
            }
            Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => page.headings.extend(heading.take()),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push(dest_url.to_string());
            }
            Event::Text(text) => match (&mut block, &mut heading) {
                (Some(block), _) => block.text.push_str(&text),
                (None, Some(heading)) => heading.push_str(&text),
                (None, None) => {}
            },
            Event::Code(code) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&code);
                }
                page.spans.push(code.to_string());
            }
            _ => {}
        }
    }
    page
}

/// The fragments by which the headings of a page are linked to, as GitHub and mdBook make them.
pub(crate) fn anchors(page: &Page) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for heading in &page.headings {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let plain: String = heading.to_lowercase().chars().filter(kept).collect();
        let anchor = plain.trim().replace(' ', "-");
        let times = anchors.iter().filter(|known| **known == anchor).count();
        let again = format!("{anchor}-{times}");
        anchors.push(if times == 0 { anchor } else { again });
    }
    anchors
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, paths) } else { paths.push(path) }
    }
}
