//! A gateway that takes an SMS by GET on a URL.

use regex::Regex;

use crate::config::Secret;

/// Its keys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `url` with `%(phone)s` and `%(sms)s`. Secret, since gateways want passwords in it.
    pub url: Secret<String>,
    /// `success`: what the body of a 2xx must match.
    pub success: Option<Regex>,
}
