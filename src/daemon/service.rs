//! What the service manager is told: when we are at work, how it goes, that the engine lives, and that we stop.
//!
//! "Ready" is said when the queue has answered and what waits is known, not before: what is started after us may count on
//! it. The watchdog is fed by the engine's own pulse, so that a daemon that only looks alive is started anew; one that
//! waits for a queue that is down, or for the last SMS of a long stop, is alive. Nothing here is waited for by anybody.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::pulse::Pulse;
use crate::os::notify::{Notify, Word};
use crate::telemetry::board::{Board, Light};
use crate::telemetry::sampler::Sample;
use crate::telemetry::{Hub, Sampler, clip};

/// Between two looks: what is news is told so soon, and no more often.
const LOOK: Duration = Duration::from_secs(1);
/// The same until we are at work.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// A pulse that is older is none. It beats once a second.
const PULSE_MAX: Duration = Duration::from_secs(3);
/// Of the time that the watchdog gives, after how much it is fed.
const FED_AFTER: u32 = 4;
/// What a stop needs beyond the time for what is on its way: to write, to give back the lease, the last answers.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// Of a status at most, in bytes.
const STATUS_MAX: usize = 500;

/// See the module. One per daemon.
#[derive(Debug)]
pub(crate) struct Service {
    /// `None`: nobody listens.
    notify: Option<Notify>,
    /// That we are at work is told.
    ready: AtomicBool,
    stopping: AtomicBool,
    /// The last new configuration was refused.
    refused: AtomicBool,
}

impl Service {
    pub(crate) fn new(notify: Option<Notify>) -> Service {
        let unsaid = || AtomicBool::new(false);
        Service { notify, ready: unsaid(), stopping: unsaid(), refused: unsaid() }
    }

    /// The configuration is being read anew.
    pub(crate) fn reloading(&self) {
        self.while_at_work(Word::Reloading);
    }

    /// That is over, and the old one may have stayed.
    pub(crate) fn reloaded(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
        if !self.while_at_work(Word::Ready) {
            // Said again at the next look.
            self.ready.store(false, Ordering::Relaxed);
        }
    }

    /// A stop was asked for; what is on its way may take so long.
    pub(crate) fn stopping(&self, patience: Duration) {
        if let Some(notify) = &self.notify
            && !self.stopping.load(Ordering::Relaxed)
        {
            let told = notify.tell(&[Word::Stopping, Word::Patience(patience + LAST_WORDS)]);
            self.stopping.store(told, Ordering::Relaxed);
        }
    }

    /// Tells what there is to tell until `over` is cancelled. `patience` is what a stop takes at most.
    pub(crate) async fn work(
        &self,
        pulse: Pulse,
        hub: Arc<Hub>,
        sampler: Sampler,
        patience: impl Fn() -> Duration,
        over: CancellationToken,
    ) {
        let Some(notify) = &self.notify else { return };
        let mut watchdog = Watchdog::new(notify.watchdog(), pulse.clone());
        let mut told = String::new();
        let mut first_looks = interval(FIRST_LOOK);
        let mut looks = interval(watchdog.fed_each().map_or(LOOK, |each| each.min(LOOK)));
        first_looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                _ = first_looks.tick(), if !self.ready.load(Ordering::Relaxed) => {}
                () = over.cancelled() => return,
            }
            let board = hub.board();
            if board.stopping {
                self.stopping(patience());
            }
            if pulse.is_ready() && !self.ready.load(Ordering::Relaxed) {
                self.ready.store(notify.tell(&[Word::Ready]), Ordering::Relaxed);
            }
            let status = self.status(&board, &sampler.latest());
            if status != told && notify.tell(&[Word::Status(&status)]) {
                told = status;
            }
            if watchdog.is_hungry(Instant::now()) && notify.tell(&[Word::Watchdog]) {
                watchdog.fed(Instant::now());
            }
        }
    }

    /// Says a word that means something only to who knows that we are at work. False if it was not heard.
    fn while_at_work(&self, word: Word<'_>) -> bool {
        match &self.notify {
            Some(notify) if self.ready.load(Ordering::Relaxed) => notify.tell(&[word]),
            _ => true,
        }
    }

    /// How it goes, in a line for people, without numbers and texts of people.
    fn status(&self, board: &Board, sample: &Sample) -> String {
        let mut line = String::new();
        if !board.queue.up {
            let why = board.queue.reason.as_deref().unwrap_or("no reason known");
            line = format!("the queue does not answer since {:.0}: {why}; ", board.queue.since);
        } else if !self.ready.load(Ordering::Relaxed) {
            line.push_str("waits for the queue; ");
        }
        if board.stopping {
            line.push_str("stops when what is on its way has ended; ");
        }
        if self.refused.load(Ordering::Relaxed) {
            line.push_str("the new configuration is faulty and the old one stays, see the log; ");
        }
        // Writing to a string can not fail.
        if sample.at.is_some() {
            let depth = &sample.depth;
            let _ = write!(line, "{} waiting", depth.alerts());
            let _ = depth.oldest().map(|oldest| write!(line, " since {oldest:.0}"));
            let undecided = depth.in_doubt + depth.held;
            let _ = (undecided > 0).then(|| write!(line, ", {undecided} in doubt or held"));
            line.push_str("; ");
        }
        let way = |light: &Light| match light.up {
            true => format!("{} works", light.name),
            false => {
                let cause = light.cause.unwrap_or("trouble");
                format!("{} is down since {:.0} ({cause})", light.name, light.since)
            }
        };
        line.push_str(&board.dispatchers.iter().map(way).collect::<Vec<_>>().join(", "));
        clip(&mut line, STATUS_MAX);
        line
    }
}

/// Whether it is time for a sign of life, and whether there is life.
struct Watchdog {
    each: Option<Duration>,
    fed: Option<Instant>,
    pulse: Pulse,
    /// The last beat that was noticed, and when.
    beat: (u64, Instant),
}

impl Watchdog {
    fn new(time: Option<Duration>, pulse: Pulse) -> Watchdog {
        let beat = (pulse.beats(), Instant::now());
        Watchdog { each: time.map(|time| time / FED_AFTER), fed: None, pulse, beat }
    }

    fn fed_each(&self) -> Option<Duration> {
        self.each.filter(|each| !each.is_zero())
    }

    fn is_hungry(&mut self, now: Instant) -> bool {
        let beats = self.pulse.beats();
        if beats != self.beat.0 {
            self.beat = (beats, now);
        }
        let is_time = self.fed_each().is_some_and(|each| self.fed.is_none_or(|fed| now >= fed + each));
        is_time && now < self.beat.1 + PULSE_MAX
    }

    fn fed(&mut self, now: Instant) {
        self.fed = Some(now);
    }
}
