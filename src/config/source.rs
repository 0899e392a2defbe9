//! A file of the configuration: its text, and the way from a place in it to a fault.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::fault::{Collector, Excerpt, Fault, Severity};
use super::ini;
use crate::telemetry::clip;

/// A file's text, which places are counted in.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// With `\n` as the only line end.
    pub(super) text: String,
    /// Its permissions, as `chmod` has them.
    pub(super) mode: u32,
}

impl Source {
    /// Reads a file. What is not UTF-8 in it is replaced, and a fault.
    pub(super) fn open(path: &Path, faults: &mut Collector) -> Option<Source> {
        match read(path) {
            Ok((bytes, mode)) => {
                let (text, error) = ini::decode(&bytes);
                let source = Source { path: path.to_owned(), text, mode };
                if let Some(e) = error {
                    faults.push(Severity::Fault, |s| {
                        source
                            .fault(s, e.span.clone(), e.span.start, "found bytes that are not UTF-8")
                            .hint("save the file as UTF-8".to_owned())
                    });
                }
                Some(source)
            }
            Err(why) => {
                faults.push(Severity::Fault, |s| {
                    let denied = why.kind() == io::ErrorKind::PermissionDenied;
                    let hint = denied.then(|| "run this as root, or as a user who may read it".to_owned());
                    Fault::new(s, format!("can not read the file: {why}")).file(path).hint(hint)
                });
                None
            }
        }
    }

    /// Says so if others can read the secret at `span`.
    pub(super) fn check_mode(&self, span: Range<usize>, faults: &mut Collector) {
        if self.mode & 0o004 != 0 {
            faults.push(Severity::Flaw, |s| {
                let message =
                    format!("everybody on this machine can read this secret (mode {:04o})", self.mode);
                self.fault(s, span.clone(), span.end, message)
                    .hint(format!("chmod o-r {}", self.path.display()))
            });
        }
    }

    /// A fault about `span`. Of its line, what stands before `shown` may be shown.
    pub(super) fn fault(
        &self,
        severity: Severity,
        span: Range<usize>,
        shown: usize,
        message: impl Into<String>,
    ) -> Fault {
        let text = self.text.as_str();
        let before = text.get(..span.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let end = text.get(start..).and_then(|t| t.find('\n')).map_or(text.len(), |i| start + i);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.get(start..).unwrap_or_default().chars().count();

        let part = |range: Range<usize>| {
            let raw = text.get(range).unwrap_or_default();
            raw.chars().map(|c| if c == '\t' || is_odd(c) { ' ' } else { c }).collect::<String>()
        };
        let mut shown = shown.clamp(start, end).min(start + EXCERPT_MAX);
        while !text.is_char_boundary(shown) {
            shown -= 1;
        }
        let (from, to) = (span.start.clamp(start, end), span.end.clamp(span.start.clamp(start, end), end));
        let mut excerpt = part(start..shown);
        if text.get(shown..end).is_some_and(|rest| !rest.trim().is_empty()) {
            excerpt.push('…');
        }
        let mark_start = part(start..from.min(shown)).len();
        let mark_end = if to > shown { excerpt.len() } else { part(start..to).len() };
        let mut fault = Fault::new(severity, message).file(&self.path);
        fault.line = Some(line);
        fault.column = Some(column);
        fault.excerpt = Some(Excerpt { line: excerpt, mark: mark_start..mark_end.max(mark_start) });
        fault
    }

    /// The number of the line that `at` stands in, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.text.get(..at).unwrap_or_default().matches('\n').count()
    }
}

/// The permissions of a file that everybody on this machine can read.
pub(super) fn readable_by_others(path: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mode = metadata.mode() & 0o7777;
    (mode & 0o004 != 0).then_some(mode)
}

/// The bytes of a file and its permissions.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other("it holds more than 1 MiB"));
    }
    Ok((bytes, mode))
}

/// What may not reach a terminal: control characters and those that reorder a line.
fn is_odd(c: char) -> bool {
    let mut s = c.to_string();
    clip(&mut s, 16);
    s.len() != c.len_utf8()
}

/// Bytes of a file at most; a configuration has a few thousand.
const FILE_MAX: u64 = 1 << 20;
/// Bytes of a line that are shown at most.
const EXCERPT_MAX: usize = 240;
