//! `POST /api/v1/alerts`: the answer is yes only when the alerts are on stable storage.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Strict;
use crate::alert::{AlertId, Severity};
use crate::intake::{ALERTS_MAX, NotTaken, TEXT_MAX, recipients};
use crate::queue::{Key, NewAlert, Submission};
use crate::web::access::Pass;
use crate::web::problem::{Body, PROBLEM};
use crate::web::{Caller, Problem, Scope, Site};

/// What is to be told, and to whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAlerts {
    /// A number or `group:NAME`, or several.
    to: OneOrMore,
    /// What happened. At most 64 KiB.
    #[schema(pattern = r"\S", max_length = 65536)]
    text: String,
    /// 1 (most severe) to 5, or none.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 5)]
    severity: Option<i32>,
    /// What is handed in twice under one key within a day is queued once.
    #[serde(default)]
    #[schema(pattern = "^[ -~]{1,200}$")]
    idempotency_key: Option<String>,
    /// NAV's queue: the account that the alert belongs to.
    #[serde(default)]
    account: Option<i32>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum OneOrMore {
    One(Recipient),
    More(Recipients),
}

/// Several of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(min_items = 1, max_items = 1000)]
struct Recipients(Vec<Recipient>);

/// A number, or `group:NAME`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(pattern = r"^(\+[1-9][0-9]{2,14}|[0-9]{3,15}|group:[^\s:]+)$", example = "+4790000001")]
struct Recipient(String);

/// What is queued.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// One alert for each number, in the order of the numbers.
    ids: Vec<AlertId>,
}

/// How long a key is remembered.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// The longest key, in characters of ASCII.
const KEY_MAX: usize = 200;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the alerts were queued before, under the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Hand in alerts
///
/// The answer is 202 only when they are on stable storage. After 429 and 503 try again, with the same key.
#[utoipa::path(post, path = "/api/v1/alerts", tag = "alerts", security(("token" = ["send"])),
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[ -~]{1,200}$",
        description = "As `idempotency_key` in the body; if both are there, they are the same.")),
    request_body = NewAlerts,
    responses(
        (status = 202, description = "They are queued.", body = Taken,
            headers(("Idempotency-Replayed" = Option<bool>, description = "They were queued before, under the same key."))),
        (status = 409, description = "The key was used for other alerts.", body = Body, content_type = PROBLEM),
        (status = 415, description = "The body is not said to be JSON.", body = Body, content_type = PROBLEM),
        (status = 429, description = "More is handed in than the queue takes.", body = Body, content_type = PROBLEM,
            headers(("Retry-After" = u64, description = "Seconds."))),
    ))]
pub(super) async fn hand_in(
    State(site): State<Site>,
    Extension(pass): Extension<Pass>,
    headers: HeaderMap,
    Strict(asked): Strict<NewAlerts>,
) -> Result<Response, Problem> {
    let caller = &pass.caller;
    let key = key(caller, &headers, asked.idempotency_key.as_deref())?;
    let words: Vec<&str> = match &asked.to {
        OneOrMore::One(word) => vec![&word.0],
        OneOrMore::More(words) => words.0.iter().map(|word| word.0.as_str()).collect(),
    };
    let phones = recipients(words, &site.standing().config.groups)
        .map_err(|e| Problem::bad_request(format!("to: {e}; nothing was queued")))?;
    if phones.len() > ALERTS_MAX {
        return Err(bad("to", &format!("{} numbers, and at most {ALERTS_MAX} are taken", phones.len())));
    }
    if asked.text.trim().is_empty() {
        return Err(bad("text", "it is empty; say what happened"));
    }
    if asked.text.len() > TEXT_MAX {
        return Err(bad("text", &format!("longer than {TEXT_MAX} bytes")));
    }
    if asked.text.contains('\0') {
        return Err(bad("text", "it has a NUL character, which no queue holds"));
    }
    if asked.severity.is_some_and(|severity| !(1..=5).contains(&severity)) {
        return Err(bad("severity", "expected 1 (most severe) to 5, or none"));
    }
    let text: Arc<str> = asked.text.into();
    let alerts = phones.into_iter().map(|to| NewAlert {
        to,
        text: Arc::clone(&text),
        severity: Severity(asked.severity),
        account: asked.account,
    });
    let mut submission = Submission { key, alerts: alerts.collect() };
    pass.admit(&site, None, [&mut submission])?;
    let taken = site.desk.by(&caller.name).hand_in(submission).await.map_err(|e| refused(e, caller))?;
    let mut response = (StatusCode::ACCEPTED, Json(Taken { ids: taken.ids })).into_response();
    if taken.before {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Keys of one caller are no other's.
fn key(caller: &Caller, headers: &HeaderMap, in_body: Option<&str>) -> Result<Key, Problem> {
    let mut given = headers.get_all(KEY).iter().map(HeaderValue::to_str);
    let in_header = given.next().transpose().map_err(|_| bad("Idempotency-Key", EXPECTED))?;
    let key = match (in_header, in_body) {
        (Some(one), Some(other)) if one != other => {
            return Err(bad("idempotency_key", "the header Idempotency-Key says another"));
        }
        (one, other) => one.or(other),
    };
    let Some(key) = key else { return Ok(Key::own()) };
    let printable = key.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_MAX || !printable || given.next().is_some() {
        return Err(bad("idempotency_key", EXPECTED));
    }
    Ok(Key { name: format!("http:{}:{key}", caller.name), kept: KEPT })
}

const EXPECTED: &str = "expected one of at most 200 printable characters of ASCII";

fn bad(what: &str, why: &str) -> Problem {
    Problem::bad_request(format!("{what}: {why}; nothing was queued"))
}

/// The queue's own words are for those who may look into it.
fn refused(error: NotTaken, caller: &Caller) -> Problem {
    let hidden = matches!(error, NotTaken::Queue(_)) && !caller.scopes.has(Scope::Read);
    let problem = Problem::from(error);
    if !hidden {
        return problem;
    }
    let detail = "the queue can not be written now; nothing is known to be queued, try again".to_owned();
    Problem { detail, ..problem }
}
