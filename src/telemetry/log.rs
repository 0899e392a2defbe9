//! Where log lines go: a thread of their own writes them, so that a full disk or a blocked terminal never holds up an
//! SMS. Lines that find no room are counted and dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogFormat, LogLevel};

/// The running log. What is in it is written out when it is dropped.
pub struct Log {
    sink: Sink,
    _guard: WorkerGuard,
}

impl Log {
    /// Starts the log, for the whole process.
    ///
    /// # Errors
    /// The file can not be opened for appending, or a log was started before.
    pub fn start(level: LogLevel, format: LogFormat, file: Option<&Path>) -> io::Result<Log> {
        let sink = Sink::open(file)?;
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(10_000)
            .lossy(true)
            .thread_name("log")
            .finish(sink.clone());
        let colour = file.is_none() && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let layer = fmt::layer().with_writer(writer).with_ansi(colour).with_target(false);
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
            LogFormat::Text => layer.boxed(),
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
        Ok(Log { sink, _guard: guard })
    }

    /// Opens the file anew, after it was moved away. The old one stays in use if that fails.
    ///
    /// # Errors
    /// The file can not be opened for appending.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink.reopen()
    }
}

#[derive(Clone)]
struct Sink {
    path: Option<PathBuf>,
    file: Arc<Mutex<Option<File>>>,
}

impl Sink {
    fn open(path: Option<&Path>) -> io::Result<Sink> {
        let file = path.map(append).transpose()?;
        Ok(Sink { path: path.map(Path::to_owned), file: Arc::new(Mutex::new(file)) })
    }

    fn reopen(&self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let file = append(path)?;
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write_all(line)?,
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
