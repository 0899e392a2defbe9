//! A SOAP service that sends an SMS by one call, as NAV's BoostDispatcher knows it:
//! `sendMessage(username, password, sender, phone, message)` with a result that is true if it took the SMS.
//!
//! What an answer means: its HTTP status decides by the table, but for 2xx and 500, where the envelope has the word.
//!
//! | envelope | class |
//! | --- | --- |
//! | a result that is true ([`soap::read`]) | accepted |
//! | one that is not | `Failed`: it says no, and not whether it said no before it passed the SMS on |
//! | fault `Client` (SOAP 1.2: `Sender`) | `Rejected`: "should not be resent without change" (SOAP 1.1 §4.4.1), as HTTP 400 |
//! | fault `Client.Authentication`, `Client.Authorization` | `Misconfigured` |
//! | fault `VersionMismatch`, `MustUnderstand` | `Misconfigured`: that is no service for this dispatcher |
//! | fault `Server` (`Receiver`), any other | `Failed`: the method may have run half way |
//! | none that can be read, after 2xx | `Unknown` |
//! | none that can be read, after 500 | by the table: `Failed` |
//!
//! Services differ in what they call whose fault: `class.CODE` overrides a fault code or a beginning of it up to a dot
//! (`class.server.userexception`) as well as an HTTP status, which then counts for faults that come with it, too.
//! Deliberately absent: judging by a fault's words.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::header::{RETRY_AFTER, USER_AGENT};
use hyper::http::{Method, response};
use hyper::{Request, StatusCode};
use jiff::Timestamp;
use quick_xml::escape::{escape, partial_escape};
use tokio::time::Instant;

use super::http_client::{Answer, Body, CONNECT_TIMEOUT, Client, Failure};
use super::http_gateway::secret_forms;
use super::quote::quote;
use super::soap::{self, Reply};
use super::status::{HttpStatuses, Status};
use super::url_template::{UrlError, UrlTemplate};
use super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use crate::config::Secret;

/// Its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `url` of the service. Secret, since a user and a password may stand in it.
    pub url: Secret<String>,
    /// `username`.
    pub username: String,
    /// `password`.
    pub password: Secret<String>,
    /// `sender`.
    pub sender: String,
    /// `method`: what is called.
    pub method: String,
    /// `namespace` of the method; `None`: it has none.
    pub namespace: Option<String>,
    /// `soapaction`, without the quotes that it has in the header.
    pub soapaction: String,
    /// `parameters`: the names of the arguments and what they hold, in order.
    pub parameters: Vec<(String, Argument)>,
    /// `reference`: the element of an answer that holds the message's reference.
    pub reference: Option<String>,
}

/// What an argument holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The configured user.
    Username,
    /// The configured password.
    Password,
    /// The configured sender.
    Sender,
    /// The recipient's number.
    Phone,
    /// The text.
    Message,
}

impl Argument {
    /// All, in the order of NAV's call.
    pub const ALL: [(&'static str, Argument); 5] = [
        ("username", Argument::Username),
        ("password", Argument::Password),
        ("sender", Argument::Sender),
        ("phone", Argument::Phone),
        ("message", Argument::Message),
    ];
}

/// The method that NAV calls.
pub const METHOD: &str = "sendMessage";

/// NAV's arguments, which SOAPpy names by their places: `v1` to `v5`.
pub fn default_parameters() -> Vec<(String, Argument)> {
    (1..).zip(Argument::ALL).map(|(n, (_, argument))| (format!("v{n}"), argument)).collect()
}

/// Hands an SMS to a SOAP service, one call each.
pub struct BoostDispatcher {
    settings: Settings,
    url: UrlTemplate,
    statuses: HttpStatuses,
    /// The overrides as configured: codes of HTTP and of faults, in lower case.
    classes: BTreeMap<String, Status>,
    limits: Limits,
    headers: HeaderMap,
    secrets: Vec<String>,
    client: Client,
}

/// What is wrong with its configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The SOAP action can not stand in a header.
    #[error("it can not stand in an HTTP header")]
    Action,
    /// A number that is none of HTTP's.
    #[error("{0:?} is no HTTP status; expected 100 to 999, or the code of a fault")]
    Class(String),
}

impl SettingsError {
    /// The key that is at fault.
    pub fn key(&self) -> String {
        match self {
            SettingsError::Url(_) => "url".to_owned(),
            SettingsError::Action => "soapaction".to_owned(),
            SettingsError::Class(code) => format!("class.{code}"),
        }
    }
}

impl BoostDispatcher {
    /// A dispatcher to the service at `settings.url`; `classes` are codes of HTTP (numbers) and of faults.
    ///
    /// # Errors
    /// What can not be used.
    pub fn new(
        settings: Settings,
        classes: &BTreeMap<String, Status>,
        limits: Limits,
    ) -> Result<BoostDispatcher, SettingsError> {
        let url = UrlTemplate::with_or_without_places(settings.url.reveal())?;
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            let mut value = HeaderValue::from_str(value).map_err(|_| SettingsError::Action)?;
            value.set_sensitive(name == AUTHORIZATION);
            headers.insert(name, value);
            Ok::<_, SettingsError>(())
        };
        set(HOST, url.origin.authority.as_str())?;
        set(USER_AGENT, concat!("smsd/", env!("CARGO_PKG_VERSION")))?;
        set(ACCEPT, "text/xml, */*")?;
        set(CONTENT_TYPE, "text/xml; charset=UTF-8")?;
        set(HeaderName::from_static("soapaction"), &format!("\"{}\"", settings.soapaction))?;
        if let Some(basic) = &url.basic {
            set(AUTHORIZATION, basic)?;
        }
        let by_status = classes.iter().filter(|(code, _)| is_status(code));
        let statuses = HttpStatuses::new(&by_status.map(|(code, s)| (code.clone(), *s)).collect());
        let statuses = statuses.map_err(SettingsError::Class)?;
        let mut secrets = url.secrets.clone();
        secrets.extend(secret_forms(settings.password.reveal()));
        secrets.retain(|secret| !secret.trim().is_empty());
        Ok(BoostDispatcher {
            client: Client::new(url.origin.clone()),
            statuses,
            classes: classes.clone(),
            settings,
            url,
            limits,
            headers,
            secrets,
        })
    }

    fn envelope(&self, sms: &Sms) -> std::io::Result<Vec<u8>> {
        let settings = &self.settings;
        let value = |argument: &Argument| match argument {
            Argument::Username => settings.username.as_str(),
            Argument::Password => settings.password.reveal(),
            Argument::Sender => &settings.sender,
            Argument::Phone => sms.recipient.as_str(),
            Argument::Message => &sms.text,
        };
        let arguments = settings.parameters.iter().map(|(name, argument)| (name.as_str(), value(argument)));
        soap::call(&settings.method, settings.namespace.as_deref(), arguments)
    }

    /// What an answer means.
    ///
    /// # Errors
    /// What the module's table says.
    pub fn judge(&self, answer: &Answer, text: &str) -> Result<Receipt, SubmitError> {
        let status = answer.status.as_str();
        let (by_status, overridden) = (self.status(answer), self.classes.contains_key(status));
        let taken = answer.status.is_success();
        let reply =
            has_the_word(answer.status).then(|| soap::read(&answer.body, self.settings.reference.as_deref()));
        let (meaning, code, why) = match reply {
            Some(Ok(Reply::Fault { code, words })) => {
                let meaning = self.fault(&code).or(overridden.then_some(by_status));
                let why =
                    if words.is_empty() { format!("fault {code}") } else { format!("fault {code}: {words}") };
                (meaning.unwrap_or_else(|| Status::Refused(class_of_fault(&code))), Some(code), why)
            }
            Some(Ok(Reply::Result { truth: true, reference })) if taken && !overridden => {
                return Ok(Receipt { references: self.reference(reference) });
            }
            Some(Ok(Reply::Result { truth: false, .. })) if taken && !overridden => {
                (Status::Refused(Class::Failed), None, "the result is not true".to_owned())
            }
            Some(Err(why)) if taken && !overridden => {
                let why = format!("{why}: {}", String::from_utf8_lossy(&answer.body));
                (Status::Refused(Class::Unknown), None, why)
            }
            _ => (by_status, None, String::from_utf8_lossy(&answer.body).into_owned()),
        };
        let Status::Refused(class) = meaning else { return Ok(Receipt::default()) };
        let reason = answer.status.canonical_reason().unwrap_or("(no usual status)");
        let why = self.quoted(&why, text);
        let colon = if why.is_empty() { "" } else { ": " };
        let words = format!("{}: service answered {status} {reason}{colon}{why}", self.url.shown);
        let mut code = self.quoted(code.as_deref().filter(|code| !code.is_empty()).unwrap_or(status), text);
        crate::telemetry::clip(&mut code, CODE_MAX);
        Err(SubmitError::new(class, words).code(code))
    }

    fn status(&self, answer: &Answer) -> Status {
        let retry_after = answer.headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap_or_default());
        self.statuses.of(answer.status.as_u16(), retry_after, Timestamp::now())
    }

    /// What the operator says of a fault: of its code, or of what stands before one of the code's dots.
    fn fault(&self, code: &str) -> Option<Status> {
        let code = code.to_ascii_lowercase();
        let ends = code.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at);
        let mut beginnings = std::iter::once(code.len()).chain(ends.rev()).filter_map(|end| code.get(..end));
        beginnings.find_map(|code| self.classes.get(code).copied())
    }

    /// Foreign words for the ledger: short, and no secret.
    fn reference(&self, found: Option<String>) -> Vec<String> {
        let found = found.map(|found| {
            let mut reference = self.quoted(&found, "");
            crate::telemetry::clip(&mut reference, REFERENCE_MAX);
            reference
        });
        found.into_iter().collect()
    }

    fn failed(&self, failure: &Failure, text: &str) -> SubmitError {
        let class = match failure {
            Failure::Unwritten(_) => Class::Unavailable,
            Failure::Unanswered(_) => Class::Unknown,
            Failure::Denied(_) => Class::Misconfigured,
        };
        SubmitError::new(class, format!("{}: {}", self.url.shown, self.quoted(&failure.to_string(), text)))
    }

    fn quoted(&self, foreign: &str, text: &str) -> String {
        quote(foreign.as_bytes(), &self.secrets, &forms(text))
    }
}

/// Bytes of a reference that are kept.
const REFERENCE_MAX: usize = 100;

/// Bytes of a fault's code that are kept.
const CODE_MAX: usize = 60;

#[async_trait]
impl Dispatcher for BoostDispatcher {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + sms.timeout;
        let refused = |why: String| SubmitError::new(Class::Rejected, format!("{}: {why}", self.url.shown));
        let envelope =
            self.envelope(sms).map_err(|e| refused(format!("the call can not be written: {e}")))?;
        let mut request = Request::new(Full::<Bytes>::from(envelope));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = self.headers.clone();
        let target = self.url.target(&sms.recipient, &sms.text).parse();
        *request.uri_mut() = target.map_err(|_| refused("the SMS is too long for a URL".into()))?;
        let matters =
            |head: &response::Parts| if has_the_word(head.status) { Body::Decides } else { Body::Quoted };
        match self.client.send(request, deadline, matters).await {
            Ok(answer) => self.judge(&answer, &sms.text),
            Err(failure) => Err(self.failed(&failure, &sms.text)),
        }
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        let begun = Instant::now();
        self.client.probe(begun + CONNECT_TIMEOUT).await.map_err(|failure| self.failed(&failure, ""))?;
        let (origin, took) = (&self.url.origin, begun.elapsed().as_millis());
        Ok(Health(format!("connected to {}:{} in {took} ms", origin.authority.host(), origin.port())))
    }
}

/// Is a `class.CODE` of this form one of HTTP? All others are of faults.
pub fn is_status(code: &str) -> bool {
    code.bytes().all(|b| b.is_ascii_digit())
}

/// After these statuses the envelope decides (SOAP 1.1 §6.2).
fn has_the_word(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::INTERNAL_SERVER_ERROR
}

fn class_of_fault(code: &str) -> Class {
    let mut parts = code.split('.');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("Client" | "Sender", Some("Authentication" | "Authorization")) => Class::Misconfigured,
        ("Client" | "Sender", _) => Class::Rejected,
        ("VersionMismatch" | "MustUnderstand", _) => Class::Misconfigured,
        _ => Class::Failed,
    }
}

/// A value in the forms in which a service may give it back.
fn forms(value: &str) -> [String; 3] {
    [value.to_owned(), escape(value).into_owned(), partial_escape(value).into_owned()]
}
