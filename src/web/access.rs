//! Who may do what.
//!
//! Whoever asks is one of four, looked for in this order: the bearer of a token; a browser with a session that a token
//! opened; a command of our own user, by our own socket; or, where no token is configured, anybody on this machine. What
//! a browser sends along by itself (a session, being on this machine) is no consent: then whatever changes something must
//! come from our own pages, which `Origin`, `Sec-Fetch-Site` and the `Host` by which we are asked prove, and a form must
//! bring the proof that we gave out with it ([`csrf_token`], [`check_form`]).
//!
//! What a token is, only its hash is kept; and every hash is compared, in constant time.

mod bounds;
mod guesses;
mod origin;
mod scope;
mod secret;
mod sessions;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Router};
use tokio::time::sleep;

pub use bounds::Bounds;
pub use guesses::Guesses;
pub use scope::{Scope, Scopes};
pub use secret::{Hash, random_token};
pub use sessions::Sessions;

use super::{Problem, Site, limits, pages};
use crate::config::HttpConfig;
use crate::intake::{Intake, Rates, Refusal, Shares, recipients};
use crate::queue::{NewAlert, Submission};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What actions are recorded under: a token's name, the user of our own commands, or `http`.
    pub name: Arc<str>,
    /// What is allowed.
    pub scopes: Scopes,
    /// What may be handed in.
    pub bounds: Arc<Bounds>,
    /// What a form of this caller must bring; `None` if no browser can have been led to ask.
    proof: Option<Arc<str>>,
    by: Credential,
}

/// By what a caller may ask.
#[derive(Clone, Debug)]
enum Credential {
    /// By being on this machine, where no token is configured.
    Here,
    /// By being our own user.
    OurUser,
    /// By a token.
    Token(Hash),
    /// By the session with this id.
    Session(String),
}

impl Caller {
    fn new(name: &str, scopes: Scopes, by: Credential) -> Caller {
        Caller { name: name.into(), scopes, bounds: Arc::default(), proof: None, by }
    }
}

/// What somebody was let in with. Who goes on listening after the answer has begun asks it how long that may last.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) caller: Caller,
    scope: Scope,
    door: Arc<Door>,
}

/// Between two looks at whether a session has ended.
const LOOK: Duration = Duration::from_secs(5);

impl Pass {
    /// Waits until the caller may no longer do what it was let in for: its token is configured no more, or its session has
    /// ended.
    pub(super) async fn is_revoked(&self, site: &Site) {
        let mut standing = site.standing.clone();
        loop {
            let holds = self.holds(&standing.borrow_and_update().config.http);
            if !holds {
                return;
            }
            tokio::select! {
                Ok(()) = standing.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// May the caller hand in these alerts, as a webhook of this name if it is one? What is more severe than it may say is made
    /// as severe as that.
    ///
    /// # Errors
    /// 403: it may not, or not to one of these numbers. 429: it has handed in too many.
    pub(super) fn admit<'s>(
        &self,
        site: &Site,
        webhook: Option<&str>,
        submissions: impl IntoIterator<Item = &'s mut Submission>,
    ) -> Result<(), Problem> {
        let (name, bounds) = (&self.caller.name, &*self.caller.bounds);
        if bounds.are_none() {
            return Ok(());
        }
        let forbidden = |detail: String| Err(Problem::new(StatusCode::FORBIDDEN, detail));
        if !bounds.admit(webhook) {
            return forbidden(format!("{name} may post to its webhooks alone; nothing was queued"));
        }
        let mut alerts: Vec<&mut NewAlert> = submissions.into_iter().flat_map(|s| &mut s.alerts).collect();
        if !bounds.to.is_empty() {
            let words = bounds.to.iter().map(String::as_str);
            let allowed = recipients(words, &site.standing().config.groups).unwrap_or_default();
            if let Some(stranger) = Bounds::stranger(&allowed, alerts.iter().map(|alert| &alert.to)) {
                return forbidden(format!("{name} may not text {stranger}; nothing was queued"));
            }
        }
        if let Some(rate) = bounds.rate {
            let mut rates = self.door.rates.lock().unwrap_or_else(PoisonError::into_inner);
            let now = std::time::Instant::now();
            if let Err(seconds) = rates.admit(Arc::clone(name), alerts.len() as f64, rate, now) {
                site.desk.tally().refuse(Intake::Http, Refusal::Rate, None);
                let detail = format!("{name} hands in more than it may; nothing was queued, try again");
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(seconds));
            }
        }
        for alert in &mut alerts {
            let severity = &mut alert.severity.0;
            *severity = (*severity).map(|n| bounds.severity.map_or(n, |least| n.max(least)));
        }
        Ok(())
    }

    fn holds(&self, http: &HttpConfig) -> bool {
        let caller = match &self.caller.by {
            Credential::OurUser => return true,
            Credential::Here => return http.tokens.is_empty(),
            Credential::Token(hash) => self.door.sessions.bearer(http, hash),
            Credential::Session(id) => self.door.sessions.by_id(http, id),
        };
        caller.is_some_and(|caller| caller.scopes.has(self.scope))
    }
}

/// How a request came to us. What listens puts it into each request; without it, a request is from far away and in the
/// clear.
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// From where.
    pub from: From,
    /// By TLS.
    pub tls: bool,
    /// The address, if it has one.
    pub address: Option<IpAddr>,
}

/// From where a request came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// From another machine, as far as is known.
    #[default]
    Anywhere,
    /// From this machine: by loopback or a Unix socket.
    Here,
    /// From our own user, of this name, by our own socket.
    OurUser(Arc<str>),
}

/// What the guards of all routes share.
#[derive(Debug, Default)]
pub(super) struct Door {
    sessions: Arc<Sessions>,
    guesses: Arc<Guesses>,
    rates: Mutex<Rates<Arc<str>>>,
}

/// Those routes behind the scope that they need.
pub(super) fn guard(
    routes: Router<Site>,
    scope: Scope,
    site: &Site,
    (door, room): (&Arc<Door>, &Arc<Shares>),
) -> Router<Site> {
    // What another matter will bring may not be there yet, and nothing guards nothing.
    if !routes.has_routes() {
        return routes;
    }
    // Who may not ask is not listened to: the body comes last.
    let body = from_fn_with_state((site.desk.tally().clone(), Arc::clone(room)), limits::whole_body);
    let routes = routes.route_layer(body);
    routes.route_layer(from_fn_with_state((site.clone(), scope, Arc::clone(door)), check))
}

/// Makes [`Sessions`] known to all routes, for the pages by which they are opened and closed.
pub(super) fn with_sessions<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    door: &Arc<Door>,
) -> Router<S> {
    routes.layer(Extension(Arc::clone(&door.sessions))).layer(Extension(Arc::clone(&door.guesses)))
}

/// What a form that we give this caller must bring along; empty if it need not bring anything.
pub fn csrf_token(parts: &Parts) -> String {
    let proof = parts.extensions.get::<Caller>().and_then(|caller| caller.proof.as_deref());
    proof.unwrap_or_default().to_owned()
}

/// Is this form one of those that we gave this caller?
///
/// # Errors
/// 403: it was made by somebody else, or before a restart.
pub fn check_form(parts: &Parts, given: &str) -> Result<(), Problem> {
    let good = parts.extensions.get::<Caller>().is_some_and(|caller| match &caller.proof {
        None => true,
        Some(proof) => !proof.is_empty() && secret::same(proof.as_bytes(), given.as_bytes()),
    });
    if good {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "this form is not one that this smsd gave you, or it is older than its last start; load the page again",
    ))
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| unknown("this is for nobody"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Came {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Came, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

type Guard = (Site, Scope, Arc<Door>);

async fn check(State((site, scope, door)): State<Guard>, mut request: Request, next: Next) -> Response {
    let standing = site.standing();
    let came = request.extensions().get::<Came>().cloned().unwrap_or_default();
    let found = door.who(&standing.config.http, &came, request.method(), request.headers());
    let (caller, cookie) = match found {
        Ok(found) => found,
        Err(problem) => {
            if request.headers().contains_key(header::AUTHORIZATION) {
                site.desk.tally().refuse(Intake::Http, Refusal::Token, came.address);
            }
            return refuse(&site, request, problem);
        }
    };
    let lacks = (!caller.scopes.has(scope))
        .then(|| format!("{} has no scope {scope}; it has {}", caller.name, caller.scopes));
    request.extensions_mut().insert(Pass { caller: caller.clone(), scope, door });
    let name = Arc::clone(&caller.name);
    request.extensions_mut().insert(caller);
    let mut response = match lacks {
        Some(message) => refuse(&site, request, Problem::new(StatusCode::FORBIDDEN, message)),
        None => next.run(request).await,
    };
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response.extensions_mut().insert(AskedBy(name));
    response
}

/// Whose an answer is.
#[derive(Clone)]
pub(super) struct AskedBy(pub(super) Arc<str>);

impl Door {
    /// Who asks, with a cookie to give back if there is one.
    fn who(
        &self,
        http: &HttpConfig,
        came: &Came,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<(Caller, Option<HeaderValue>), Problem> {
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            return Ok((self.bearer(http, given)?, None));
        }
        if let From::OurUser(name) = &came.from {
            return Ok((Caller::new(name, Scopes::ALL, Credential::OurUser), None));
        }
        if let Some((id, session)) = self.sessions.of(http, headers) {
            origin::check(method, headers, came.tls)?;
            let proof = Some(self.sessions.proof(&id));
            return Ok((Caller { proof, ..session }, None));
        }
        if !http.tokens.is_empty() {
            return Err(unknown("say who you are: Authorization: Bearer TOKEN"));
        }
        if came.from == From::Anywhere {
            return Err(unknown("no token is configured, so only this machine may ask"));
        }
        origin::check_host(headers, &http.hosts)?;
        origin::check(method, headers, came.tls)?;
        // Anybody here: a browser is known again by a cookie that stands for nothing but itself.
        let (id, cookie) = self.sessions.visitor(method, headers, came.tls);
        let proof = Some(self.sessions.proof(&id));
        Ok((Caller { proof, ..Caller::new("http", Scopes::ALL, Credential::Here) }, cookie))
    }

    fn bearer(&self, http: &HttpConfig, given: &HeaderValue) -> Result<Caller, Problem> {
        let token = given.as_bytes().split_first_chunk::<7>();
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, token)| token);
        let Some(token) = token else { return Err(unknown("expected Authorization: Bearer TOKEN")) };
        let hash = Hash::of(token.trim_ascii());
        self.sessions.bearer(http, &hash).ok_or_else(|| {
            let ended = http.tokens.iter().find(|token| token.hash == hash).and_then(|t| t.bounds.until);
            match ended {
                Some(last) => unknown(&format!("the last day of this token was {last}")),
                None => unknown("this token is not known here"),
            }
        })
    }
}

/// 401, in words that help.
fn unknown(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// A program is told in JSON, a person on a page; and whoever may log in is led there.
fn refuse(site: &Site, request: Request, problem: Problem) -> Response {
    if !is_page(&request) {
        return challenge(problem);
    }
    match problem.status {
        StatusCode::UNAUTHORIZED => Redirect::to("/login").into_response(),
        _ => pages::refusal(site, &request.into_parts().0, &problem),
    }
}

fn challenge(problem: Problem) -> Response {
    let unauthorized = problem.status == StatusCode::UNAUTHORIZED;
    let mut response = problem.into_response();
    if unauthorized {
        let scheme = HeaderValue::from_static("Bearer realm=\"smsd\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// True for what a person looks at or sends from a form.
fn is_page(request: &Request) -> bool {
    let accepts = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.contains("text/html"));
    matches!(*request.method(), Method::GET | Method::POST)
        && !request.uri().path().starts_with("/api/")
        && !request.headers().contains_key(header::AUTHORIZATION)
        && request.headers().get(header::ACCEPT).is_some_and(accepts)
}

#[cfg(test)]
mod tests;
