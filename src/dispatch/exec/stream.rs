//! One program for all SMS: it is started once, told of several at a time, and answers in any order.
//!
//! What it has been told of and not answered when it ends is in doubt; everything else was certainly not taken. It is
//! started again when something is asked of it and its pause is over, so that nothing works in the background. Of SMS
//! nothing is logged here, but that a program has ended or makes no sense is an event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::super::status::Status;
use super::super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use super::answer::{Hidden, Words};
use super::process::{Ask, Death, Process};
use super::{Program, Request};
use crate::config::Secret;
use crate::telemetry::Event;

/// The first and the longest pause before a program that has ended is started again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The longest time for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that wait for the program at most.
const WAITING_MAX: usize = 4_096;

/// What is started, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The dispatcher's name.
    pub name: Arc<str>,
    /// What people know the program by.
    pub shown: String,
    /// The program.
    pub program: Program,
    /// What it is told before everything else.
    pub preamble: Secret<Vec<u8>>,
    /// What must not be shown of what it says, the program's own variables included.
    pub secrets: Arc<[String]>,
    /// SMS that it is told of at once, at least 1.
    pub window: usize,
    /// What its codes mean, by the code in lower case.
    pub overrides: BTreeMap<String, Status>,
}

impl Spec {
    /// A program that is told nothing before the first SMS.
    pub fn new(name: &str, program: Program, window: usize, overrides: BTreeMap<String, Status>) -> Spec {
        let secrets = program.secrets();
        Spec {
            name: name.into(),
            shown: program.shown(),
            secrets,
            program,
            preamble: Secret::new(Vec::new()),
            window,
            overrides,
        }
    }
}

/// See the module.
pub struct Stream {
    spec: Arc<Spec>,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    life: Option<Life>,
    /// How its last life ended, and until when it is left alone.
    down: Option<(SubmitError, Instant)>,
    pause: Duration,
}

struct Life {
    asks: mpsc::Sender<Ask>,
    /// Dropped, it takes the program and all that this has started with it.
    task: AbortOnDropHandle<Death>,
}

impl Stream {
    /// A dispatcher to this program, which is started at once where there is a runtime, so that the first SMS does not
    /// wait for it.
    pub fn new(spec: Spec, limits: Limits) -> Stream {
        let stream = Stream { spec: Arc::new(spec), limits, state: Mutex::default() };
        if Handle::try_current().is_ok() {
            // What is wrong with it is told to whoever asks something of it.
            drop(stream.program());
        }
        stream
    }

    /// The living program, or why there is none.
    fn program(&self) -> Result<mpsc::Sender<Ask>, SubmitError> {
        let mut state = self.state();
        if let Some(Life { asks, task }) = &mut state.life {
            if !asks.is_closed() {
                return Ok(asks.clone());
            }
            let death = match task.now_or_never() {
                None => return Err(self.unavailable("has just ended")),
                Some(Ok(death)) => death,
                Some(Err(_)) => Death {
                    error: self.unavailable("is not attended any more: a fault in smsd"),
                    at: Instant::now(),
                    served: false,
                },
            };
            state.life = None;
            self.mourn(&mut state, death);
        }
        if let Some((error, until)) = &state.down
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let (asks, inbox) = mpsc::channel(WAITING_MAX);
        match Process::start(Arc::clone(&self.spec), inbox) {
            Ok(process) => {
                let task = AbortOnDropHandle::new(tokio::spawn(process.serve()));
                state.life = Some(Life { asks: asks.clone(), task });
                Ok(asks)
            }
            Err(error) => {
                let (class, words) = self.spec.program.not_started(&error);
                let error = SubmitError::new(class, words);
                let death = Death { error: error.clone(), at: Instant::now(), served: false };
                self.mourn(&mut state, death);
                Err(error)
            }
        }
    }

    /// A program that has served is started again after a second; one that has not, after twice as long each time.
    fn mourn(&self, state: &mut State, death: Death) {
        state.pause = if death.served { PAUSE.0 } else { (state.pause * 2).clamp(PAUSE.0, PAUSE.1) };
        let (dispatcher, reason) = (Arc::clone(&self.spec.name), death.error.clone());
        Event::ProgramEnded { dispatcher, reason, pause: state.pause }.log();
        state.down = Some((death.error, death.at + state.pause));
    }

    async fn ask(
        &self,
        id: String,
        line: Vec<u8>,
        deadline: Instant,
        text: Arc<str>,
    ) -> Result<Words, SubmitError> {
        let (answer, answered) = oneshot::channel();
        match self.program()?.try_send(Ask { id, line, deadline, text, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(self.unavailable("has too much to do")),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(self.unavailable("has just ended")),
        }
        answered.await.unwrap_or_else(|_| {
            let error = self.unavailable("is not attended any more");
            Err(SubmitError { class: Class::Unknown, ..error })
        })
    }

    fn unavailable(&self, what: &str) -> SubmitError {
        SubmitError::new(Class::Unavailable, format!("{} {what}", self.spec.shown))
    }

    fn judge(&self, words: &Words, text: &str) -> Result<Receipt, SubmitError> {
        let hidden = Hidden { secrets: &self.spec.secrets, text };
        words.judge(None, &self.spec.overrides, &self.spec.shown, &hidden)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Dispatcher for Stream {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + sms.timeout;
        let request = Request::of(sms);
        let line = request.line();
        let words = self.ask(request.id, line, deadline, Arc::clone(&sms.text)).await?;
        self.judge(&words, &sms.text)
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        let begun = Instant::now();
        let id = Uuid::now_v7().to_string();
        let line = format!("{}\n", json!({ "probe": id })).into_bytes();
        let asked = self.ask(id, line, begun + PROBE_TIMEOUT, "".into()).await;
        asked.and_then(|words| self.judge(&words, "")).map_err(|error| match error.class {
            // Nothing was to be sent.
            Class::Unknown => SubmitError { class: Class::Unavailable, ..error },
            _ => error,
        })?;
        let (name, took) = (&self.spec.shown, begun.elapsed().as_millis());
        Ok(Health(format!("{name} answered in {took} ms")))
    }
}
