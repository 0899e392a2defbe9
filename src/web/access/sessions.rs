//! Browsers that are known again.
//!
//! A session is opened with a token and does what that token may, for 12 hours, for as long as the token is configured. It
//! lives in memory: after a restart one logs in again. The browser holds its id, we hold the id's hash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::Instant;

use super::secret::random_token;
use super::{Caller, Came, Hash, origin, unknown};
use crate::config::HttpConfig;
use crate::web::Problem;

/// How long a session lasts.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once; the oldest ends for the next one.
const MOST: usize = 1_000;
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
    /// 401: the token is not known. 403: a page of another site made the browser ask.
    pub fn log_in(&self, http: &HttpConfig, parts: &Parts, token: &str) -> Result<HeaderValue, Problem> {
        origin::check(&parts.method, &parts.headers)?;
        let token = Hash::of(token.trim());
        self.bearer(http, &token).ok_or_else(|| unknown("this token is not known here"))?;
        let id = random_token().ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the system has no random bits to give")
        })?;
        let now = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| now.duration_since(session.opened) < LASTS);
        if open.len() >= MOST
            && let Some(oldest) = open.iter().min_by_key(|(_, s)| s.opened).map(|(id, _)| id.clone())
        {
            open.remove(&oldest);
        }
        open.insert(Hash::of(&id).to_hex(), Session { token, opened: now });
        let tls = parts.extensions.get::<Came>().is_some_and(|came| came.tls);
        Ok(cookie(SESSION, &id, LASTS, tls))
    }

    /// Ends the session of whoever asks, if there is one; returns the cookie to set.
    pub fn log_out(&self, parts: &Parts) -> HeaderValue {
        if let Some(id) = given(&parts.headers, SESSION) {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.remove(&Hash::of(id).to_hex());
        }
        let tls = parts.extensions.get::<Came>().is_some_and(|came| came.tls);
        cookie(SESSION, "", Duration::ZERO, tls)
    }

    /// Who has this token. All are compared.
    pub(super) fn bearer(&self, http: &HttpConfig, hash: &Hash) -> Option<Caller> {
        http.tokens
            .iter()
            .fold(None, |found, token| if token.hash == *hash { Some(token) } else { found })
            .map(|token| Caller::new(&token.name, token.scopes))
    }

    /// Whose session this is, with its id.
    pub(super) fn of(&self, http: &HttpConfig, headers: &HeaderMap) -> Option<(String, Caller)> {
        let id = given(headers, SESSION)?;
        let session = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.get(&Hash::of(id).to_hex()).cloned()?
        };
        if session.opened.elapsed() >= LASTS {
            return None;
        }
        Some((id.to_owned(), self.bearer(http, &session.token)?))
    }

    /// By what a browser on this machine is known again, and the cookie to set if it is not known yet.
    pub(super) fn visitor(
        &self,
        method: &Method,
        headers: &HeaderMap,
        tls: bool,
    ) -> (String, Option<HeaderValue>) {
        if let Some(id) = given(headers, VISITOR) {
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

/// The value of a cookie, if it is an id.
fn given<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut values = cookies.flat_map(|v| v.split(';')).filter_map(|c| c.trim().split_once('='));
    let (_, id) = values.find(|(found, _)| *found == name)?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

fn cookie(name: &str, id: &str, lasts: Duration, tls: bool) -> HeaderValue {
    let secure = if tls { "; Secure" } else { "" };
    let text = format!("{name}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lasts.as_secs());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("smsd_session=; Max-Age=0"))
}
