//! Where log lines go: a thread of their own writes them, so that a full disk or a terminal that nobody reads never
//! holds up an SMS. Lines that find no room, or can not be written, are counted, and the log says so when it goes on.
//!
//! Nothing here blocks the rest of the program: neither a line, nor opening the file anew, nor a panic, nor the end.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::journal::{self, Fields, Journal, SOCKET};
use crate::config::{LogFormat, LogLevel};

/// Lines that wait to be written; the next ones are lost.
const WAITING: usize = 10_000;
/// How long the end waits for what is not yet written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The running log. What is in it is written out when it is dropped, if that takes no longer than a second.
pub struct Log {
    path: Option<PathBuf>,
    lines: Lines,
    /// The file to go on with.
    next: Arc<Mutex<Option<File>>>,
}

impl Log {
    /// Starts the log, for the whole process. Panics go there too.
    ///
    /// # Errors
    /// The file can not be opened for appending, a log was started before, or the system gives no more threads.
    pub fn start(level: LogLevel, format: LogFormat, file: Option<&Path>) -> io::Result<Log> {
        // A journal that takes nothing from us gets the text that it reads from standard error.
        let journal = if file.is_none() && format == LogFormat::Auto && to_journal() {
            Journal::at(Path::new(SOCKET)).ok()
        } else {
            None
        };
        let fields = journal.is_some();
        let sink: Box<dyn Write + Send> = match (file, journal) {
            (Some(path), _) => Box::new(append(path)?),
            (None, Some(journal)) => Box::new(journal),
            // Whoever writes to the standard error of Rust's library waits for whoever is at it.
            (None, None) => Box::new(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        };
        let next = Arc::new(Mutex::new(None));
        let lines = Lines::start(sink, Arc::clone(&next), tell)?;
        let colour = file.is_none() && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let layer = fmt::layer().with_writer(lines.clone()).with_ansi(colour).with_target(false);
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
            LogFormat::Auto if fields => Fields(lines.clone()).boxed(),
            LogFormat::Auto | LogFormat::Text => layer.boxed(),
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
        };
        // Other crates' own words are for debugging smsd only.
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let ours = tracing_subscriber::filter::Targets::new().with_target("smsd", level);
        tracing_subscriber::registry().with(layer.with_filter(ours)).try_init().map_err(io::Error::other)?;
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Ok(Log { path: file.map(Path::to_owned), lines, next })
    }

    /// Opens the file anew, after it was moved away. The old one stays in use if that fails.
    ///
    /// # Errors
    /// The file can not be opened for appending.
    pub fn reopen(&self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let file = append(path)?;
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.end(PATIENCE);
    }
}

/// Says how many lines are missing.
fn tell(lost: u64) {
    tracing::error!(
        lines = lost,
        "the log could not be written for a while; lines are missing before this one"
    );
}

/// Takes lines, and never waits.
#[derive(Clone)]
struct Lines {
    to: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// Nothing of weight comes after this. Hung up when all is written.
    End(SyncSender<()>),
}

impl Lines {
    /// Starts the thread that writes to `sink`; `tell` is called there with the number of lines that were lost, when
    /// writing goes on.
    fn start(
        sink: impl Write + Send + 'static,
        next: Arc<Mutex<Option<File>>>,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Lines> {
        let (to, inbox) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer =
            Writer { sink: Box::new(sink), next, lost: Arc::clone(&lost), told: 0, flows: true, torn: false };
        std::thread::Builder::new().name("log".into()).spawn(move || writer.work(&inbox, &tell))?;
        Ok(Lines { to, lost })
    }

    fn end(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, ended) = sync_channel(1);
        let mut end = Message::End(done);
        while let Err(TrySendError::Full(again)) = self.to.try_send(end) {
            if Instant::now() >= deadline {
                return;
            }
            end = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.to.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// The thread, which may wait for as long as it likes.
struct Writer {
    sink: Box<dyn Write + Send>,
    next: Arc<Mutex<Option<File>>>,
    lost: Arc<AtomicU64>,
    /// How many of the lost have been told.
    told: u64,
    /// The last line could be written.
    flows: bool,
    /// Only a part of the last line could be written.
    torn: bool,
}

impl Writer {
    fn work(&mut self, inbox: &Receiver<Message>, tell: &dyn Fn(u64)) {
        let mut end = None;
        loop {
            let message = match inbox.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    // All that waited is written, so what is missing came before. The telling is a line as any other.
                    let lost = self.lost.load(Ordering::Relaxed);
                    if self.flows && lost > self.told {
                        tell(lost - self.told);
                        self.told = lost;
                        continue;
                    }
                    if end.is_some() {
                        // Dropped with us: that is the answer.
                        return;
                    }
                    let Ok(message) = inbox.recv() else { return };
                    message
                }
            };
            match message {
                Message::Line(line) => self.write(&line),
                Message::End(done) => end = Some(done),
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        if let Some(file) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.sink = Box::new(file);
            self.torn = false;
        }
        if self.torn && self.sink.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() && !self.torn {
            match self.sink.write(rest) {
                Ok(n) if n > 0 => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        self.flows = rest.is_empty();
        if !self.flows {
            self.torn |= rest.len() < line.len();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Is standard error the journal?
fn to_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    nix::sys::stat::fstat(io::stderr())
        .is_ok_and(|s| journal::is_journal(stream.as_deref(), s.st_dev, s.st_ino))
}

/// Numbers of phones stand in it: whoever is not of its group reads none.
pub(crate) const LOG_MODE: u32 = 0o640;

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(LOG_MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Writes when it is let, so many bytes each time.
    struct Valve {
        let_through: Receiver<usize>,
        out: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Valve {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Open when nobody holds the handle any more.
            let most = self.let_through.recv().unwrap_or(usize::MAX);
            if most == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let written = &line[..most.min(line.len())];
            self.out.lock().unwrap().extend(written);
            Ok(written.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log, its handle, what came out, what was told.
    #[expect(clippy::type_complexity, reason = "four things, once")]
    fn log() -> (Lines, std::sync::mpsc::Sender<usize>, Arc<Mutex<Vec<u8>>>, Receiver<u64>) {
        let (handle, let_through) = channel();
        let out = Arc::new(Mutex::new(Vec::new()));
        let (told, tellings) = channel();
        let valve = Valve { let_through, out: Arc::clone(&out) };
        let lines = Lines::start(valve, Arc::default(), move |lost| told.send(lost).unwrap()).unwrap();
        (lines, handle, out, tellings)
    }

    #[test]
    fn a_reader_who_is_away_holds_up_nobody_and_is_told_what_is_missing() {
        let (mut lines, handle, out, tellings) = log();
        let started = Instant::now();
        for n in 0..WAITING + 500 {
            lines.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        lines.end(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(*out.lock().unwrap(), b"");
        drop(handle);
        let lost = tellings.recv_timeout(Duration::from_secs(10)).unwrap();
        // One may be in the writer's hand.
        assert!((499..=500).contains(&lost), "{lost}");
        let out = String::from_utf8(out.lock().unwrap().clone()).unwrap();
        assert_eq!(out.lines().count() as u64 + lost, WAITING as u64 + 500);
        assert_eq!(out.lines().nth(7), Some("line 7"));
        assert_eq!(tellings.try_recv().ok(), None, "once");
    }

    #[test]
    fn a_journal_that_hangs_holds_up_nobody_and_gets_what_there_is_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let journal = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        let lines = Lines::start(Journal::at(&socket).unwrap(), Arc::default(), |_| {}).unwrap();
        let all = tracing_subscriber::registry().with(Fields(lines.clone()));
        let started = Instant::now();
        tracing::subscriber::with_default(all, || {
            for n in 0..WAITING + 5_000 {
                tracing::info!(name: "accepted", n, "SMS accepted");
            }
        });
        lines.end(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(lines.lost.load(Ordering::Relaxed) > 3_000);
        // It goes on.
        journal.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (mut got, mut buffer) = (0, [0; 4096]);
        while let Ok(n) = journal.recv(&mut buffer) {
            let line = String::from_utf8_lossy(&buffer[..n]).into_owned();
            assert!(line.contains(&format!("\nMESSAGE=SMS accepted n={got}\n")), "{line}");
            assert!(line.contains("PRIORITY=6\n") && line.contains(&format!("SMSD_N={got}\n")), "{line}");
            got += 1;
        }
        assert_eq!(got + lines.lost.load(Ordering::Relaxed), WAITING as u64 + 5_000);
    }

    #[test]
    fn a_full_disk_tears_no_line_but_its_own() {
        let (mut lines, handle, out, tellings) = log();
        // All of the first, half of the second, nothing of the third, then there is room.
        for most in [usize::MAX, 3, 0, 0] {
            handle.send(most).unwrap();
        }
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        drop(handle);
        assert_eq!(tellings.recv_timeout(Duration::from_secs(10)).unwrap(), 2);
        assert_eq!(String::from_utf8_lossy(&out.lock().unwrap()), "first\nsec\nfourth\n");
        lines.end(Duration::from_secs(10));
    }
}
