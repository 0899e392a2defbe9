//! Any HTTP gateway, by configuration.
//!
//! A request is made of [templates](template), an answer is judged by [rules], and [presets] hold both for gateways
//! that are known. A request is a pure function of the configuration and the SMS: one that is sent again under the
//! same [`Sms::key`] is the same byte for byte, unless its template asks for `attempt`.
//!
//! Deliberately absent: digest authentication (no maintained library has it without a client of its own), OAuth,
//! signatures, more than one request for one SMS.

pub mod presets;
pub mod rules;
pub mod template;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::http::response;
use hyper::http::uri::{Authority, PathAndQuery};
use jiff::Timestamp;
use regex::Regex;
use tokio::time::Instant;

use self::rules::{Reference, Rules, Verdict};
use self::template::{Context, Template, TemplateError, Values};
use super::http_client::{Answer, Body, Client};
use super::http_gateway::{self, Gateway, hidden, retry_after, secret_forms};
use super::http_way::Way;
use super::status::{DEFAULT_RETRY_AFTER, HttpStatuses, Status, parse_retry_after};
use super::url_template::{self, Origin, PHONE, UrlError, apart, is_sound, rooted};
use super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use crate::alert::Phone;
use crate::config::Secret;
use crate::sms::{Encoding, measure};

/// Its keys, put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What is sent.
    pub request: Request,
    /// What comes back, and what it means.
    pub rules: Rules,
    /// `reference`: where an answer has it.
    pub reference: Option<Reference>,
    /// `tls_ca`, `tls_cert`, `tls_key`, `proxy`.
    pub way: Way,
    /// `idempotency_window`: for how long the gateway knows a repeated SMS by its key; 0 if that is not said.
    pub remembers: Duration,
}

/// The names that every SMS brings to the templates.
pub const NAMES: [&str; 8] =
    ["phone", "phone_digits", "text", "key", "attempt", "encoding", "unicode", "segments"];

/// The names that keys of their own set, beside `var.NAME`.
pub const SETTABLE: [&str; 4] = ["username", "password", "token", "sender"];

/// How we say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not, or in the templates.
    None,
    /// `basic` (RFC 7617).
    Basic(String, Secret<String>),
    /// `bearer` (RFC 6750) and `header NAME`: this value in this field.
    Header(HeaderName, Secret<String>),
    /// `query NAME`: one more parameter.
    Query(String, Secret<String>),
}

/// What a request is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// GET, POST or PUT.
    pub method: Method,
    /// The whole URL, a template behind its host.
    pub url: Secret<String>,
    /// Fields beside our own.
    pub headers: Vec<(HeaderName, Template)>,
    /// The body and its `Content-Type`.
    pub body: Option<(HeaderValue, Template)>,
    /// How we say who we are.
    pub auth: Auth,
    /// `idempotency: header NAME`: where [`Sms::key`] goes.
    pub key_header: Option<HeaderName>,
    /// What the configuration gives to the templates.
    pub constants: Values,
    /// The values among them that must not show.
    pub secrets: Vec<Secret<String>>,
}

impl Parts {
    /// The names that the templates ask for, each behind the key of its template. Of a URL that is no template: none.
    pub fn names(&self) -> Vec<(String, String)> {
        let url = Template::parse(self.url.reveal(), Context::Target).ok();
        let mut all: Vec<(String, &Template)> =
            url.iter().map(|template| ("url".to_owned(), template)).collect();
        all.extend(self.headers.iter().map(|(name, template)| (format!("header.{name}"), template)));
        all.extend(self.body.iter().map(|(_, template)| ("body".to_owned(), template)));
        let names = |(key, template): &(String, &Template)| {
            template.names().iter().map(|name| (key.clone(), name.clone())).collect::<Vec<_>>()
        };
        all.iter().flat_map(names).collect()
    }
}

/// A request for any SMS; every template of it has been tried.
#[derive(Clone)]
pub struct Request {
    parts: Parts,
    origin: Origin,
    shown: String,
    target: Template,
    fixed: HeaderMap,
    secrets: Vec<String>,
}

impl PartialEq for Request {
    /// All else comes of its parts.
    fn eq(&self, other: &Request) -> bool {
        self.parts == other.parts
    }
}

/// Why a request can not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct RequestError {
    /// The key that is at fault: `url`, `body` or `header.NAME`.
    pub key: String,
    /// The line of its value, from 1, if that is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

impl Request {
    /// Puts a request together and tries it with SMS of each kind.
    ///
    /// # Errors
    /// [`RequestError`] shows no value of the configuration.
    pub fn new(parts: Parts) -> Result<Request, RequestError> {
        let of_url = |why: UrlError| fault("url", None, why.to_string());
        let url = parts.url.reveal().clone();
        if url.contains("%(phone)s") || url.contains("%(sms)s") {
            return Err(fault("url", None, "here the places are {{ phone }} and {{ text }}"));
        }
        let apart = apart(&url, &["{{", "{%", "{#"]).map_err(of_url)?;
        let target = Template::parse(&rooted(apart.target.to_owned()), Context::Target)
            .map_err(|error| located("url", error))?;
        let mut fixed = HeaderMap::new();
        fixed.insert(HOST, host(&apart.origin.authority).map_err(of_url)?);
        fixed.insert(USER_AGENT, HeaderValue::from_static(concat!("smsd/", env!("CARGO_PKG_VERSION"))));
        fixed.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some((content_type, _)) = &parts.body {
            fixed.insert(CONTENT_TYPE, content_type.clone());
        }
        let login = match (&parts.auth, apart.user) {
            (Auth::None | Auth::Query(..), Some(user)) => Some((AUTHORIZATION, url_template::basic(user))),
            (Auth::Basic(user, password), _) => {
                Some((AUTHORIZATION, http_gateway::basic(user.as_bytes(), password.reveal().as_bytes())))
            }
            (Auth::Header(name, value), _) => Some((name.clone(), value.reveal().clone())),
            (Auth::None | Auth::Query(..), None) => None,
        };
        if let Some((name, value)) = &login {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| fault("auth", None, "the secret has characters that no header can have"))?;
            value.set_sensitive(true);
            fixed.insert(name, value);
        }
        let mut secrets = url_template::secrets(apart.user.unwrap_or(""), &without_places(apart.target));
        secrets.extend(login.iter().flat_map(|(_, value)| [value.clone(), value.replace("Basic ", "")]));
        secrets.extend(parts.secrets.iter().flat_map(|secret| secret_forms(secret.reveal())));
        let mut request = Request {
            origin: apart.origin,
            shown: apart.shown,
            target,
            fixed,
            secrets: Vec::new(),
            parts: parts.clone(),
        };
        secrets.extend(request.literals());
        request.secrets = hidden(secrets);
        request.check()?;
        Ok(request)
    }

    /// The request for one SMS.
    ///
    /// # Errors
    /// A template that fails for this SMS, though it did not for those that it was tried with.
    pub fn of(&self, sms: &Sms) -> Result<hyper::Request<Full<Bytes>>, RequestError> {
        let values = self.values(sms);
        let mut target = self.target.render(&values).map_err(|error| located("url", error))?;
        if let Auth::Query(name, value) = &self.parts.auth {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.extend(url_template::escape(name));
            target.push('=');
            target.extend(url_template::escape(value.reveal()));
        }
        if let Some(odd) = target.chars().find(|c| !is_sound(*c)) {
            let problem = format!("{odd:?} can not stand in a URL; write it percent-encoded");
            return Err(fault("url", None, problem));
        }
        let target: PathAndQuery = target
            .parse()
            .map_err(|_| fault("url", None, "it is too long; expected at most 65,534 bytes"))?;
        let mut headers = self.fixed.clone();
        for (name, template) in &self.parts.headers {
            let key = format!("header.{name}");
            let value = template.render(&values).map_err(|error| located(&key, error))?;
            let value = HeaderValue::from_str(&value)
                .map_err(|_| fault(&key, None, "it has characters that no header can have"))?;
            headers.insert(name, value);
        }
        if let Some(name) = &self.parts.key_header {
            let value =
                HeaderValue::from_str(&sms.key.to_string()).map_err(|_| fault("idempotency", None, "?"))?;
            headers.insert(name, value);
        }
        let body = match &self.parts.body {
            Some((_, template)) => template.render(&values).map_err(|error| located("body", error))?,
            None => String::new(),
        };
        let mut request = hyper::Request::new(Full::from(body));
        *request.method_mut() = self.parts.method.clone();
        *request.headers_mut() = headers;
        *request.uri_mut() = target.into();
        Ok(request)
    }

    fn values(&self, sms: &Sms) -> Values {
        let phone = sms.recipient.as_str();
        let measure = measure(&sms.text);
        let mut values = self.parts.constants.clone();
        values.set("phone", phone);
        values.set("phone_digits", phone.trim_start_matches('+'));
        values.set("text", &*sms.text);
        values.set("key", sms.key.to_string());
        values.set("attempt", sms.attempt.to_string());
        values.set("encoding", measure.encoding.to_string());
        values.set("unicode", measure.encoding == Encoding::Ucs2);
        values.set("segments", measure.segments as u64);
        values
    }

    fn check(&self) -> Result<(), RequestError> {
        let names = self.parts.names();
        for (key, name) in &names {
            if key.starts_with("header.") && name == "text" {
                return Err(fault(key, None, "the text can not stand in a header"));
            }
        }
        let has = |wanted: &[&str]| names.iter().any(|(_, name)| wanted.contains(&name.as_str()));
        for (names, what) in [(["text", "text"], "text"), (["phone", "phone_digits"], "number")] {
            if !has(&names) {
                let at = if self.parts.body.is_some() { "body" } else { "url" };
                let place = if what == "text" { "{{ text }}" } else { "{{ phone }} or {{ phone_digits }}" };
                return Err(fault(
                    at,
                    None,
                    format!("the {what} stands nowhere; put {place} where it belongs"),
                ));
            }
        }
        for sms in samples() {
            self.of(&sms)?;
            if let Some((_, template)) = &self.parts.body {
                let body = template.render(&self.values(&sms)).map_err(|error| located("body", error))?;
                sound(template.context(), &body).map_err(|(line, why)| fault("body", line, why))?;
            }
        }
        Ok(())
    }

    /// What the operator has written out in headers and in the body, where it is long enough for a secret.
    fn literals(&self) -> Vec<String> {
        let Some(sms) = samples().into_iter().next() else { return Vec::new() };
        let values = self.values(&sms);
        let render = |template: &Template| template.render(&values).unwrap_or_default();
        let mut found: Vec<String> =
            self.parts.headers.iter().map(|(_, template)| render(template)).collect();
        if let Some((_, template)) = &self.parts.body {
            let body = render(template);
            match template.context() {
                Context::Json => leaves(&serde_json::from_str(&body).unwrap_or_default(), &mut found),
                _ => found.extend(body.split(['&', '=', '<', '>', '"', '\'']).map(str::to_owned)),
            }
        }
        let own = [
            sms.text.to_string(),
            sms.recipient.as_str().trim_start_matches('+').to_owned(),
            sms.key.to_string(),
        ];
        found.retain(|value| {
            value.len() >= LITERAL_MIN && !own.iter().any(|own| value.contains(own.as_str()))
        });
        found
    }
}

/// Without its words: they may hold a secret.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.parts.method).field("url", &self.shown).finish()
    }
}

/// Hands an SMS to an HTTP gateway, one request each.
pub struct HttpDispatcher {
    request: Request,
    rules: Rules,
    reference: Option<Reference>,
    limits: Limits,
    gateway: Gateway,
}

impl HttpDispatcher {
    /// A dispatcher to the gateway of these settings.
    pub fn new(settings: Settings, statuses: HttpStatuses, limits: Limits) -> HttpDispatcher {
        let Settings { request, rules, reference, way, .. } = settings;
        // A proxy answers, too, and may say what it was sent.
        let of_proxy = way.proxy.iter().flat_map(|proxy| proxy.secrets.clone());
        let gateway = Gateway {
            shown: request.shown.clone(),
            secrets: hidden(request.secrets.iter().cloned().chain(of_proxy).collect()),
            statuses,
            origin: request.origin.clone(),
            client: Client::by(request.origin.clone(), way),
        };
        HttpDispatcher { request, rules, reference, limits, gateway }
    }

    /// What an answer means: the first rule that holds, else the status.
    ///
    /// A 2xx of which no `success` rule holds is the gateway's word that it failed, but whether it failed before it
    /// passed the SMS on, it does not say: `Failed`, as with `HttpGetDispatcher`.
    pub fn judge(&self, answer: &Answer, text: &str) -> Result<Receipt, SubmitError> {
        let status = self.gateway.status(answer.status, &answer.headers);
        let accepted = status == Status::Accepted;
        let (class, why) = if accepted && !answer.readable && self.rules.need_body() {
            (Class::Unknown, ", but its body broke off")
        } else {
            match (self.rules.judge(answer, accepted), status) {
                (Some(Verdict::Success), _) => return Ok(self.receipt(answer)),
                (Some(Verdict::Reject), _) => (Class::Rejected, ", by rule reject"),
                (Some(Verdict::Defer), _) => (Class::Deferred, ", by rule defer"),
                (Some(Verdict::Throttle), _) => (throttled(answer), ", by rule throttle"),
                (Some(Verdict::Misconfigured), _) => (Class::Misconfigured, ", by rule misconfigured"),
                (Some(Verdict::Unavailable), _) => (Class::Unavailable, ", by rule unavailable"),
                (Some(Verdict::Fail), _) => (Class::Failed, ", by rule fail"),
                (None, Status::Refused(class)) => (class, ""),
                (None, Status::Accepted) if self.rules.has(Verdict::Success) => {
                    (Class::Failed, ", but no rule of success holds")
                }
                (None, Status::Accepted) => return Ok(self.receipt(answer)),
            }
        };
        Err(self.gateway.refused(answer, class, why, text))
    }

    fn receipt(&self, answer: &Answer) -> Receipt {
        let found = self.reference.as_ref().map(|reference| reference.find(&answer.body)).unwrap_or_default();
        Receipt { references: found.iter().filter_map(|found| self.gateway.reference(found)).collect() }
    }
}

#[async_trait]
impl Dispatcher for HttpDispatcher {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + sms.timeout;
        // This SMS alone meets it: no reason to leave the gateway, nor to give the alert up at once.
        let request = self.request.of(sms).map_err(|error| {
            SubmitError::new(Class::Deferred, format!("{}: {}: {error}", self.gateway.shown, error.key))
        })?;
        let by_body = self.rules.need_body();
        let matters = |head: &response::Parts| {
            let accepted = self.gateway.status(head.status, &head.headers) == Status::Accepted;
            if by_body || (accepted && self.reference.is_some()) { Body::Decides } else { Body::Quoted }
        };
        let answer = self.gateway.ask(request, deadline, matters, &sms.text).await?;
        self.judge(&answer, &sms.text)
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        self.gateway.probe().await
    }
}

/// Literals of a body that are shorter are no secrets.
const LITERAL_MIN: usize = 8;

fn throttled(answer: &Answer) -> Class {
    let asked = retry_after(&answer.headers).and_then(|value| parse_retry_after(value, Timestamp::now()));
    Class::Throttled { retry_after: asked.unwrap_or(DEFAULT_RETRY_AFTER) }
}

fn host(authority: &Authority) -> Result<HeaderValue, UrlError> {
    HeaderValue::from_str(authority.as_str()).map_err(|_| UrlError::Host)
}

fn fault(key: &str, line: Option<usize>, problem: impl Into<String>) -> RequestError {
    RequestError { key: key.to_owned(), line, problem: problem.into() }
}

fn located(key: &str, error: TemplateError) -> RequestError {
    fault(key, error.line, error.problem)
}

/// One SMS of each kind: what a template may ask for differs among them.
fn samples() -> Vec<Sms> {
    let texts = ["Sample alert", "Sample 漢字", &"x".repeat(200), &"漢".repeat(100)].map(str::to_owned);
    let phone = |n: &str| Phone::parse(n).ok();
    let both = ["+4799999999", "1881"].into_iter().filter_map(phone);
    let timeout = std::time::Duration::from_secs(1);
    both.flat_map(|to| texts.clone().map(|text| Sms::new(to.clone(), text.into(), timeout))).collect()
}

/// Is it what its type says?
fn sound(context: Context, body: &str) -> Result<(), (Option<usize>, String)> {
    match context {
        Context::Json => match serde_json::from_str::<serde_json::Value>(body) {
            Ok(_) => Ok(()),
            Err(e) => Err((
                Some(e.line()),
                "it is no JSON; write \"text\": \"{{ text }}\" or \"text\": {{ text }}".into(),
            )),
        },
        Context::Xml => {
            let mut reader = quick_xml::Reader::from_str(body);
            loop {
                match reader.read_event() {
                    Ok(quick_xml::events::Event::Eof) => return Ok(()),
                    Ok(_) => {}
                    Err(e) => return Err((None, format!("it is no XML: {e}"))),
                }
            }
        }
        _ => Ok(()),
    }
}

/// The strings in a JSON value.
fn leaves(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|one| leaves(one, found)),
        serde_json::Value::Object(all) => all.values().for_each(|one| leaves(one, found)),
        _ => {}
    }
}

/// The query of a template, with nothing where its places were.
fn without_places(target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    match Regex::new(r"(?s)\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}") {
        Ok(place) => place.replace_all(query, PHONE).into_owned(),
        Err(_) => query.to_owned(),
    }
}
