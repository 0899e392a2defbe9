//! The part of the configuration that decides when an SMS goes out.

use std::time::Duration;

use crate::alert::{Phone, Severity};
use crate::config::{LimitAction, Main, OnUnknown};

/// `[main]`'s keys about time, failure and doubt.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The first back-off.
    pub delay: Duration,
    /// Its growth.
    pub delayfactor: f64,
    /// Its bound.
    pub maxdelay: Duration,
    /// Failures before `retrylimitaction`; 0 = never.
    pub retrylimit: u32,
    /// What happens then.
    pub retrylimitaction: LimitAction,
    /// Stop when every dispatcher needs a person.
    pub exit_on_permanent_error: bool,
    /// Least time between two SMS to one recipient.
    pub group_interval: Duration,
    /// Time to collect before the first SMS to an idle recipient.
    pub group_wait: Duration,
    /// Alerts this severe or more do not wait.
    pub urgent_severity: i32,
    /// What becomes of attempts in doubt.
    pub on_unknown: OnUnknown,
    /// Prefixes that may be texted.
    pub allow: Vec<String>,
    /// Prefixes that may not.
    pub deny: Vec<String>,
    /// SMS to one recipient within an hour at most; 0 = no bound.
    pub max_per_hour: u32,
    /// Alerts this severe or more are left for the next SMS rather than only counted, where `overflow` says so; 0 = none.
    pub severe: i32,
    /// By so many SMS of a storm at most.
    pub severe_sms: u32,
    /// The text of each SMS is told to the log.
    pub log_texts: bool,
}

impl Policy {
    /// As configured.
    pub fn new(main: &Main) -> Policy {
        Policy {
            delay: main.delay,
            delayfactor: main.delayfactor,
            maxdelay: main.maxdelay,
            retrylimit: main.retrylimit,
            retrylimitaction: main.retrylimitaction,
            exit_on_permanent_error: main.exit_on_permanent_error,
            group_interval: main.group_interval(),
            group_wait: main.group_wait,
            urgent_severity: main.urgent_severity,
            on_unknown: main.on_unknown,
            allow: main.allow.clone(),
            deny: main.deny.clone(),
            max_per_hour: main.max_per_hour,
            severe: main.severe,
            severe_sms: main.severe_sms,
            log_texts: main.log_texts,
        }
    }

    /// May this number be texted? A denied prefix wins over an allowed one, and holds for each spelling.
    pub fn permits(&self, phone: &Phone) -> bool {
        permits(&self.allow, &self.deny, phone)
    }

    /// Is an alert of this severity never only counted, while a storm is young?
    pub fn is_severe(&self, severity: Severity) -> bool {
        self.severe > 0 && severity.at_least(self.severe)
    }

    /// Does this severity wait for nothing?
    pub fn is_urgent(&self, severity: Severity) -> bool {
        self.urgent_severity > 0 && severity.at_least(self.urgent_severity)
    }
}

/// May a number be texted, if only these prefixes are allowed (all, if none is named), and those are denied?
pub fn permits(allow: &[String], deny: &[String], phone: &Phone) -> bool {
    let allowed = allow.is_empty() || allow.iter().any(|prefix| phone.begins(prefix));
    allowed && !deny.iter().any(|prefix| phone.may_begin(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_prefix_holds_for_each_spelling_and_an_allowed_one_for_what_certainly_begins_with_it() {
        let judged = |allow: &[&str], deny: &[&str], phone: &str| {
            let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            permits(&own(allow), &own(deny), &Phone::parse(phone).unwrap())
        };
        for phone in ["+88212345678", "0088212345678", "88212345678"] {
            assert!(!judged(&[], &["+882"], phone) && !judged(&[], &["00882"], phone), "{phone}");
        }
        assert!(judged(&[], &["+882"], "88212"), "a short number is of one network");
        assert!(judged(&[], &["+882"], "+4788212345678") && !judged(&[], &["8821"], "88212"));
        for (phone, may) in
            [("+4790000001", true), ("004790000001", true), ("4790000001", false), ("112", false)]
        {
            assert_eq!(judged(&["+47"], &[], phone), may, "{phone}");
        }
        assert!(judged(&["112", "+47"], &[], "112"));
    }
}
