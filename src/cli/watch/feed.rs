//! Looking again and again: at the daemon if it answers, else at the queue itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::cli::Session;
use crate::cli::ask::{AskError, Daemon, Sms, Way};
use crate::os::PidFile;
use crate::queue::{Depth, Queue};
use crate::telemetry::clip;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the queue may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// As many of the last SMS.
pub(super) const LAST: usize = 500;

/// What was seen at once.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When.
    pub(super) at: Timestamp,
    /// Who holds the pid file: whether the daemon runs, and its pid.
    pub(super) holder: Option<Option<u32>>,
    /// What the daemon says of itself, or why it says nothing.
    pub(super) daemon: Result<About, String>,
    /// The ways out, as far as is known.
    pub(super) ways: Vec<Way>,
    /// What waits and what went out, or why that is not known.
    pub(super) queue: Result<(Depth, Vec<Sms>), String>,
}

/// What the daemon says of itself; of one whose queue is away, nothing but that it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) version: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) all_down_since: Option<Timestamp>,
    pub(super) instances: u32,
    pub(super) stopping: bool,
}

/// Looks until nobody wants to see it.
pub(super) async fn keep_looking(session: &Session, publish: watch::Sender<Option<Look>>) {
    let daemon = Daemon::of(session);
    let mut own = Own { session, queue: None };
    while !publish.is_closed() {
        let look = look(session, &daemon, &mut own).await;
        publish.send_replace(Some(look));
        sleep(PAUSE).await;
    }
}

async fn look(session: &Session, daemon: &Daemon, own: &mut Own<'_>) -> Look {
    let holder = PidFile::holder(&session.config.pid_file(&session.env)).map(|holder| holder.pid);
    let (about, ways, queue) = match daemon.status().await {
        Ok(live) => {
            let about = About {
                version: Some(live.version),
                started_at: Some(live.started_at),
                all_down_since: live.all_down_since,
                instances: live.instances,
                stopping: live.stopping,
            };
            let sms = daemon.last_sms(LAST).await;
            (Ok(about), live.dispatchers, sms.map(|sms| (live.depth, sms)).map_err(words))
        }
        Err(AskError::Refused(why)) => match daemon.ways().await {
            Ok(ways) => (Ok(About::default()), ways, Err(why)),
            Err(e) => (Err(words(e)), Way::configured(session), Err(why)),
        },
        Err(e) => (Err(words(e)), Way::configured(session), own.look().await),
    };
    Look { at: Timestamp::now(), holder, daemon: about, ways, queue }
}

/// The queue, opened when it is needed, and anew after it did not answer.
struct Own<'a> {
    session: &'a Session,
    queue: Option<Arc<dyn Queue>>,
}

impl Own<'_> {
    async fn look(&mut self) -> Result<(Depth, Vec<Sms>), String> {
        let seen = timeout(PATIENCE, self.ask()).await;
        let seen = seen.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        if seen.is_err() {
            self.queue = None;
        }
        seen
    }

    async fn ask(&mut self) -> Result<(Depth, Vec<Sms>), String> {
        let queue = match &self.queue {
            Some(queue) => Arc::clone(queue),
            None => {
                let queue = self.session.queue().await.map_err(|e| shorter(format!("{e:#}")))?;
                Arc::clone(self.queue.insert(queue))
            }
        };
        let depth = queue.depth().await.map_err(words)?;
        let sms = queue.recent(None, LAST).await.map_err(words)?;
        Ok((depth, sms.into_iter().map(Sms::from).collect()))
    }
}

fn words(error: impl ToString) -> String {
    shorter(error.to_string())
}

fn shorter(mut words: String) -> String {
    clip(&mut words, 300);
    words
}
