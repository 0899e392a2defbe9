//! One life of a program that is spoken to in lines: a task that owns its pipes and knows what was asked.
//!
//! The line between "certainly not taken" and "nobody knows" is the first byte of a request that the pipe took. So a
//! program is told of no more SMS than it may have at once, and of none before its first line (`{"smsd": 1}`): what
//! dies while it starts has taken nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::status::Status;
use super::super::{Class, SubmitError};
use super::answer::{Hidden, Word, Words};
use super::lines::{Line, Lines};
use super::stream::Spec;
use super::{exit_code, shown_end};
use crate::os::child::{Ended, Group, ended_by};
use crate::telemetry::Event;

/// The version of the protocol.
pub(super) const VERSION: u32 = 1;

/// After so many times without an answer, one after the other, a program hangs.
const STRIKES: u32 = 3;

/// A program that says so many lines in a row that are no answer will not get to one.
const GARBLED_MAX: u32 = 1_000;

/// Ids of answered requests that are remembered, to know an answer that comes twice.
const ANSWERED_MAX: usize = 1_000;

/// Texts that are looked for in what is shown to people.
const TEXTS_MAX: usize = 64;

/// When one pipe has ended: so long the others and the end are waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Something that the program is asked.
pub(super) struct Ask {
    pub(super) id: String,
    /// The request, one line.
    pub(super) line: Vec<u8>,
    pub(super) deadline: Instant,
    /// The text in it, which people are not to see.
    pub(super) text: Arc<str>,
    pub(super) answer: oneshot::Sender<Result<Words, SubmitError>>,
}

/// How a life ended.
#[derive(Debug)]
pub(super) struct Death {
    /// What asking it now comes to.
    pub(super) error: SubmitError,
    pub(super) at: Instant,
    /// It has answered something.
    pub(super) served: bool,
}

/// See the module.
pub(super) struct Process {
    spec: Arc<Spec>,
    group: Group,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    asks: mpsc::Receiver<Ask>,
    known: Known,
    /// What is to be written, in order.
    outgoing: VecDeque<Outgoing>,
    said: Lines,
    aside: Lines,
    last_words: Vec<u8>,
}

struct Outgoing {
    /// None: what comes before everything else.
    id: Option<String>,
    line: Vec<u8>,
    written: usize,
}

/// What the program was asked, and what of it is answered.
struct Known {
    spec: Arc<Spec>,
    /// It has said that it speaks the protocol.
    ready: bool,
    waiting: HashMap<String, Waiting>,
    /// Those that it was told of and did not answer in time.
    late: HashSet<String>,
    answered: VecDeque<String>,
    /// How many requests the program has and has not answered, late ones included.
    at_work: usize,
    strikes: u32,
    last_strike: Instant,
    served: bool,
    garbled: u32,
    told: HashSet<&'static str>,
}

struct Waiting {
    ask: Ask,
    since: Instant,
    /// A byte of it went out.
    written: bool,
}

/// Why a life ends.
enum End {
    /// Nobody wants anything of it any more.
    NotNeeded,
    /// A pipe is closed, or the program has ended.
    Closed,
    /// It is ended, for this reason.
    Killed(Class, String),
}

/// A line as a program says it.
#[derive(Deserialize)]
struct Said {
    smsd: Option<u32>,
    id: Option<Word>,
    #[serde(flatten)]
    words: Words,
}

impl Process {
    /// Starts the program.
    ///
    /// # Errors
    /// It could not be started.
    pub(super) fn start(spec: Arc<Spec>, asks: mpsc::Receiver<Ask>) -> io::Result<Process> {
        use std::process::Stdio;
        let mut command = spec.program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::spawn(&mut command)?;
        let child = &mut group.child;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let preamble = (!spec.preamble.reveal().is_empty()).then(|| Outgoing {
            id: None,
            line: spec.preamble.reveal().clone(),
            written: 0,
        });
        Ok(Process {
            known: Known::new(Arc::clone(&spec)),
            spec,
            group,
            stdin,
            stdout,
            stderr,
            asks,
            outgoing: preamble.into_iter().collect(),
            said: Lines::default(),
            aside: Lines::default(),
            last_words: Vec::new(),
        })
    }

    /// Serves until the program ends or is ended; then everything that was asked is answered.
    pub(super) async fn serve(mut self) -> Death {
        let end = self.live().await;
        self.asks.close();
        let death = self.last_rites(end).await;
        self.known.give_up(&death.error);
        while let Ok(ask) = self.asks.try_recv() {
            let _ = ask.answer.send(Err(death.error.clone()));
        }
        death
    }

    async fn live(&mut self) -> End {
        let (mut out, mut err) = (vec![0; 8192], vec![0; 8192]);
        let mut hears_aside = true;
        loop {
            let deadline = self.known.next_deadline();
            let next = self.outgoing.front().filter(|o| o.written > 0 || self.known.may_have(o.id.is_some()));
            let bytes = next.and_then(|o| o.line.get(o.written..));
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => return End::NotNeeded,
                },
                wrote = self.stdin.write(bytes.unwrap_or_default()), if bytes.is_some() => match wrote {
                    Ok(n @ 1..) => self.wrote(n),
                    _ => return End::Closed,
                },
                read = self.stdout.read(&mut out) => match read {
                    Ok(n @ 1..) => if let Err(end) = self.hear(out.get(..n).unwrap_or_default()) { return end },
                    _ => return End::Closed,
                },
                read = self.stderr.read(&mut err), if hears_aside => match read {
                    Ok(n @ 1..) => self.overhear(err.get(..n).unwrap_or_default()),
                    _ => hears_aside = false,
                },
                _ = self.group.child.wait() => return End::Closed,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let known = &mut self.known;
                    self.outgoing.retain(|o| o.written > 0 || !o.id.as_ref().is_some_and(|id| known.is_due(id)));
                    if let Some(why) = known.expire() {
                        return End::Killed(Class::Unavailable, why);
                    }
                }
            }
        }
    }

    fn take(&mut self, mut ask: Ask) {
        if ask.answer.is_closed() {
            return;
        }
        let line = std::mem::take(&mut ask.line);
        self.outgoing.push_back(Outgoing { id: Some(ask.id.clone()), line, written: 0 });
        let waiting = Waiting { ask, since: Instant::now(), written: false };
        self.known.waiting.insert(waiting.ask.id.clone(), waiting);
    }

    fn wrote(&mut self, n: usize) {
        let Some(front) = self.outgoing.front_mut() else { return };
        if front.written == 0
            && let Some(id) = &front.id
        {
            self.known.told_of(id);
        }
        front.written += n;
        if front.written >= front.line.len() {
            self.outgoing.pop_front();
        }
    }

    fn hear(&mut self, piece: &[u8]) -> Result<(), End> {
        self.said.take(piece).iter().try_for_each(|line| self.known.hear(line))
    }

    /// What it says on standard error is for people: the last line says why it ended, if it does.
    fn overhear(&mut self, piece: &[u8]) {
        for line in self.aside.take(piece) {
            if let Line::Whole(line) = line {
                if tracing::enabled!(tracing::Level::DEBUG) {
                    let words = self.known.quote(&line);
                    Event::Overheard { dispatcher: Arc::clone(&self.spec.name), words }.log();
                }
                self.last_words = line;
            }
        }
    }

    /// Hears what is left to hear, and finds out how it ended.
    async fn last_rites(&mut self, end: End) -> Death {
        let patience = Instant::now() + PATIENCE;
        let mut ended = None;
        if matches!(end, End::Closed) {
            let (mut out, mut err) = (vec![0; 8192], vec![0; 8192]);
            while let Ok(Ok(n @ 1..)) = timeout_at(patience, self.stdout.read(&mut out)).await {
                // It is over in any case.
                let _ = self.hear(out.get(..n).unwrap_or_default());
            }
            if let Some(line) = self.said.end() {
                let _ = self.known.hear(&line);
            }
            while let Ok(Ok(n @ 1..)) = timeout_at(patience, self.stderr.read(&mut err)).await {
                self.overhear(err.get(..n).unwrap_or_default());
            }
            self.overhear(b"\n");
            ended =
                timeout_at(patience, self.group.child.wait()).await.ok().and_then(Result::ok).map(ended_by);
        }
        let name = self.spec.shown.clone();
        let (class, mut words) = match (end, ended) {
            (End::Killed(class, why), _) => (class, format!("{name}: {why}")),
            (End::NotNeeded, _) => (Class::Unavailable, format!("{name} is not needed any more")),
            (End::Closed, None) => (Class::Unavailable, format!("{name} has closed its input or output")),
            (End::Closed, Some(ended)) => {
                let by_code = match ended {
                    Ended::Exit(code) => self
                        .known
                        .spec
                        .overrides
                        .get(&code.to_string())
                        .copied()
                        .unwrap_or_else(|| exit_code(code)),
                    _ => Status::Accepted,
                };
                // Of an SMS that it was not told of nothing can be in doubt.
                let class = match by_code {
                    Status::Refused(Class::Misconfigured) => Class::Misconfigured,
                    _ => Class::Unavailable,
                };
                (class, format!("{name} has ended: {}", shown_end(ended)))
            }
        };
        let last = self.known.quote(&self.last_words);
        if !last.is_empty() {
            words = format!("{words}: {last}");
        }
        Death { error: SubmitError::new(class, words), at: Instant::now(), served: self.known.served }
    }
}

impl Known {
    fn new(spec: Arc<Spec>) -> Known {
        Known {
            spec,
            ready: false,
            waiting: HashMap::new(),
            late: HashSet::new(),
            answered: VecDeque::new(),
            at_work: 0,
            strikes: 0,
            last_strike: Instant::now(),
            served: false,
            garbled: 0,
            told: HashSet::new(),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.ask.deadline).min()
    }

    /// May the next line go to the program? A request may if it is ready and has room for one more.
    fn may_have(&self, is_request: bool) -> bool {
        !is_request || (self.ready && self.at_work < self.spec.window)
    }

    fn told_of(&mut self, id: &str) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.written = true;
            self.at_work += 1;
        }
    }

    fn is_due(&self, id: &str) -> bool {
        self.waiting.get(id).is_some_and(|waiting| waiting.ask.deadline <= Instant::now())
    }

    /// Answers what has run out of time. If that shows that the program hangs: the reason to end it.
    fn expire(&mut self) -> Option<String> {
        let now = Instant::now();
        let due = self.waiting.extract_if(|_, waiting| waiting.ask.deadline <= now);
        let mut strike = false;
        let name = self.spec.shown.clone();
        for (id, Waiting { ask, since, written }) in due {
            strike |= since >= self.last_strike;
            let error = if written {
                self.late.insert(id);
                SubmitError::new(Class::Unknown, format!("{name}: no answer within its time"))
            } else {
                let why = if self.ready { "it was busy with others" } else { "it was not ready" };
                SubmitError::new(Class::Unavailable, format!("{name}: not asked within its time: {why}"))
            };
            let _ = ask.answer.send(Err(error));
        }
        if strike {
            self.strikes += 1;
            self.last_strike = now;
        }
        if self.late.len() >= self.spec.window {
            return Some("it hangs: all that it may have at once has run out of time".to_owned());
        }
        (self.strikes >= STRIKES).then(|| format!("it hangs: {STRIKES} times in a row without an answer"))
    }

    fn hear(&mut self, line: &Line) -> Result<(), End> {
        let said = match line {
            Line::TooLong => Err("a line that is too long"),
            Line::Whole(line) => serde_json::from_slice::<Said>(line).map_err(|_| "a line that is no answer"),
        };
        match said {
            Ok(Said { smsd: Some(VERSION), .. }) => {
                self.ready = true;
                self.strikes = 0;
                Ok(())
            }
            Ok(Said { smsd: Some(version), .. }) => {
                let why = format!("it speaks version {version} of the protocol, expected {VERSION}");
                Err(End::Killed(Class::Misconfigured, why))
            }
            Ok(Said { id: Some(id), words, .. }) => self.answer(&id.text(), words),
            Ok(_) => self.garbled("an answer without id"),
            Err(what) => self.garbled(what),
        }
    }

    fn answer(&mut self, id: &str, words: Words) -> Result<(), End> {
        if self.late.remove(id) {
            self.at_work -= 1;
            self.remember(id);
            Event::LateAnswer { dispatcher: Arc::clone(&self.spec.name), attempt: shown_id(id) }.log();
            return Ok(());
        }
        match self.waiting.get(id) {
            Some(waiting) if waiting.written => {}
            None if self.answered.iter().any(|known| known == id) => {
                return self.garbled("an answer for the second time");
            }
            _ => return self.garbled("an answer to what was not asked"),
        }
        if let Some(waiting) = self.waiting.remove(id) {
            self.at_work -= 1;
            self.remember(id);
            let _ = waiting.ask.answer.send(Ok(words));
        }
        Ok(())
    }

    fn remember(&mut self, id: &str) {
        self.served = true;
        self.strikes = 0;
        self.garbled = 0;
        if self.answered.len() == ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back(id.to_owned());
    }

    /// What makes no sense is told once for each kind, and goes on not for ever.
    fn garbled(&mut self, what: &'static str) -> Result<(), End> {
        self.garbled += 1;
        if self.told.insert(what) {
            Event::Garbled { dispatcher: Arc::clone(&self.spec.name), what }.log();
        }
        if self.garbled > GARBLED_MAX {
            return Err(End::Killed(
                Class::Unavailable,
                format!("it says nothing but what makes no sense: {what}"),
            ));
        }
        Ok(())
    }

    /// Foreign words without secrets, and without the texts that are under way. To look for very many of them in each
    /// line would take too long.
    fn quote(&self, foreign: &[u8]) -> String {
        if self.waiting.len() > TEXTS_MAX {
            return "(not shown, since too many SMS are under way)".to_owned();
        }
        let texts = self.waiting.values().map(|waiting| &*waiting.ask.text);
        let text = texts.collect::<Vec<_>>().join("\n");
        let mut words = Hidden { secrets: &self.spec.secrets, text: &text }.quote(foreign);
        crate::telemetry::clip(&mut words, SubmitError::DETAIL_MAX);
        words
    }

    /// Answers everything: what the program was told of is in doubt, the rest certainly not taken.
    fn give_up(&mut self, error: &SubmitError) {
        for (_, Waiting { ask, written, .. }) in self.waiting.drain() {
            let class = if written { Class::Unknown } else { error.class };
            let _ = ask.answer.send(Err(SubmitError { class, ..error.clone() }));
        }
    }
}

/// A foreign id, if it is one of ours.
fn shown_id(id: &str) -> String {
    let mut id = id.to_owned();
    crate::telemetry::clip(&mut id, 40);
    id
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::Program;
    use super::*;

    fn known(window: usize) -> Known {
        Known::new(Arc::new(Spec::new("x", Program::new("x"), window, BTreeMap::new())))
    }

    fn asked(known: &mut Known, id: &str, written: bool) -> oneshot::Receiver<Result<Words, SubmitError>> {
        let (answer, answered) = oneshot::channel();
        let (now, line) = (Instant::now(), Vec::new());
        let ask = Ask { id: id.into(), line, deadline: now, text: "text".into(), answer };
        known.waiting.insert(id.into(), Waiting { ask, since: now, written: false });
        if written {
            known.told_of(id);
        }
        answered
    }

    fn says(known: &mut Known, line: &str) {
        assert!(known.hear(&Line::Whole(line.into())).is_ok(), "{line}");
    }

    #[test]
    fn a_late_answer_makes_room_and_is_no_answer_to_anything() {
        let mut known = known(2);
        says(&mut known, r#"{"smsd":1}"#);
        let mut late = asked(&mut known, "a", true);
        assert_eq!(known.expire(), None);
        assert_eq!(late.try_recv().unwrap().unwrap_err().class, Class::Unknown);
        let _other = asked(&mut known, "b", true);
        assert!(!known.may_have(true));
        says(&mut known, r#"{"id":"a","ok":true}"#);
        assert!(known.may_have(true));
        assert_eq!((known.at_work, known.garbled), (1, 0));
        says(&mut known, r#"{"id":"a","ok":true}"#);
        assert_eq!((known.at_work, known.garbled), (1, 1), "the second time");
    }

    #[test]
    fn what_was_not_written_can_not_be_answered() {
        let mut known = known(2);
        let mut answered = asked(&mut known, "a", false);
        says(&mut known, r#"{"id":"a","ok":true}"#);
        assert!(answered.try_recv().is_err());
        assert_eq!(known.garbled, 1);
    }

    #[test]
    fn no_text_is_shown_however_many_are_under_way() {
        let mut known = known(1_000);
        assert_eq!(known.quote(b"it is down"), "it is down");
        let _kept: Vec<_> = (0..=TEXTS_MAX).map(|n| asked(&mut known, &n.to_string(), true)).collect();
        assert!(known.quote(b"it is down").starts_with("(not shown"));
    }

    proptest! {
        #[test]
        fn whatever_it_says_is_survived(
            lines in proptest::collection::vec("\\{\"(id|smsd|ok|class|code|detail)\":(\"[a-f]\"|1|2|true|\"OK\"|\\[\\]|null)(,\"(id|ok|references|retry_after)\":(\"[a-f]\"|-1e300|true|\\[1\\]))?\\}?|\\PC{0,30}", 0..60),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut known = known(8);
            let mut answers: Vec<_> = ["a", "b", "c"].map(|id| asked(&mut known, id, true)).into();
            known.expire();
            answers.extend(["d", "e"].map(|id| asked(&mut known, id, true)));
            for line in &lines {
                let _ = known.hear(&Line::Whole(line.clone().into_bytes()));
            }
            let _ = known.hear(&Line::Whole(bytes));
            prop_assert_eq!(known.at_work, known.late.len() + known.waiting.len());
            known.give_up(&SubmitError::new(Class::Unavailable, "over"));
            for mut answer in answers {
                prop_assert!(answer.try_recv().is_ok(), "left without an answer");
            }
        }
    }
}
