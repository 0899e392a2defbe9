//! A gateway that takes an SMS by GET on a URL.
//!
//! GET is safe to repeat for everyone but us: each request is an SMS. So what the answer means is decided
//! by the table, by the `success` rule, and by whether a byte went out; never by trying again.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::response;
use regex::{Regex, RegexBuilder};
use tokio::time::Instant;

use super::http_client::{Answer, Body, Client};
use super::http_gateway::{Gateway, hidden, secret_forms};
use super::status::{HttpStatuses, Status};
use super::url_template::{Origin, UrlError, UrlTemplate};
use super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use crate::config::Secret;

/// Its keys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `url` with `%(phone)s` and `%(sms)s`. Secret, since gateways want passwords in it.
    pub url: Secret<String>,
    /// `success`: what the body of a 2xx must match. Its first group, if it has one, is the reference.
    pub success: Option<Regex>,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        let Settings { url, success } = self;
        *url == other.url && success.as_ref().map(Regex::as_str) == other.success.as_ref().map(Regex::as_str)
    }
}

/// Reads the rule `success`. It is bounded in size, and so are the tables that matching builds: whatever a gateway
/// answers, judging it takes little memory and time.
///
/// # Errors
/// No regular expression, or one too large.
pub fn success_rule(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(RULE_MAX).dfa_size_limit(RULE_MAX).build()
}

/// Bytes that a compiled rule may take, and each table built while matching.
const RULE_MAX: usize = 1 << 20;

/// Hands an SMS to an HTTP gateway, one request each.
pub struct HttpGetDispatcher {
    url: UrlTemplate,
    success: Option<Regex>,
    limits: Limits,
    headers: HeaderMap,
    gateway: Gateway,
}

impl HttpGetDispatcher {
    /// A dispatcher to the gateway of `settings.url`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(
        settings: Settings,
        statuses: HttpStatuses,
        limits: Limits,
    ) -> Result<HttpGetDispatcher, UrlError> {
        let url = UrlTemplate::parse(settings.url.reveal())?;
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            let mut value = HeaderValue::from_str(value).map_err(|_| UrlError::Host)?;
            value.set_sensitive(name == AUTHORIZATION);
            headers.insert(name, value);
            Ok(())
        };
        set(HOST, url.origin.authority.as_str())?;
        set(USER_AGENT, concat!("smsd/", env!("CARGO_PKG_VERSION")))?;
        set(ACCEPT, "*/*")?;
        if let Some(basic) = &url.basic {
            set(AUTHORIZATION, basic)?;
        }
        let gateway = Gateway {
            shown: url.shown.clone(),
            secrets: hidden(url.secrets.iter().flat_map(|secret| secret_forms(secret)).collect()),
            statuses,
            origin: url.origin.clone(),
            client: Client::new(url.origin.clone()),
        };
        Ok(HttpGetDispatcher { url, success: settings.success, limits, headers, gateway })
    }

    /// The same through another client of the same host: one that trusts a private authority.
    pub fn through(mut self, client: impl FnOnce(Origin) -> Client) -> HttpGetDispatcher {
        self.gateway.client = client(self.url.origin.clone());
        self
    }

    /// What an answer means. A body that breaks the `success` rule is the gateway's word that it failed, but
    /// whether it failed before it passed the SMS on, it does not say: `Failed`, which fails over, loses no
    /// alert to a rule that is wrong, and has the next attempt on record as a possible duplicate.
    pub fn judge(&self, answer: &Answer, text: &str) -> Result<Receipt, SubmitError> {
        let (class, why) = match (self.gateway.status(answer.status, &answer.headers), &self.success) {
            (Status::Refused(class), _) => (class, ""),
            (Status::Accepted, None) => return Ok(Receipt::default()),
            (Status::Accepted, Some(_)) if !answer.readable => (Class::Unknown, ", but its body broke off"),
            (Status::Accepted, Some(rule)) => match rule.captures(&String::from_utf8_lossy(&answer.body)) {
                Some(found) => {
                    let reference = found.get(1).and_then(|found| self.gateway.reference(found.as_str()));
                    return Ok(Receipt { references: reference.into_iter().collect() });
                }
                None => (Class::Failed, ", but its body does not match success"),
            },
        };
        Err(self.gateway.refused(answer, class, why, text))
    }
}

#[async_trait]
impl Dispatcher for HttpGetDispatcher {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + sms.timeout;
        let mut request = Request::new(Full::<Bytes>::default());
        *request.headers_mut() = self.headers.clone();
        *request.uri_mut() = self.url.target(&sms.recipient, &sms.text).parse().map_err(|_| {
            SubmitError::new(Class::Rejected, format!("{}: the SMS is too long for a URL", self.url.shown))
        })?;
        let matters =
            |head: &response::Parts| match (self.gateway.status(head.status, &head.headers), &self.success) {
                (Status::Accepted, Some(_)) => Body::Decides,
                _ => Body::Quoted,
            };
        let answer = self.gateway.ask(request, deadline, matters, &sms.text).await?;
        self.judge(&answer, &sms.text)
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        self.gateway.probe().await
    }
}
