//! What every dispatcher that speaks HTTP does alike: ask, judge a status, and put foreign words into errors.
//!
//! What a request looks like and what a body means is each dispatcher's own.

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::http::{StatusCode, response};
use jiff::Timestamp;
use tokio::time::Instant;

use super::http_client::{Answer, Body, Client, Failure, PROBE_TIMEOUT};
use super::quote::quote;
use super::status::{HttpStatuses, Status};
use super::url_template::{Origin, escape};
use super::{Class, Health, SubmitError};

/// A gateway as a dispatcher sees it.
pub struct Gateway {
    /// The URL as people may see it.
    pub shown: String,
    /// What must never show.
    pub secrets: Vec<String>,
    /// What its statuses mean.
    pub statuses: HttpStatuses,
    /// Where it is.
    pub origin: Origin,
    /// The way there.
    pub client: Client,
}

impl Gateway {
    /// What a status means.
    pub fn status(&self, code: StatusCode, headers: &HeaderMap) -> Status {
        self.statuses.of(code.as_u16(), retry_after(headers), Timestamp::now())
    }

    /// Sends a request, once. `text` is what the SMS says: it is kept out of the words of an error.
    ///
    /// # Errors
    /// [`Class::Unavailable`] if nothing was written, else [`Class::Unknown`].
    pub async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        matters: impl Fn(&response::Parts) -> Body,
        text: &str,
    ) -> Result<Answer, SubmitError> {
        self.client.send(request, deadline, matters).await.map_err(|failure| self.failed(&failure, text))
    }

    /// Connects and lets go again.
    ///
    /// # Errors
    /// [`Class::Unavailable`].
    pub async fn probe(&self) -> Result<Health, SubmitError> {
        let begun = Instant::now();
        self.client.probe(begun + PROBE_TIMEOUT).await.map_err(|failure| self.failed(&failure, ""))?;
        let (origin, took) = (&self.origin, begun.elapsed().as_millis());
        Ok(Health(format!("connected to {}:{} in {took} ms", origin.authority.host(), origin.port())))
    }

    /// An answer that is no acceptance; `why` follows the status in the words.
    pub fn refused(&self, answer: &Answer, class: Class, why: &str, text: &str) -> SubmitError {
        let reason = answer.status.canonical_reason().unwrap_or("(no usual status)");
        let body = quote(&answer.body, &self.secrets, &forms(text));
        let colon = if body.is_empty() { "" } else { ": " };
        let code = answer.status.as_str();
        let words = format!("{}: gateway answered {code} {reason}{why}{colon}{body}", self.shown);
        SubmitError::new(class, words).code(code)
    }

    /// A gateway's reference, fit for the ledger: short, and no secret. `None` if nothing is left of it.
    pub fn reference(&self, found: &str) -> Option<String> {
        let mut reference = quote(found.as_bytes(), &self.secrets, &[]);
        crate::telemetry::clip(&mut reference, REFERENCE_MAX);
        (!reference.is_empty()).then_some(reference)
    }

    fn failed(&self, failure: &Failure, text: &str) -> SubmitError {
        let class = match failure {
            Failure::Unwritten(_) => Class::Unavailable,
            Failure::Unanswered(_) => Class::Unknown,
            Failure::Denied(_) => Class::Misconfigured,
        };
        let words = quote(failure.to_string().as_bytes(), &self.secrets, &forms(text));
        SubmitError::new(class, format!("{}: {words}", self.shown))
    }
}

/// `Retry-After` as it came.
pub fn retry_after(headers: &HeaderMap) -> Option<&str> {
    headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap_or_default())
}

/// The value of `Authorization` for a user and password (RFC 7617).
pub fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", BASE64_STANDARD.encode([user, b":", password].concat()))
}

/// The forms in which a gateway may give back what it was sent.
pub fn forms(value: &str) -> Vec<String> {
    let percent: String = escape(value).collect();
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let xml = quick_xml::escape::escape(value).into_owned();
    let mut forms = vec![value.to_owned(), percent.replace("%20", "+"), percent, json, xml];
    forms.sort();
    forms.dedup();
    forms
}

/// The same of a secret, also coded.
pub fn secret_forms(secret: &str) -> Vec<String> {
    let mut forms = forms(secret);
    if secret.len() >= CODED_MIN {
        forms.extend([hex::encode(secret), secret.chars().rev().collect()]);
        forms.extend((0..3).map(|shift| in_base64(secret, shift)));
    }
    forms
}

/// What is shorter is coded into what may stand anywhere.
const CODED_MIN: usize = 6;

/// What of a value's base64 does not depend on what stands around it, so many bytes behind the start of a group of three.
fn in_base64(value: &str, shift: usize) -> String {
    let coded = BASE64_STANDARD_NO_PAD.encode([&[0; 3][..shift], value.as_bytes()].concat());
    let (start, end) = ((shift * 8).div_ceil(6), (shift + value.len()) * 8 / 6);
    coded.get(start..end).unwrap_or_default().to_owned()
}

/// Secrets in the order in which they are looked for: longest first, so that a part never hides the whole.
pub fn hidden(mut secrets: Vec<String>) -> Vec<String> {
    secrets.retain(|secret| !secret.trim().is_empty());
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// Bytes of a reference that are kept.
const REFERENCE_MAX: usize = 100;
