//! Log lines as systemd's journal keeps them: each with its fields, in the journal's native protocol.
//!
//! A line becomes one datagram, which the thread of [`super::log`] hands to the journal: nobody waits for it but that
//! thread. `MESSAGE` is the line as people read it; each field of it stands beside it as `SMSD_…`, so that
//! `journalctl SMSD_TO=+4790000001` finds all that befell a number.
//!
//! Deliberately absent: messages of more than a datagram, which would go over a file in memory; a line is cut before.

use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;

/// Where the journal takes lines.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of a line, its fields not counted.
const MESSAGE: usize = 32 * 1024;

/// Is this open file the journal, as the system told us when it started us? `stream`: `JOURNAL_STREAM`, which is
/// `device:inode` of what our standard error was then (systemd.exec(5)).
pub fn is_journal(stream: Option<&str>, device: u64, inode: u64) -> bool {
    let told = stream.and_then(|s| s.split_once(':'));
    told.and_then(|(d, i)| Some((d.parse().ok()?, i.parse().ok()?))) == Some((device, inode))
}

/// The journal's end: writes a datagram for each line.
#[derive(Debug)]
pub struct Journal {
    ours: UnixDatagram,
    /// Looked up for each line, so that a journal that was started anew is found.
    theirs: PathBuf,
}

impl Journal {
    /// At this socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn at(socket: &Path) -> std::io::Result<Journal> {
        let ours = UnixDatagram::unbound()?;
        ours.connect(socket)?;
        Ok(Journal { ours: UnixDatagram::unbound()?, theirs: socket.to_owned() })
    }
}

impl Write for Journal {
    /// All of a line or nothing.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.ours.send_to(line, &self.theirs)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes each line in the native protocol to a writer that takes a line in one piece.
pub struct Fields<W>(pub W);

impl<S: Subscriber, W: for<'a> MakeWriter<'a> + 'static> Layer<S> for Fields<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What can not be written is counted where it is written.
        let _ = self.0.make_writer().write_all(&datagram(event));
    }
}

fn datagram(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    let mut line = Line::default();
    event.record(&mut line);
    let mut message = line.message;
    message.push_str(&line.shown);
    // Its line ends are ours, and everything else is escaped where it comes from.
    if message.len() > MESSAGE {
        message.truncate((0..=MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0));
    }
    let mut out = Vec::with_capacity(message.len() + 256);
    put(&mut out, "PRIORITY", priority(*metadata.level()));
    put(&mut out, "SYSLOG_IDENTIFIER", "smsd");
    put(&mut out, "MESSAGE", &message);
    // Lines that are no event have a name that the compiler made of where they stand.
    if !metadata.name().starts_with("event ") {
        put(&mut out, "SMSD_EVENT", metadata.name());
        if let Some(id) = message_id(metadata.name()) {
            put(&mut out, "MESSAGE_ID", id);
        }
    }
    for (name, value) in &line.fields {
        put(&mut out, name, value);
    }
    out
}

/// The journal's own ids of what an operator may want to watch for; listed in `docs/logs.md`.
fn message_id(event: &str) -> Option<&'static str> {
    Some(match event {
        "accepted" => "0c2a02f0089b4e02ada7bf350cc4eeb4",
        "refused" => "9c1681298f824ef4aa5a862d147391b1",
        "doubtful" => "f14df7949a2446e7ba6b5cebe55bbebf",
        "held" => "9f347b23d601485aa15a4b0be3ddad17",
        "ignored" => "939ba0da39bc488f8739efc5317560ef",
        "bad_number" => "fc6eb8f392334f959bcecf67a77a3cb2",
        "expired" => "38f731c53058439496effb59592b9118",
        "dispatcher_down" => "508edc79c4e9490189e772f35ea6fcda",
        "dispatcher_up" => "f6611764677d4d438aeae4c4d89eca7f",
        "all_down" => "6164dbf59165436fa101707c3b7a5206",
        "way_out" => "21aa58d65d3a40808b3f25bab2e210ac",
        "stuck" => "128504d54f934d1fbeaa1ce4b5f6caf7",
        "queue_lost" => "da598aa8f8f549f9ae3f0c93304671a6",
        "queue_back" => "50206c1421e64010bd5d2065c381b36e",
        "disk_full" => "7d2b6c1e0a5f4d0c9e1b8a3f64c7d925",
        "disk_room" => "3f9a0e5d8c274b61b7d4e2a6901c58f3",
        "from_the_past" => "91c967798c944254b9ae8da32c5323f7",
        "suspected" => "65beb34365b8454aa2b42b0412d0cf88",
        "reload_refused" => "b492e19628e04aebb8de804514cbfcac",
        "gave_up" => "d8961020e038422da3cde902a3777524",
        _ => return None,
    })
}

/// As syslog(3) counts.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// `NAME=value`, or, if the value has line ends, the name, its length as 64 bits, and the value.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// What a line consists of.
#[derive(Default)]
struct Line {
    message: String,
    /// The other fields as people read them, ` name=value` each.
    shown: String,
    /// The same for the journal.
    fields: Vec<(String, String)>,
}

impl Line {
    fn field(&mut self, field: &Field, value: String, shown: &str) {
        // Writing to a string can not fail.
        let _ = write!(self.shown, " {}={shown}", field.name());
        self.fields.push((format!("SMSD_{}", field.name().to_ascii_uppercase()), value));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let value = format!("{value:?}");
            self.field(field, value.clone(), &value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.field(field, value.to_owned(), &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What the journal got for each line that is logged.
    fn received(log: impl FnOnce()) -> Vec<Vec<(String, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        journal.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (to, written) = channel();
        let writer = move || Piece(to.clone(), Journal::at(&socket).unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Fields(writer)), log);
        let mut datagrams = Vec::new();
        let mut buffer = vec![0; 1 << 17];
        while let Ok(n) = journal.recv(&mut buffer) {
            datagrams.push(parsed(&buffer[..n]));
        }
        assert_eq!(written.try_iter().count(), datagrams.len());
        datagrams
    }

    struct Piece(std::sync::mpsc::Sender<()>, Journal);

    impl Write for Piece {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.send(()).unwrap();
            self.1.write(line)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The journal's own reading of its protocol, after systemd's description of it.
    fn parsed(mut rest: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(end) = rest.iter().position(|b| matches!(b, b'=' | b'\n')) {
            let name = String::from_utf8(rest[..end].to_vec()).unwrap();
            let valid = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(valid) && name.len() <= 64 && !name.starts_with('_'), "{name}");
            let (from, to) = if rest[end] == b'=' {
                (end + 1, end + 1 + rest[end + 1..].iter().position(|b| *b == b'\n').unwrap())
            } else {
                let length = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap());
                (end + 9, end + 9 + usize::try_from(length).unwrap())
            };
            fields.push((name, String::from_utf8(rest[from..to].to_vec()).unwrap()));
            assert_eq!(rest[to], b'\n');
            rest = &rest[to + 1..];
        }
        assert!(rest.is_empty());
        fields
    }

    fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = fields.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert_eq!(found.next(), None, "{name} stands twice");
        value
    }

    #[test]
    fn a_line_has_its_priority_and_its_fields() {
        let got = received(|| {
            tracing::error!(name: "dispatcher_down", dispatcher = %"gw", "out of rotation: {}", "gone");
            tracing::info!("plain");
            tracing::warn!(number = "a b", yes = true, "w");
            tracing::debug!("d");
        });
        let [down, plain, warn, debug] = &got[..] else { panic!("{got:?}") };
        for (name, want) in [
            ("PRIORITY", "3"),
            ("SYSLOG_IDENTIFIER", "smsd"),
            ("MESSAGE", "out of rotation: gone dispatcher=gw"),
            ("SMSD_EVENT", "dispatcher_down"),
            ("SMSD_DISPATCHER", "gw"),
            ("MESSAGE_ID", "508edc79c4e9490189e772f35ea6fcda"),
        ] {
            assert_eq!(value(down, name), Some(want), "{name}");
        }
        assert_eq!((value(plain, "PRIORITY"), value(plain, "SMSD_EVENT")), (Some("6"), None));
        assert_eq!((value(warn, "PRIORITY"), value(warn, "SMSD_NUMBER")), (Some("4"), Some("a b")));
        assert_eq!(value(warn, "MESSAGE"), Some("w number=\"a b\" yes=true"));
        assert_eq!(value(debug, "PRIORITY"), Some("7"));
    }

    #[test]
    fn no_line_end_makes_a_field() {
        let got = received(|| tracing::error!(odd = "x\nPRIORITY=0\n", "two\nMESSAGE_ID=1"));
        assert_eq!(value(&got[0], "PRIORITY"), Some("3"));
        assert_eq!(value(&got[0], "SMSD_ODD"), Some("x\nPRIORITY=0\n"));
        assert_eq!(value(&got[0], "MESSAGE_ID"), None);
        assert!(value(&got[0], "MESSAGE").unwrap().starts_with("two\nMESSAGE_ID=1"));
    }

    #[test]
    fn a_long_line_is_cut_before_it_is_more_than_a_datagram() {
        let got = received(|| tracing::error!("{}", "å".repeat(200_000)));
        assert_eq!(value(&got[0], "MESSAGE").map(str::len), Some(MESSAGE));
    }

    #[test]
    fn standard_error_is_the_journal_only_if_it_is_the_very_one() {
        assert!(is_journal(Some("9:4711"), 9, 4711));
        for stream in [None, Some(""), Some("9"), Some("9:4712"), Some("8:4711"), Some("9:x")] {
            assert!(!is_journal(stream, 9, 4711), "{stream:?}");
        }
    }
}
