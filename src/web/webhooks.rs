//! What other programs post when something happens: `/api/v1/webhooks/NAME`.
//!
//! `alertmanager` and `grafana` have bodies of their own; any other name is a section `[webhook.NAME]`. The answer is 200
//! when all is on stable storage, 503 for whatever may get better, and 4xx only for what will never be taken: who
//! posts here tries again after 5xx, if at all, and gives up after anything else, 429 among it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::Site;
use super::access::Pass;
use super::problem::{Body, PROBLEM, Problem};
use crate::alert::AlertId;
use crate::config::QueueKind;
use crate::intake::alertmanager::ALERTMANAGER;
use crate::intake::grafana::GRAFANA;
use crate::intake::handover::NAV_CHARACTERS;
use crate::intake::hook::{self, Posted};
use crate::intake::{Handover, NotTaken, Refused};
use crate::telemetry::clip;

/// Bytes of a body at most.
const BODY_MAX: usize = 256 * 1024;
/// Whose bodies are read: a few at once, and of each caller one, so that nobody's many keep others waiting.
#[derive(Debug)]
struct Readers {
    all: Semaphore,
    each: Mutex<BTreeMap<Arc<str>, Arc<Semaphore>>>,
}

static READERS: Readers = Readers { all: Semaphore::const_new(3), each: Mutex::new(BTreeMap::new()) };

impl Readers {
    /// Reads for this caller when it is its turn; `None` if that panics.
    async fn read<T: Send + 'static>(
        &self,
        caller: &Arc<str>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let own = {
            let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(each.entry(Arc::clone(caller)).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let _own = own.acquire().await;
        let _one = self.all.acquire().await;
        tokio::task::spawn_blocking(read).await.ok()
    }
}

pub(super) fn routes() -> Router<Site> {
    let limit = DefaultBodyLimit::max(BODY_MAX);
    Router::new()
        .route("/api/v1/webhooks/alertmanager", post(alertmanager))
        .route("/api/v1/webhooks/grafana", post(grafana))
        .route("/api/v1/webhooks/{name}", post(named))
        .layer(limit)
}

/// The alerts that were queued, now or when the same was posted before.
#[derive(Serialize, ToSchema)]
pub(super) struct Queued {
    ids: Vec<AlertId>,
}

/// What of a notification has to be there; what else it says may be missing.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is for the document alone")]
struct Notification {
    /// What fires, and what has ended.
    #[schema(value_type = Vec<Object>)]
    alerts: (),
}

/// What a post is taken from.
type Post = (RawQuery, HeaderMap, Result<Bytes, BytesRejection>);

/// What Alertmanager posts
///
/// Its webhook of version 4. `[alertmanager]` in smsd.conf says who is told.
#[utoipa::path(post, path = "/api/v1/webhooks/alertmanager", tag = "webhooks", security(("token" = ["send"])),
    request_body = Notification,
    responses((status = 200, description = "All of it is on stable storage.", body = Queued)))]
pub(super) async fn alertmanager(
    State(site): State<Site>,
    Extension(pass): Extension<Pass>,
    query: RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Queued>, Problem> {
    take(site, pass, "alertmanager".to_owned(), (query, headers, body)).await
}

/// What Grafana posts
///
/// The body of its contact point "Webhook". `[grafana]` in smsd.conf says who is told.
#[utoipa::path(post, path = "/api/v1/webhooks/grafana", tag = "webhooks", security(("token" = ["send"])),
    request_body = Notification,
    responses((status = 200, description = "All of it is on stable storage.", body = Queued)))]
pub(super) async fn grafana(
    State(site): State<Site>,
    Extension(pass): Extension<Pass>,
    query: RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Queued>, Problem> {
    take(site, pass, "grafana".to_owned(), (query, headers, body)).await
}

/// What anything else posts
///
/// `[webhook.NAME]` in smsd.conf says what it means.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}", tag = "webhooks", security(("token" = ["send"])),
    params(("name" = String, Path, description = "As smsd.conf has it.")),
    request_body(content(("application/json"), (Object = "application/x-www-form-urlencoded"), (String = "text/plain"))),
    responses(
        (status = 200, description = "All of it is on stable storage.", body = Queued),
        (status = 404, description = "smsd.conf has no such webhook.", body = Body, content_type = PROBLEM),
    ))]
pub(super) async fn named(
    State(site): State<Site>,
    Extension(pass): Extension<Pass>,
    Path(name): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Queued>, Problem> {
    take(site, pass, name, (query, headers, body)).await
}

async fn take(site: Site, pass: Pass, name: String, post: Post) -> Result<Json<Queued>, Problem> {
    let caller = &pass.caller;
    let (RawQuery(query), headers, body) = post;
    let body = body.map_err(|error| {
        tracing::warn!(
            webhook = shown(&name),
            status = error.status().as_u16(),
            "refused: {}",
            error.body_text()
        );
        Problem::new(error.status(), format!("{}; expected at most {BODY_MAX} bytes", error.body_text()))
    })?;
    let read = {
        let (site, name) = (site.clone(), name.clone());
        move || {
            let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let posted = Posted { content_type, query: query.as_deref().unwrap_or_default(), body: &body };
            read(&site, &name, posted)
        }
    };
    // What a body costs to read is a stranger's choice: it holds up none of those who serve the others.
    let read = READERS.read(&caller.name, read).await.unwrap_or_else(|| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "smsd has a fault here; its log says more"))
    });
    let mut handover = read.inspect_err(|problem| {
        tracing::warn!(
            webhook = shown(&name),
            status = problem.status.as_u16(),
            "refused: {}",
            shown(&problem.detail)
        );
    })?;
    handover.by(&caller.name);
    pass.admit(&site, Some(&name), &mut handover.submissions).map_err(|problem| {
        tracing::warn!(webhook = shown(&name), "refused: {}", shown(&problem.detail));
        match problem.retry_after {
            Some(seconds) => unavailable(problem.detail, seconds),
            None => problem,
        }
    })?;
    if let QueueKind::NavDb(_) = site.standing().config.queue.kind {
        handover.cut(NAV_CHARACTERS);
    }
    for note in handover.notes {
        tracing::warn!(webhook = shown(&name), "{}", shown(&note));
    }
    let (mut ids, desk) = (Vec::new(), site.desk.by(&caller.name));
    for submission in handover.submissions {
        match desk.hand_in(submission).await {
            Ok(taken) => ids.extend(taken.ids),
            // The same notification of the same caller in other words: another of a pair has measured other values, or
            // the configuration has changed since. It was queued.
            Err(NotTaken::OtherAlerts) => {
                tracing::info!(webhook = shown(&name), "the same notification came again in other words");
            }
            Err(error) => {
                tracing::warn!(webhook = shown(&name), "not queued: {error}");
                return Err(later(error));
            }
        }
    }
    Ok(Json(Queued { ids }))
}

fn read(site: &Site, name: &str, posted: Posted<'_>) -> Result<Handover, Problem> {
    let standing = site.standing();
    let config = &standing.config;
    let handover = match name {
        "alertmanager" => ALERTMANAGER.read(posted.body, &config.alertmanager),
        "grafana" => GRAFANA.read(posted.body, &config.grafana),
        _ => match config.webhooks.get(name) {
            Some(settings) => hook::read(name, posted, settings, &config.groups),
            None => {
                let detail = format!("there is no webhook {:?}: smsd.conf has no [webhook.{0}]", shown(name));
                return Err(Problem::new(StatusCode::NOT_FOUND, detail));
            }
        },
    };
    handover.map_err(|refused| match refused {
        Refused::Unreadable(_) | Refused::Recipient { .. } => Problem::bad_request(refused.to_string()),
        Refused::Nobody(_) => unavailable(refused.to_string(), 60),
    })
}

/// Whatever the desk says may get better: the queue comes back, or somebody mends the configuration.
fn later(error: NotTaken) -> Problem {
    let detail = error.to_string();
    let problem = Problem::from(error);
    unavailable(detail, problem.retry_after.unwrap_or(60))
}

fn unavailable(detail: String, seconds: u64) -> Problem {
    Problem { status: StatusCode::SERVICE_UNAVAILABLE, detail, retry_after: Some(seconds) }
}

/// Fit for a line of the log, or of an answer.
fn shown(words: &str) -> String {
    let mut words = words.to_owned();
    clip(&mut words, 512);
    words
}
