//! What is wrong with the configuration, said so that a person can mend it.
//!
//! A fault names its file, line and column, what was found and what was expected. It is also the place where
//! a secret could slip out, since people put passwords where no program expects them: so of a line of the
//! file, a fault holds only what it was told to show, and the rest became `…` when it was made.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::telemetry::clip;

/// One thing that is wrong. `Serialize` gives the form of `smsd check --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// The file, if it is about one.
    pub file: Option<String>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: what was found, what was expected. No secrets.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Stops the start.
    Fault,
    /// A warning at the start; `smsd check` calls it a fault ([`Faults::strict`]): unknown names, secrets that
    /// others can read.
    #[serde(rename = "warning")]
    Flaw,
    /// Worth knowing, and nothing that has to be mended.
    Warning,
}

/// What may be shown of the line, and the part of it that the fault is about, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    pub(super) line: String,
    pub(super) mark: Range<usize>,
}

impl Fault {
    /// A fault that stands in no line.
    pub fn new(severity: Severity, message: impl Into<String>) -> Fault {
        let mut message = message.into();
        clip(&mut message, MESSAGE_MAX);
        Fault { file: None, line: None, column: None, severity, message, hint: None, excerpt: None }
    }

    /// The same about a whole file.
    pub fn file(mut self, path: &Path) -> Fault {
        let mut file = path.to_string_lossy().into_owned();
        clip(&mut file, MESSAGE_MAX);
        self.file = Some(file);
        self
    }

    /// The same with what to do about it.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Fault {
        self.hint = hint.into();
        if let Some(hint) = &mut self.hint {
            clip(hint, MESSAGE_MAX);
        }
        self
    }

    /// For people: title, place, the line with a mark under what it is about, hint.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Fault => Level::ERROR.with_name("fault"),
            Severity::Flaw | Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&*self.message));
        if let Some(file) = &self.file {
            group = match (&self.excerpt, self.line) {
                (Some(e), Some(line)) => group.element(
                    Snippet::source(&*e.line)
                        .line_start(line)
                        .path(&**file)
                        .annotation(AnnotationKind::Primary.span(e.mark.clone())),
                ),
                _ => group.element(Origin::path(&**file)),
            };
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(&**hint));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// One line, for logs: `smsd.conf:12:8: delay: found "x", expected …; hint`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            f.write_str(file)?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// All that is wrong, in the order of the files. `Display` is one line each, for logs.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// As `smsd check` judges: every flaw is a fault.
    pub fn strict(mut self) -> Faults {
        for fault in &mut self.0 {
            if fault.severity == Severity::Flaw {
                fault.severity = Severity::Fault;
            }
        }
        self
    }

    /// True if something here stops the start.
    pub fn is_fatal(&self) -> bool {
        self.0.iter().any(|f| f.severity == Severity::Fault)
    }

    /// For people, an empty line between each.
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|f| f.render(colour)).collect::<Vec<_>>().join("\n\n")
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// Collects faults: all that stop the start up to a bound, and flaws and warnings up to another.
#[derive(Debug, Default)]
pub(super) struct Collector {
    found: Vec<Fault>,
    fatal: usize,
    others: usize,
}

impl Collector {
    /// Takes a fault, which is made only if it is told: finding its line costs a walk through the file.
    pub(super) fn push(&mut self, severity: Severity, make: impl FnOnce(Severity) -> Fault) {
        let count = if severity == Severity::Fault { &mut self.fatal } else { &mut self.others };
        *count += 1;
        if *count <= FAULTS_MAX {
            self.found.push(make(severity));
        }
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.fatal > 0
    }

    /// How many stop the start.
    pub(super) fn fatal(&self) -> usize {
        self.fatal
    }

    /// In the order of the lines within each file, the files in the order in which they first came up.
    pub(super) fn finish(mut self) -> Vec<Fault> {
        let mut files: Vec<Option<String>> = Vec::new();
        for fault in &self.found {
            if !files.contains(&fault.file) {
                files.push(fault.file.clone());
            }
        }
        self.found.sort_by_key(|f| (files.iter().position(|x| *x == f.file), f.line, f.column));
        // What [DEFAULT] says is judged by every section that inherits it.
        self.found.dedup_by(|b, a| {
            a.line.is_some()
                && (&a.file, a.line, a.column, &a.message) == (&b.file, b.line, b.column, &b.message)
        });
        for (count, severity) in [(self.fatal, Severity::Fault), (self.others, Severity::Flaw)] {
            if count > FAULTS_MAX {
                self.found.push(Fault::new(severity, format!("and {} more", count - FAULTS_MAX)));
            }
        }
        self.found
    }
}

/// Bytes of a message or hint at most; values from the file are cut before, at 60 characters.
const MESSAGE_MAX: usize = 512;
/// Faults of one kind that are told in full.
const FAULTS_MAX: usize = 100;
