//! A phone or modem through the program `gammu`.
//!
//! One run of `gammu sendsms` per SMS, and nothing is kept between them: a driver that hangs or crashes stays outside,
//! a phone that was opened is of no use once it is unplugged, and a run costs 15 ms beside opening the phone. The
//! phone can only be opened once, so that SMS go one after the other, whatever `concurrency` says.
//!
//! The text is an argument: the word after `-textutf8` is never an option and never a file, whatever it begins with,
//! and is read as UTF-8 in any locale; what comes by standard input is cut at 5,000 bytes and goes through the locale.
//! gammu left alone cuts what is longer than one part (without `-len`), and sends `?` for what GSM 03.38 lacks
//! (without `-unicode`): both are said, by our own measure, so that what is sent is what was composed.
//!
//! Deliberately absent: the library (a crash would be ours), the content of gammurc, which may hold a PIN, and
//! delivery reports, which gammu shows to nobody who does not stay.
//!
//! Facts about gammu are of version 1.42, read in its source and tried out with it. Which version runs is asked once
//! (`gammu --version`): what a run that was killed has not said proves something only of one that is known to say it.

pub mod codes;
mod answer;
mod health;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::time::{Instant, timeout_at};

use super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use crate::os::child::{self, Run};
use crate::sms::{Encoding, measure, ucs2};
use answer::Answer;
use codes::Codes;

/// Its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `command`: the program, by its path or by its name on the `PATH`.
    pub command: OsString,
    /// `config`: the gammurc; `None`: gammu looks for it itself (`$XDG_CONFIG_HOME/gammu/config`, `~/.gammurc`,
    /// `/etc/gammurc`).
    pub config: Option<PathBuf>,
    /// `section`: the number of the section in it, 0 being `[gammu]`; `None`: gammu takes the first that answers.
    pub section: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { command: "gammu".into(), config: None, section: None }
    }
}

/// Segments of one SMS at most. gammu has room for 5,000 characters, writes beyond it, and sends at most 50 parts,
/// dropping the rest; 30 parts are at most 4,590 characters.
pub const MAX_SEGMENTS: u8 = 30;

/// The longest time for a probe; a phone takes seconds to open. The engine waits for 30 s.
const PROBE_TIMEOUT: Duration = Duration::from_secs(25);

/// Of it at most for the strength of the signal, which tells people something and us nothing.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time for `gammu --version`, which opens no phone.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Hands an SMS to a phone.
pub struct GammuDispatcher {
    settings: Settings,
    codes: Codes,
    limits: Limits,
    /// Whoever holds it may open the phone.
    phone: Mutex<()>,
    /// True if it is of a version that is known to say when it begins to send.
    tells: OnceCell<bool>,
}

impl GammuDispatcher {
    /// A dispatcher to the phone of a gammurc.
    pub fn new(settings: Settings, codes: Codes, limits: Limits) -> GammuDispatcher {
        let max_segments = limits.max_segments.map_or(MAX_SEGMENTS, |n| n.min(MAX_SEGMENTS));
        GammuDispatcher {
            settings,
            codes,
            limits: Limits { max_segments: Some(max_segments) },
            phone: Mutex::new(()),
            tells: OnceCell::new(),
        }
    }

    /// gammu with what stands before its command. It speaks English, which is what we read, in UTF-8.
    fn gammu(&self) -> Command {
        let mut gammu = child::command(&self.settings.command);
        gammu.env("LC_ALL", "C.UTF-8");
        if let Some(dir) = std::env::var_os("XDG_CONFIG_HOME") {
            gammu.env("XDG_CONFIG_HOME", dir);
        }
        if let Some(config) = &self.settings.config {
            gammu.arg("-c").arg(config);
        }
        if let Some(section) = self.settings.section {
            gammu.arg("-s").arg(section.to_string());
        }
        gammu
    }

    /// Waits until nobody else has the phone open.
    async fn phone(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, SubmitError> {
        let busy = "the phone was busy with another SMS until the time was up";
        timeout_at(deadline, self.phone.lock()).await.map_err(|_| SubmitError::new(Class::Unavailable, busy))
    }

    async fn run(&self, gammu: &mut Command, input: &[u8], deadline: Instant) -> Result<Run, SubmitError> {
        child::run(gammu, input, deadline).await.map_err(|error| {
            let command = self.settings.command.display();
            match error.kind() {
                io::ErrorKind::NotFound => SubmitError::new(
                    Class::Misconfigured,
                    format!("{command} is not there: install gammu, or set command to where it is"),
                ),
                io::ErrorKind::PermissionDenied => {
                    SubmitError::new(Class::Misconfigured, format!("{command} may not be run: {error}"))
                }
                _ => SubmitError::new(Class::Unavailable, format!("{command} can not be run: {error}")),
            }
        })
    }

    /// Is it a version that is known to say when it begins to send? While that can not be found out, it is not.
    async fn tells(&self, deadline: Instant) -> bool {
        let deadline = deadline.min(Instant::now() + VERSION_TIMEOUT);
        let ask = async || {
            let mut gammu = child::command(&self.settings.command);
            gammu.env("LC_ALL", "C.UTF-8").arg("--version");
            let run = self.run(&mut gammu, b"", deadline).await?;
            let said = String::from_utf8_lossy(&run.stdout).into_owned();
            answer::is_known(&said).ok_or_else(|| SubmitError::new(Class::Unavailable, "no version"))
        };
        self.tells.get_or_try_init(ask).await.copied().unwrap_or(false)
    }

    /// The strength of the signal in per cent, where the phone says it.
    async fn signal(&self, deadline: Instant) -> Option<u8> {
        let deadline = deadline.min(Instant::now() + SIGNAL_TIMEOUT);
        let run = self.run(self.gammu().args(["monitor", "1"]), b"", deadline).await.ok()?;
        health::signal(&String::from_utf8_lossy(&run.stdout))
    }
}

#[async_trait]
impl Dispatcher for GammuDispatcher {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + sms.timeout;
        let cost = measure(&sms.text);
        if cost.segments > usize::from(MAX_SEGMENTS) {
            let words = format!("{} parts are more than gammu can send: {MAX_SEGMENTS}", cost.segments);
            return Err(SubmitError::new(Class::Rejected, words));
        }
        let mut gammu = self.gammu();
        gammu.args(["sendsms", "TEXT", sms.recipient.as_str()]);
        if cost.encoding == Encoding::Ucs2 {
            gammu.arg("-unicode");
        }
        // It cuts the text that it has read by then: none.
        gammu.args(["-len", "5000", "-textutf8"]).arg(carried(&sms.text, cost.encoding));
        let _phone = self.phone(deadline).await?;
        let tells = self.tells(deadline).await;
        let run = self.run(&mut gammu, b"", deadline).await?;
        Answer { run: &run, codes: &self.codes, text: &sms.text, tells }.judge()
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let _phone = self.phone(deadline).await?;
        // Both by one opening of the phone.
        let run = self.run(self.gammu().arg("batch"), b"identify\nnetworkinfo\n", deadline).await?;
        let answer = Answer { run: &run, codes: &self.codes, text: "", tells: false };
        let found = health::Found::read(&String::from_utf8_lossy(&run.stdout));
        found.judge(answer.ended_well_enough())?;
        Ok(found.health(self.signal(deadline).await))
    }
}

/// A text as gammu must be given it to carry it unchanged, if it can.
///
/// It takes away one line end at the end. In UCS-2 a tilde opens an escape of Nokia's, and two are one tilde; since
/// that also happens where a part ends between the two, a text that may need parts has the small tilde U+02DC instead.
/// An argument holds no NUL, and no phone shows one. An alert without it is better than none.
fn carried(text: &str, encoding: Encoding) -> String {
    let mut text = text.replace('\0', "");
    if encoding == Encoding::Ucs2 && text.contains('~') {
        let doubled = text.replace('~', "~~");
        let fits = ucs2::units(&doubled) <= encoding.single();
        text = if fits { doubled } else { text.replace('~', "\u{2dc}") };
    }
    if text.ends_with('\n') {
        text.push('\n');
    }
    text
}
