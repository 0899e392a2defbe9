//! The spool folder: files in smstools' format, put into `outgoing/` by scripts.
//!
//! A file is queued, durably, before it leaves `outgoing/` for `sent/`, under a key that is the file itself
//! (`folder`): a crash between both finds the file again and queues nothing twice. `sent/` therefore means queued, not
//! sent; the ids that are written into the file lead to the rest (`smsd why ID`). What can not be understood goes
//! to `failed/` with its `Fail_reason:`. While the queue can not be written, files stay where they are.
//!
//! Deliberately absent: notification by the kernel, since looking twice a second costs nothing and also works on a
//! network's file system; and `checked/`, where smstools keeps what waits, since here the queue does.

mod alphabet;
mod folder;
pub mod letter;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use alphabet::Charset;

use self::folder::{Folder, Found, Shelf, shown};
use self::letter::{Letter, Reading, Unfit};
use super::{Desk, Intake, NotTaken, Taken};
use crate::config::SpoolConfig;
use crate::queue::{Key, NewAlert, Submission};
use crate::standing::Standing;

/// How long the queue knows a file again that we could not take out of `outgoing/`.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Between two tries when the queue, or a folder, can not be written.
const PAUSE: Duration = Duration::from_secs(2);

/// Between two tries to take out of `outgoing/` a file that is seen to.
const STUCK: Duration = Duration::from_secs(30);
/// Of so many such files the content is kept.
const STUCK_WHOLE: usize = 100;
/// What is wrong for long is said again.
const HOUR: Duration = Duration::from_secs(3600);
/// Alerts that are handed in at once: what a file becomes is for as many numbers as it has lines.
const TOGETHER: usize = 2_000;

/// Takes what lies in the folder of the configuration, until `over` is cancelled.
pub async fn run(desk: Desk, mut standing: watch::Receiver<Arc<Standing>>, over: CancellationToken) {
    let mut spool: Option<Spool> = None;
    loop {
        let now = Arc::clone(&standing.borrow_and_update());
        let wanted = now.config.spool.as_ref();
        if spool.as_ref().map(|s| &s.config) != wanted {
            spool = wanted.map(|config| Spool::new(config.clone()));
        }
        let pause = match &mut spool {
            Some(spool) => Some(spool.turn(&desk, &now).await),
            None => None,
        };
        tokio::select! {
            () = over.cancelled() => return,
            changed = standing.changed() => if changed.is_err() { return over.cancelled().await },
            () = sleep(pause) => {}
        }
    }
}

/// For ever, if there is nothing to look at.
async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// One folder.
struct Spool {
    config: SpoolConfig,
    folder: Arc<Mutex<Folder>>,
    /// What is queued, or refused, and could not be taken out of `outgoing/` yet, by key.
    done: HashMap<String, Done>,
    /// What is wrong now, and when it was said.
    trouble: Option<(String, Instant)>,
}

/// What became of a file.
#[derive(Clone)]
struct Done {
    found: Found,
    shelf: Shelf,
    lines: Vec<String>,
    /// When it is to be taken out of `outgoing/`.
    next: Instant,
    /// Why it could not be yet.
    stuck: Option<String>,
}

impl Done {
    fn new(found: Found, shelf: Shelf, lines: Vec<String>) -> Done {
        Done { found, shelf, lines, next: Instant::now(), stuck: None }
    }
}

impl Spool {
    fn new(config: SpoolConfig) -> Spool {
        let folder = Arc::new(Mutex::new(Folder::new(&config.folder, config.group_write)));
        Spool { config, folder, done: HashMap::new(), trouble: None }
    }

    /// One look, and all that follows from it. Returns when to look again.
    async fn turn(&mut self, desk: &Desk, standing: &Standing) -> Duration {
        match self.work(desk, standing).await {
            Ok(more) => {
                desk.tally().stuck(Intake::Spool, false);
                if self.trouble.take().is_some() {
                    tracing::info!("spool: {} works again", self.config.folder.display());
                }
                if more { Duration::ZERO } else { self.config.poll_interval }
            }
            Err(trouble) => {
                desk.tally().stuck(Intake::Spool, true);
                let said = self.trouble.as_ref().filter(|(said, at)| *said == trouble && at.elapsed() < HOUR);
                if said.is_none() {
                    tracing::error!("spool: {trouble}; what lies in outgoing/ stays there, trying again");
                    self.trouble = Some((trouble, Instant::now()));
                }
                PAUSE.max(self.config.poll_interval)
            }
        }
    }

    /// True if there is more to do at once.
    async fn work(&mut self, desk: &Desk, standing: &Standing) -> Result<bool, String> {
        let taken: HashMap<_, _> =
            self.done.values().map(|done| (done.found.name.clone(), done.found.state)).collect();
        let seen = self
            .blocking(move |folder| {
                folder.set_up()?;
                folder.look(Instant::now(), &taken)
            })
            .await?;
        for odd in seen.odd {
            tracing::warn!("spool: {odd}; it is left in outgoing/");
        }
        let groups = &standing.config.groups;
        let SpoolConfig { charset, international, severity, .. } = self.config;
        let reading = Reading { charset, international, severity, groups };
        let mut letters: Vec<(Found, Result<Letter, Unfit>)> = Vec::new();
        let mut trouble = None;
        for found in seen.files {
            match found.content.as_deref().map(|content| letter::parse(content, &reading)) {
                Some(read) => letters.push((found, read)),
                None => self.refuse(found, format!("longer than {} bytes", folder::FILE_MAX)),
            }
        }
        // Of what was found at once, the most severe is queued first.
        letters
            .sort_by_key(|(_, letter)| letter.as_ref().map_or(crate::alert::Severity(None), |l| l.severity));
        let mut letters = letters.into_iter().peekable();
        while letters.peek().is_some() {
            let mut alerts = 0;
            let mut together = Vec::new();
            while let Some(next) = letters.next_if(|(_, read)| {
                alerts += read.as_ref().map_or(0, |letter| letter.to.len());
                together.is_empty() || alerts <= TOGETHER
            }) {
                together.push(next);
            }
            let handed = together.into_iter().map(|(found, read)| {
                let key = Key { name: found.key.clone(), kept: KEPT };
                let account = self.config.account;
                async move {
                    let result = match &read {
                        Ok(letter) => Some(desk.hand_in(submission(letter, key, account)).await),
                        Err(_) => None,
                    };
                    (found, read, result)
                }
            });
            for (found, read, result) in join_all(handed).await {
                match (read, result) {
                    (Ok(letter), Some(Ok(taken))) => self.queued(found, &letter, &taken),
                    (_, Some(Err(NotTaken::Unfit(why)))) => self.refuse(found, why),
                    (_, Some(Err(why))) => trouble = Some(why.to_string()),
                    (Err(unfit), _) => self.refuse(found, unfit.to_string()),
                    (Ok(_), None) => {}
                }
            }
        }
        self.put_away().await?;
        match trouble {
            Some(trouble) => Err(trouble),
            None => Ok(seen.more),
        }
    }

    fn queued(&mut self, found: Found, letter: &Letter, taken: &Taken) {
        let ids: Vec<String> = taken.ids.iter().map(ToString::to_string).collect();
        let ids = ids.join(" ");
        let again = if taken.before { " (queued before)" } else { "" };
        tracing::info!("spool: {:?} is queued{again}: alert {ids}", shown(&found.name));
        let mut lines = vec![format!("Queued: {}", now()), format!("Alerts: {ids}")];
        let mut shelf = Shelf::Sent;
        if !letter.bad.is_empty() {
            shelf = Shelf::Failed;
            let bad: Vec<String> = letter.bad.iter().map(ToString::to_string).collect();
            let mut why = format!("Not queued for {}", bad.join("; "));
            crate::telemetry::clip(&mut why, 512);
            tracing::warn!("spool: {:?}: {why}; the others have it", shown(&found.name));
            lines.extend([format!("Fail_reason: {why}"), format!("Failed: {}", now())]);
        }
        self.done.insert(found.key.clone(), Done::new(found, shelf, lines));
    }

    fn refuse(&mut self, found: Found, mut why: String) {
        crate::telemetry::clip(&mut why, 512);
        tracing::warn!("spool: {:?} goes to failed/: {why}", shown(&found.name));
        let lines = vec![format!("Fail_reason: {why}"), format!("Failed: {}", now())];
        self.done.insert(found.key.clone(), Done::new(found, Shelf::Failed, lines));
    }

    /// Takes out of `outgoing/` what is seen to. What can not be moved is tried again, and not queued again.
    async fn put_away(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let done: Vec<Done> = self.done.values().filter(|done| done.next <= now).cloned().collect();
        let results = self
            .blocking(move |folder| {
                let move_one = |done: Done| {
                    let result = folder.put_away(&done.found, done.shelf, &done.lines);
                    (done.found, result)
                };
                Ok(done.into_iter().map(move_one).collect::<Vec<_>>())
            })
            .await?;
        for (found, result) in results {
            match result {
                Ok(written) => {
                    self.done.remove(&found.key);
                    if let Err(e) = written {
                        tracing::warn!(
                            "spool: {:?} has no word of what became of it: {e}",
                            shown(&found.name)
                        );
                    }
                }
                // It is queued, or refused, and keeps nobody else waiting. Where there are many, the words that are to be
                // written into them are not worth keeping their content.
                Err(e) => {
                    let many = self.done.len() > STUCK_WHOLE;
                    if let Some(done) = self.done.get_mut(&found.key) {
                        done.next = now + STUCK;
                        done.found.content = done.found.content.take().filter(|_| !many);
                        done.stuck = Some(format!("a file can not be taken out of outgoing/: {e}"));
                    }
                }
            }
        }
        // Of several always the same is told, so that it is said once.
        self.done.values().filter_map(|done| done.stuck.clone()).min().map_or(Ok(()), Err)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Folder) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let folder = Arc::clone(&self.folder);
        let work = move || work(&mut folder.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }
}

fn submission(letter: &Letter, key: Key, account: Option<i32>) -> Submission {
    let text: Arc<str> = letter.text.as_str().into();
    let alert = |to: &crate::alert::Phone| NewAlert {
        to: to.clone(),
        text: Arc::clone(&text),
        severity: letter.severity,
        account,
    };
    Submission { key, alerts: letter.to.iter().map(alert).collect() }
}

/// The time as smstools writes it: local, `26-11-23 22:13:41`.
fn now() -> String {
    jiff::Zoned::now().strftime("%y-%m-%d %H:%M:%S").to_string()
}
