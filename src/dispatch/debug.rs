//! A way out that leads nowhere: for tests, demonstrations and rehearsals of trouble.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use crate::alert::Phone;

/// Its keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `result`.
    pub result: Outcome,
    /// `latency`: how long each submit takes.
    pub latency: Duration,
    /// `fail_rate`: share of submits that are answered `Unavailable`, 0 to 1.
    pub fail_rate: f64,
    /// `reject`: numbers that are always rejected.
    pub reject: Vec<Phone>,
    /// `log`: each accepted SMS as a JSON line in this file.
    pub log: Option<PathBuf>,
}

/// What every submit results in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted.
    #[default]
    Success,
    /// The dispatcher, for now (`Unavailable`).
    Fail,
    /// The dispatcher, until someone acts (`Misconfigured`).
    Permanent,
    /// The gateway failed and may have passed the SMS on (`Failed`).
    Error,
}

/// Accepts, refuses or dawdles as it is told. Its references count from 1.
pub struct DebugDispatcher {
    settings: Settings,
    limits: Limits,
    log: Option<File>,
    submits: AtomicU64,
    accepted: AtomicU64,
}

impl DebugDispatcher {
    /// Opens the log, if there is to be one; the texts in it are for its owner alone.
    ///
    /// # Errors
    /// What opening the log said.
    pub fn new(settings: Settings, limits: Limits) -> io::Result<DebugDispatcher> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let log = settings.log.as_deref().map(open).transpose()?;
        Ok(DebugDispatcher { settings, limits, log, submits: AtomicU64::new(0), accepted: AtomicU64::new(0) })
    }

    fn outcome(&self) -> Result<(), SubmitError> {
        let (class, words) = match self.settings.result {
            Outcome::Success => return Ok(()),
            Outcome::Fail => (Class::Unavailable, "result is fail"),
            Outcome::Permanent => (Class::Misconfigured, "result is permanent"),
            Outcome::Error => (Class::Failed, "result is error"),
        };
        Err(SubmitError::new(class, words))
    }

    /// Spreads the failures evenly, whatever the rate: multiples of the golden ratio, modulo 1.
    fn is_to_fail(&self) -> bool {
        let n = self.submits.fetch_add(1, Ordering::Relaxed);
        let place = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
        (place as f64) < self.settings.fail_rate * (1u64 << 53) as f64
    }

    fn write_down(&self, sms: &Sms) -> Result<(), SubmitError> {
        let Some(mut log) = self.log.as_ref() else { return Ok(()) };
        let line = Line { time: Timestamp::now(), to: &sms.recipient, text: &sms.text, attempt: sms.attempt };
        let failed = |class, words: String| Err(SubmitError::new(class, format!("log: {words}")));
        let mut bytes = match serde_json::to_vec(&line) {
            Ok(bytes) => bytes,
            Err(error) => return failed(Class::Rejected, error.to_string()),
        };
        bytes.push(b'\n');
        // One call for one line, so that lines of several writers never mix.
        match log.write(&bytes) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(n) => failed(Class::Unknown, format!("{n} of {} bytes written", bytes.len())),
            Err(error) => failed(Class::Unavailable, error.to_string()),
        }
    }
}

#[async_trait]
impl Dispatcher for DebugDispatcher {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        if self.settings.latency > sms.timeout {
            tokio::time::sleep(sms.timeout).await;
            return Err(SubmitError::new(
                Class::Unknown,
                "no answer in time: latency is longer than the timeout",
            ));
        }
        if !self.settings.latency.is_zero() {
            tokio::time::sleep(self.settings.latency).await;
        }
        if self.settings.reject.contains(&sms.recipient) {
            return Err(SubmitError::new(Class::Rejected, "the number stands in reject"));
        }
        if self.is_to_fail() {
            return Err(SubmitError::new(Class::Unavailable, "failed for fail_rate"));
        }
        self.outcome()?;
        self.write_down(sms)?;
        let reference = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Receipt { references: vec![reference.to_string()] })
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        self.outcome().map(|()| Health("accepts, and sends nothing".into()))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    to: &'a Phone,
    text: &'a str,
    attempt: Uuid,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatcher(settings: Settings) -> DebugDispatcher {
        DebugDispatcher::new(settings, Limits { max_segments: None }).unwrap()
    }

    fn sms(to: &str, text: &str) -> Sms {
        Sms::new(Phone::parse(to).unwrap(), text.into(), Duration::from_secs(30))
    }

    async fn class(dispatcher: &DebugDispatcher, to: &str) -> Option<Class> {
        dispatcher.submit(&sms(to, "hei")).await.err().map(|e| e.class)
    }

    #[tokio::test]
    async fn each_result_is_what_it_says() {
        for (result, want) in [
            (Outcome::Success, None),
            (Outcome::Fail, Some(Class::Unavailable)),
            (Outcome::Permanent, Some(Class::Misconfigured)),
            (Outcome::Error, Some(Class::Failed)),
        ] {
            let d = dispatcher(Settings { result, ..Settings::default() });
            assert_eq!(class(&d, "112").await, want);
            assert_eq!(d.probe().await.err().map(|e| e.class), want);
        }
    }

    #[tokio::test]
    async fn some_numbers_are_rejected_and_references_count_what_was_accepted() {
        let d = dispatcher(Settings { reject: vec![Phone::parse("112").unwrap()], ..Settings::default() });
        assert_eq!(class(&d, "112").await, Some(Class::Rejected));
        for reference in ["1", "2"] {
            assert_eq!(d.submit(&sms("113", "hei")).await.unwrap().references, [reference]);
            assert_eq!(class(&d, "112").await, Some(Class::Rejected));
        }
    }

    #[tokio::test]
    async fn the_rate_of_failures_is_kept_throughout() {
        for rate in [0.0, 0.01, 0.3, 0.5, 0.999, 1.0] {
            let d = dispatcher(Settings { fail_rate: rate, ..Settings::default() });
            let mut failed = 0;
            for n in 1..=2000 {
                failed += usize::from(class(&d, "112").await == Some(Class::Unavailable));
                assert!((failed as f64 - rate * f64::from(n)).abs() <= 4.0, "{failed} of {n} at {rate}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_kept_and_the_deadline_too() {
        let d = dispatcher(Settings { latency: Duration::from_millis(1500), ..Settings::default() });
        let begun = tokio::time::Instant::now();
        assert_eq!(class(&d, "112").await, None);
        assert_eq!(begun.elapsed(), Duration::from_millis(1500));
        let hasty = Sms { timeout: Duration::from_secs(1), ..sms("112", "hei") };
        assert_eq!(d.submit(&hasty).await.unwrap_err().class, Class::Unknown);
        assert_eq!(begun.elapsed(), Duration::from_millis(2500));
    }

    #[tokio::test]
    async fn the_log_has_what_was_accepted_a_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("sent.jsonl");
        let d = dispatcher(Settings { log: Some(log.clone()), fail_rate: 0.5, ..Settings::default() });
        let mut accepted = Vec::new();
        for n in 0..20 {
            let sms = sms("+4799999999", &format!("{n} \"æøå\"\n€\0"));
            if d.submit(&sms).await.is_ok() {
                accepted.push((sms.attempt.to_string(), sms.text.to_string()));
            }
        }
        let written = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<serde_json::Value> =
            written.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_string();
        let logged: Vec<_> = lines.iter().map(|l| (word(l, "attempt"), word(l, "text"))).collect();
        assert_eq!(logged, accepted);
        assert!(
            lines
                .iter()
                .all(|l| word(l, "to") == "+4799999999" && word(l, "time").parse::<Timestamp>().is_ok())
        );
        assert!(accepted.len() > 5 && accepted.len() < 15);
    }

    #[tokio::test]
    async fn a_log_that_takes_nothing_accepts_nothing() {
        let d = dispatcher(Settings { log: Some("/dev/full".into()), ..Settings::default() });
        assert_eq!(class(&d, "112").await, Some(Class::Unavailable));
        assert!(
            DebugDispatcher::new(
                Settings { log: Some("/no/such/folder/log".into()), ..Settings::default() },
                Limits { max_segments: None }
            )
            .is_err()
        );
    }
}
