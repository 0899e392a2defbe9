//! The words of a mail: its subject by the gravest that it tells, its body in the order in which things happened.

use std::fmt::Write;

use super::super::clip;
use super::{Batch, Heap, Kind, SHOWN};
use crate::alert::AlertId;
use crate::queue::Mention;

/// Bytes of a subject.
const SUBJECT: usize = 180;
/// Bytes of the text of an alert.
const TEXT: usize = 512;

/// Who writes.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The machine.
    pub host: String,
    /// Our process.
    pub pid: u32,
}

/// A mail to the admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// What it is about, in one line.
    pub subject: String,
    /// All of it. Lines end in LF.
    pub body: String,
}

impl Letter {
    /// What has come together, in words. `mentions`: what the queue says of [`Batch::named`], or why it does not.
    pub fn of(batch: &Batch, mentions: &Result<Vec<Mention>, String>, sender: &Sender) -> Letter {
        Letter { subject: subject(batch, &sender.host), body: body(batch, mentions, sender) }
    }
}

fn subject(batch: &Batch, host: &str) -> String {
    // The first of the gravest kinds.
    let named = batch.0.iter().max_by_key(|(kind, _)| (kind.gravity(), std::cmp::Reverse(**kind)));
    let headline = named.map(|(kind, heap)| headline(*kind, heap)).unwrap_or_default();
    let told = |(kind, heap): (&Kind, &Heap)| if kind.ignored().is_some() { 1 } else { heap.times };
    let more = match batch.0.iter().map(told).sum::<u64>().saturating_sub(1) {
        0 => String::new(),
        n => format!(" (+{n} more)"),
    };
    let mut subject = format!("smsd {host}: {headline}");
    clip(&mut subject, SUBJECT.saturating_sub(more.len()));
    subject + &more
}

fn headline(kind: Kind, heap: &Heap) -> String {
    match (kind.ignored(), heap.last.back()) {
        (Some(_), Some((_, note))) if heap.times == 1 => note.headline.clone(),
        (Some(reason), _) => format!("{} alerts ignored: {reason}", heap.alerts),
        (None, last) => last.map(|(_, note)| note.headline.clone()).unwrap_or_default(),
    }
}

fn body(batch: &Batch, mentions: &Result<Vec<Mention>, String>, sender: &Sender) -> String {
    let mut body = String::new();
    let mut notes: Vec<_> = batch.0.values().flat_map(|heap| &heap.last).collect();
    notes.sort_by_key(|(at, _)| *at);
    for (at, note) in notes {
        // Writing to a string can not fail.
        let _ = writeln!(body, "[{at:.0}] [{}] {}", note.kind.gravity().as_str(), note.headline);
        if !note.more.is_empty() {
            let _ = writeln!(body, "    {}", note.more);
        }
    }
    for (kind, heap) in &batch.0 {
        let dropped = heap.times.saturating_sub(SHOWN as u64);
        if dropped > 0 {
            let _ = match kind.ignored() {
                Some(reason) => writeln!(
                    body,
                    "\n{} alerts were ignored ({reason}); only the last {SHOWN} times are told above.",
                    heap.alerts
                ),
                None => writeln!(
                    body,
                    "\nThe like of \"{}\" happened {} times; only the last {SHOWN} are told above.",
                    headline(*kind, heap),
                    heap.times
                ),
            };
        }
    }
    texts(&mut body, batch, mentions);
    let _ = writeln!(
        body,
        "\n--\nsmsd {} on {}, process {}. What comes within a minute goes into one mail. More: smsd status",
        crate::VERSION,
        sender.host,
        sender.pid
    );
    body.truncate(body.trim_end().len());
    body
}

/// What the alerts said, and whose they were, as NAV lists them: first those that wait, then those that were ignored.
fn texts(body: &mut String, batch: &Batch, mentions: &Result<Vec<Mention>, String>) {
    for ignored in [false, true] {
        let heaps = batch.0.iter().filter(|(kind, _)| kind.ignored().is_some() == ignored);
        let all: u64 = heaps.map(|(_, heap)| heap.alerts).sum();
        if all == 0 {
            continue;
        }
        let ids = batch.alerts_of(ignored);
        match mentions {
            Ok(mentions) => {
                let named: Vec<&Mention> = mentions.iter().filter(|m| ids.contains(&m.id)).collect();
                let word = if ignored { "Ignored" } else { "Not known to be sent" };
                let _ = writeln!(body, "\n{word} ({} of {all}):", named.len());
                for mention in &named {
                    let _ = writeln!(body, "{}", line(mention));
                }
                let is_gone = |id: &&AlertId| !named.iter().any(|m| m.id == **id);
                let asked = batch.named();
                let gone: Vec<String> = ids
                    .iter()
                    .filter(|id| asked.contains(id))
                    .filter(is_gone)
                    .map(AlertId::to_string)
                    .collect();
                if !gone.is_empty() {
                    let _ = writeln!(body, "No longer in the queue: {}", gone.join(" "));
                }
            }
            Err(why) => {
                let _ = writeln!(body, "\nWhat they said is not known: {why}");
            }
        }
        let state = if ignored { "ignored" } else { "waiting" };
        let _ = writeln!(body, "All of them: smsd queue list --state {state}");
    }
}

fn line(mention: &Mention) -> String {
    let shown = |s: &str, most| {
        let mut s = s.to_owned();
        clip(&mut s, most);
        s
    };
    let whom = match &mention.account {
        Some(account) => {
            format!(
                "{} ({}), {}",
                shown(&account.name, 100),
                shown(&account.login, 100),
                shown(&mention.to, 64)
            )
        }
        None => shown(&mention.to, 64),
    };
    format!("{}: \"{}\" --> {whom}", mention.id, shown(&mention.text, TEXT))
}
