//! The keys of DebugDispatcher.

use std::time::Duration;

use super::super::section::Section;
use super::super::smsd_conf::HOUR;
use super::super::value;
use crate::dispatch::debug::{Outcome, Settings};

pub(super) fn read(s: &mut Section<'_, '_>) -> Settings {
    let mut settings = Settings::default();
    s.set(
        "result",
        &mut settings.result,
        value::one_of(&[
            ("success", Outcome::Success),
            ("fail", Outcome::Fail),
            ("permanent", Outcome::Permanent),
            ("error", Outcome::Error),
        ]),
    );
    s.set("latency", &mut settings.latency, value::duration(Duration::ZERO..=HOUR));
    s.set("fail_rate", &mut settings.fail_rate, value::decimal(0.0..=1.0));
    s.set("reject", &mut settings.reject, value::list(value::phone));
    settings.log = s.path("log");
    settings
}
