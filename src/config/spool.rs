//! `[spool]`: the folder from which files in smstools' format are taken.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use super::smsd_conf::MS;
use super::value;
use crate::alert;
use crate::intake::spool::Charset;

/// Its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// `folder`: `outgoing/`, `sent/` and `failed/` stand in it.
    pub folder: PathBuf,
    /// `severity` of what says nothing of it.
    pub severity: alert::Severity,
    /// `charset` of a text whose file has no `Alphabet:`.
    pub charset: Charset,
    /// `international`: a `+` is put before numbers that are international in smstools.
    pub international: bool,
    /// `group_write`: an `outgoing/` that we create may be written by its group.
    pub group_write: bool,
    /// `poll_interval`.
    pub poll_interval: Duration,
    /// `account`, which NAV's queue wants.
    pub account: Option<i32>,
}

impl SpoolConfig {
    /// One with all other keys at their defaults.
    pub fn new(folder: PathBuf) -> SpoolConfig {
        SpoolConfig {
            folder,
            severity: alert::Severity(None),
            charset: Charset::Latin9,
            international: true,
            group_write: false,
            poll_interval: Duration::from_millis(500),
            account: None,
        }
    }
}

/// No folder, no intake.
pub(super) fn read(mut s: Section<'_, '_>) -> Option<SpoolConfig> {
    let folder = s.path("folder");
    let mut spool = SpoolConfig::new(folder.clone().unwrap_or_default());
    spool.severity = alert::Severity(s.get("severity", value::integer(1..=5)));
    s.set(
        "charset",
        &mut spool.charset,
        value::one_of(&[
            ("ISO-8859-15", Charset::Latin9),
            ("UTF-8", Charset::Utf8),
            ("GSM", Charset::Gsm),
            ("UCS2", Charset::Ucs2),
        ]),
    );
    s.set("international", &mut spool.international, value::boolean);
    s.set("group_write", &mut spool.group_write, value::boolean);
    s.set("poll_interval", &mut spool.poll_interval, value::duration(50 * MS..=Duration::from_secs(3600)));
    spool.account = s.get("account", value::integer(0..=i32::MAX));
    s.close();
    folder.map(|_| spool)
}
