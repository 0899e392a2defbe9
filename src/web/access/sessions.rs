//! Browsers that are known again.
//!
//! A session is opened with a token and does what that token may, for 12 hours, for as long as the token is configured. It
//! lives in memory: after a restart one logs in again. The browser holds its id, we hold the id's hash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::Instant;

use super::secret::random_token;
use super::{Caller, Came, Credential, Hash, Scope, origin, unknown};
use crate::config::HttpConfig;
use crate::web::Problem;

/// How long a session lasts.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one token at once; its oldest ends for the next one.
const MOST: usize = 20;
/// What a cookie's name begins with that no other host and no service in the clear can set (RFC 6265bis §4.1.3.2).
const HOST: &str = "__Host-";
/// Cookies of one name that are looked at.
const COOKIES_MAX: usize = 8;
/// The cookie of a session.
const SESSION: &str = "smsd_session";
/// The cookie of somebody on this machine, who needs no session: it stands for nothing but the same browser.
const VISITOR: &str = "smsd_visitor";

/// See the module.
#[derive(Debug)]
pub struct Sessions {
    /// The hash of its id, in hexadecimal digits → the session.
    open: Mutex<HashMap<String, Session>>,
    /// Makes the proof that a form must bring out of an id. New in each life; `None` if the system had no random bits.
    key: Option<hmac::Key>,
}

#[derive(Clone, Debug)]
struct Session {
    token: Hash,
    opened: Instant,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            open: Mutex::default(),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
        }
    }
}

impl Sessions {
    /// Opens a session for whoever has this token; returns the cookie to set.
    ///
    /// # Errors
    /// 401: the token is not known. 403: it may not look at anything, or a page of another site made the browser ask.
    pub fn log_in(&self, http: &HttpConfig, parts: &Parts, token: &str) -> Result<HeaderValue, Problem> {
        let tls = parts.extensions.get::<Came>().is_some_and(|came| came.tls);
        origin::check(&parts.method, &parts.headers, tls)?;
        let token = Hash::of(token.trim());
        let caller = self.bearer(http, &token).ok_or_else(|| unknown("this token is not known here"))?;
        if !(caller.scopes.has(Scope::Read) || caller.scopes.has(Scope::Operate)) {
            let detail = format!("{} has no scope read or operate: there is nothing to look at", caller.name);
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        let id = random_token().ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the system has no random bits to give")
        })?;
        let now = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| now.duration_since(session.opened) < LASTS);
        let own = || open.iter().filter(|(_, session)| session.token == token);
        if own().count() >= MOST
            && let Some(oldest) = own().min_by_key(|(_, s)| s.opened).map(|(id, _)| id.clone())
        {
            open.remove(&oldest);
        }
        open.insert(Hash::of(&id).to_hex(), Session { token, opened: now });
        Ok(cookie(SESSION, &id, LASTS, tls))
    }

    /// Ends the session of whoever asks, if there is one; returns the cookie to set.
    pub fn log_out(&self, parts: &Parts) -> HeaderValue {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for id in given(&parts.headers, SESSION) {
            open.remove(&Hash::of(id).to_hex());
        }
        drop(open);
        let tls = parts.extensions.get::<Came>().is_some_and(|came| came.tls);
        cookie(SESSION, "", Duration::ZERO, tls)
    }

    /// Who has this token. All are compared.
    pub(super) fn bearer(&self, http: &HttpConfig, hash: &Hash) -> Option<Caller> {
        http.tokens
            .iter()
            .fold(None, |found, token| if token.hash == *hash { Some(token) } else { found })
            .filter(|token| !token.bounds.are_over(Timestamp::now()))
            .map(|token| {
                let caller = Caller::new(&token.name, token.scopes, Credential::Token(token.hash));
                Caller { bounds: Arc::clone(&token.bounds), ..caller }
            })
    }

    /// Whose session this is, with its id. Services of one host name share cookies: another's may stand before ours.
    pub(super) fn of(&self, http: &HttpConfig, headers: &HeaderMap) -> Option<(String, Caller)> {
        given(headers, SESSION).find_map(|id| Some((id.to_owned(), self.by_id(http, id)?)))
    }

    /// Whose session has this id.
    pub(super) fn by_id(&self, http: &HttpConfig, id: &str) -> Option<Caller> {
        let session = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.get(&Hash::of(id).to_hex()).cloned()?
        };
        if session.opened.elapsed() >= LASTS {
            return None;
        }
        let caller = self.bearer(http, &session.token)?;
        Some(Caller { by: Credential::Session(id.to_owned()), ..caller })
    }

    /// By what a browser on this machine is known again, and the cookie to set if it is not known yet.
    pub(super) fn visitor(
        &self,
        method: &Method,
        headers: &HeaderMap,
        tls: bool,
    ) -> (String, Option<HeaderValue>) {
        if let Some(id) = given(headers, VISITOR).next() {
            return (id.to_owned(), None);
        }
        // Programs keep no cookies, and are not bothered with them.
        let pages = headers
            .get(header::ACCEPT)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.contains("text/html"));
        let id = random_token().unwrap_or_default();
        let cookie = (method.is_safe() && pages && !id.is_empty()).then(|| cookie(VISITOR, &id, LASTS, tls));
        (id, cookie)
    }

    /// What a form must bring that is given to whoever has this id; empty, which is no proof, if none can be made.
    pub(super) fn proof(&self, id: &str) -> Arc<str> {
        let proof = self.key.as_ref().map(|key| hex::encode(hmac::sign(key, id.as_bytes())));
        proof.unwrap_or_default().into()
    }
}

/// The values of a cookie that are ids, a few at most.
fn given<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let values = cookies.flat_map(|v| v.split(';')).filter_map(|c| c.trim().split_once('='));
    let ids =
        values.filter(move |(found, _)| found.strip_prefix(HOST).unwrap_or(found) == name).map(|(_, id)| id);
    ids.filter(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).take(COOKIES_MAX)
}

fn cookie(name: &str, id: &str, lasts: Duration, tls: bool) -> HeaderValue {
    let (host, secure) = if tls { (HOST, "; Secure") } else { ("", "") };
    let text =
        format!("{host}{name}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lasts.as_secs());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("smsd_session=; Max-Age=0"))
}
