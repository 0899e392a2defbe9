//! The ways out: one trait, and what an answer means to the engine.
//!
//! A dispatcher knows how to hand one SMS to one gateway, and nothing else. It does not retry,
//! format, log or know of a queue; what its answer means for the alerts is decided by the engine
//! from the [`Class`] alone. Everything else in a [`SubmitError`] is for people.

pub mod boost;
pub mod debug;
pub mod gammu;
pub mod http;
pub mod exec;
pub mod http_client;
pub mod http_gateway;
pub mod http_get;
pub mod mail;
pub mod http_way;
pub mod reach;
pub mod python;
pub mod quote;
pub mod smtp;
pub mod soap;
pub mod status;
pub mod url_template;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use self::exec::stream::{Spec, Stream};
use self::smtp::meaning::Meanings;
use crate::alert::Phone;
use crate::config::{DispatcherConfig, DispatcherKind, Main};

/// A way out.
///
/// 1. It MUST map every remote answer to a [`Receipt`] or a [`Class`]; `status-classes.csv` says which.
/// 2. It MUST answer [`Class::Unknown`] when it can not tell whether the SMS was taken, and
///    [`Class::Unavailable`] only when it was certainly not taken.
/// 3. It MUST answer within [`Sms::timeout`].
/// 4. It MUST NOT retry, follow redirects, format, or log texts or secrets; no secret stands in a
///    receipt or an error.
/// 5. It MUST refuse, when it is built, configuration that it does not know or can not use.
/// 6. What stands in the text or the number never becomes protocol.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// What it can carry in one SMS.
    fn limits(&self) -> Limits;

    /// Hands one SMS to the gateway, once.
    ///
    /// # Errors
    /// [`SubmitError`]: its class says what the engine does next.
    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError>;

    /// Is the way out alive? Asked without sending an SMS.
    ///
    /// # Errors
    /// [`SubmitError`] with the class that a submit would meet now.
    async fn probe(&self) -> Result<Health, SubmitError>;
}

/// What a dispatcher can carry in one SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Segments at most, where the way out has a bound of its own; `None` leaves it to the configuration.
    pub max_segments: Option<u8>,
}

/// One composed text to one recipient, as a dispatcher sees it.
#[derive(Clone, Debug)]
pub struct Sms {
    /// The attempt that this submit belongs to: unique for ever.
    pub attempt: Uuid,
    /// What a gateway may know the SMS by: the attempt that this one repeats because nobody knows how it ended, else
    /// this one. A gateway that heeds it (an idempotency key, a Message-ID) does not send the same SMS twice.
    pub key: Uuid,
    /// Whom it is for.
    pub recipient: Phone,
    /// What the phone shall show, already composed; at most `max_segments` segments.
    pub text: Arc<str>,
    /// The longest time that this submit may take.
    pub timeout: Duration,
}

impl Sms {
    /// One that nothing is known of yet, under a new id.
    pub fn new(recipient: Phone, text: Arc<str>, timeout: Duration) -> Sms {
        let attempt = Uuid::now_v7();
        Sms { attempt, key: attempt, recipient, text, timeout }
    }
}

/// What the gateway answered when it accepted the SMS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The gateway's references, one per message that it made of the SMS; empty if it gives none.
    pub references: Vec<String>,
}

/// A healthy dispatcher's answer to a probe: a short word for people (`connected in 3 ms`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health(pub String);

/// A submit that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SubmitError {
    /// What the engine does next.
    pub class: Class,
    /// The remote's own code (`500`, `0x0000000B`, `CMS 38`), for the ledger and metrics.
    pub code: Option<String>,
    /// What happened, in words for people: no secret, no text, at most [`SubmitError::DETAIL_MAX`] bytes.
    pub detail: String,
}

impl SubmitError {
    /// The bound of `detail` in bytes; foreign words are cut there.
    pub const DETAIL_MAX: usize = 512;

    /// An error without a remote code.
    pub fn new(class: Class, detail: impl Into<String>) -> SubmitError {
        let mut detail = detail.into();
        crate::telemetry::clip(&mut detail, SubmitError::DETAIL_MAX);
        SubmitError { class, code: None, detail }
    }

    /// The same error with the remote's own code.
    pub fn code(mut self, code: impl Into<String>) -> SubmitError {
        self.code = Some(code.into());
        self
    }
}

/// Builds a configured way out. The one place that knows which type is which.
///
/// # Errors
/// [`BuildError`] names the section, the key and what to do.
pub fn build(config: &DispatcherConfig, main: &Main) -> Result<Arc<dyn Dispatcher>, BuildError> {
    let fault =
        |key: &str, problem: String| BuildError { section: config.name.clone(), key: key.into(), problem };
    let limits = Limits { max_segments: config.max_segments };
    let statuses = || {
        status::HttpStatuses::new(&config.classes).map_err(|code| {
            fault(&format!("class.{code}"), format!("{code:?} is no HTTP status; expected 100 to 999"))
        })
    };
    Ok(match &config.kind {
        DispatcherKind::Debug(settings) => {
            if let Some(code) = config.classes.keys().next() {
                return Err(fault(
                    &format!("class.{code}"),
                    "DebugDispatcher has no codes; remove the key".into(),
                ));
            }
            if !(0.0..=1.0).contains(&settings.fail_rate) {
                return Err(fault("fail_rate", format!("{} found; expected 0 to 1", settings.fail_rate)));
            }
            let built = debug::DebugDispatcher::new(settings.clone(), limits);
            Arc::new(built.map_err(|error| {
                let path = settings.log.as_deref().unwrap_or(Path::new("")).display();
                fault("log", format!("{path} can not be opened for appending: {error}"))
            })?)
        }
        DispatcherKind::Gammu(settings) => {
            let codes = gammu::codes::Codes::new(&config.classes).map_err(|code| {
                fault(&format!("class.{code}"), format!("{code:?} is no code of gammu's or of the network's"))
            })?;
            Arc::new(gammu::GammuDispatcher::new(settings.clone(), codes, limits))
        }
        DispatcherKind::HttpGet(settings) => {
            let built = http_get::HttpGetDispatcher::new(settings.clone(), statuses()?, limits);
            Arc::new(built.map_err(|error| fault("url", error.to_string()))?)
        }
        DispatcherKind::Boost(settings) => {
            let built = boost::BoostDispatcher::new(settings.clone(), &config.classes, limits);
            Arc::new(built.map_err(|error| fault(&error.key(), error.to_string()))?)
        }
        DispatcherKind::Mail(settings) => {
            let meanings = Meanings { overrides: config.classes.clone(), ..Meanings::default() };
            let built = mail::MailDispatcher::new(settings.clone(), meanings, limits);
            Arc::new(built.map_err(|error| fault(error.key, error.problem))?)
        }
        DispatcherKind::Http(settings) => {
            Arc::new(http::HttpDispatcher::new((**settings).clone(), statuses()?, limits))
        }
        DispatcherKind::Python(settings) => {
            let (window, overrides) = (config.concurrency(main), config.classes.clone());
            let spec = python::spec(&config.name, settings.clone(), window, overrides);
            Arc::new(Stream::new(spec, limits))
        }
        DispatcherKind::Exec(settings) => {
            let exec::Settings { program, mode, probe } = settings.clone();
            let no_exit_code = |code: &&String| code.parse::<u8>().is_err();
            match mode {
                exec::Mode::Oneshot => {
                    if let Some(code) = config.classes.keys().find(no_exit_code) {
                        let problem = format!("{code:?} is no exit code; expected 0 to 255");
                        return Err(fault(&format!("class.{code}"), problem));
                    }
                    let overrides = config.classes.clone();
                    Arc::new(exec::oneshot::Oneshot::new(program, probe, overrides, limits))
                }
                exec::Mode::Stream => {
                    let overrides = config.classes.clone();
                    let spec = Spec::new(&config.name, program, config.concurrency(main), overrides);
                    Arc::new(Stream::new(spec, limits))
                }
            }
        }
    })
}

/// A dispatcher that can not be built from its configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[{section}] {key}: {problem}")]
pub struct BuildError {
    /// The section: the dispatcher's name.
    pub section: String,
    /// The key that is at fault.
    pub key: String,
    /// What was found and what was expected, without secrets.
    pub problem: String,
}

/// Whose fault a refusal is, and so what the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// This SMS or number, at this dispatcher (RCPT, MSG, BUG): the others are tried once, then it is ignored.
    Rejected,
    /// This recipient, for now (RTMP): this recipient alone backs off.
    Deferred,
    /// The dispatcher, for now; the SMS was certainly not taken (DTMP): failover at once.
    Unavailable,
    /// The dispatcher's rate (THR): failover, or wait so long.
    Throttled {
        /// How long the gateway asked us to wait.
        retry_after: Duration,
    },
    /// The dispatcher, until someone acts (DPERM): failover, and out of rotation.
    Misconfigured,
    /// The gateway says that it failed, but may have passed the SMS on (ERR): as `Unavailable`, and the
    /// next attempt is marked a possible duplicate.
    Failed,
    /// Silence after bytes went out (AMB): the attempt is in doubt.
    Unknown,
}

impl Class {
    /// The word that stands in the ledger, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Rejected => "rejected",
            Class::Deferred => "deferred",
            Class::Unavailable => "unavailable",
            Class::Throttled { .. } => "throttled",
            Class::Misconfigured => "misconfigured",
            Class::Failed => "failed",
            Class::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A dispatcher's health as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct DispatcherStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its type in the configuration.
    #[serde(rename = "type")]
    pub kind: String,
    /// `up`, `down`, `throttled`, `misconfigured` or `disabled`.
    pub state: String,
    /// Why, if it is not up.
    pub reason: Option<String>,
    /// Since when, if that is known.
    pub since: Option<Timestamp>,
}
