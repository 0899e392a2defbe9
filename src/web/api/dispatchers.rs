//! The ways out: how each does, and a test straight through one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Strict, wrong};
use crate::alert::AlertId;
use crate::alert::Phone;
use crate::compose::{Shape, compose};
use crate::dispatch::{Class, Sms, SubmitError};
use crate::telemetry::Event;
use crate::telemetry::board::Light;
use crate::web::problem::{Body, PROBLEM};
use crate::web::{Caller, Problem, Site};

/// One way out. No key of its type is shown, since some are secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WayOut {
    #[serde(flatten)]
    light: Light,
    priority: usize,
    /// SMS at once.
    concurrency: usize,
    /// SMS per second at most.
    rate_per_second: Option<f64>,
    /// The longest time for one SMS.
    timeout_seconds: f64,
    /// How long it stays in doubt what became of one.
    grace_seconds: f64,
}

/// All of them, in order of priority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WaysOut {
    dispatchers: Vec<WayOut>,
}

/// The dispatchers, in order of priority
#[utoipa::path(get, path = "/api/v1/dispatchers", tag = "dispatchers", security(("token" = ["read"])),
    responses((status = 200, description = "All of them.", body = WaysOut)))]
pub(super) async fn list(State(site): State<Site>) -> Json<WaysOut> {
    let (board, standing) = (site.hub.board(), site.standing());
    let ways = standing.ways.iter().zip(1..).filter_map(|((way, _), priority)| {
        let light = board.dispatchers.iter().find(|light| light.name == way.name)?.clone();
        Some(WayOut {
            light,
            priority,
            concurrency: way.concurrency,
            rate_per_second: way.rate,
            timeout_seconds: way.timeout.as_secs_f64(),
            grace_seconds: way.grace.as_secs_f64(),
        })
    });
    Json(WaysOut { dispatchers: ways.collect() })
}

/// Whom to tell what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTest {
    /// A number.
    #[schema(pattern = r"^\+?[0-9]{3,15}$", example = "+4790000001")]
    to: String,
    /// Another text than the usual one.
    #[serde(default)]
    #[schema(pattern = r"\S")]
    text: Option<String>,
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tested {
    /// The id by which the gateway may know the SMS.
    attempt: Uuid,
    accepted: bool,
    /// What class of answer it was: `accepted`, or what it was not taken for.
    class: &'static str,
    /// The gateway's own code.
    code: Option<String>,
    /// What happened, in words, if it was not taken.
    detail: Option<String>,
    /// The gateway's references.
    references: Vec<String>,
}

/// The dispatchers through which a test is on its way: one at a time each.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<BTreeSet<Arc<str>>>);

struct Turn {
    busy: Arc<Busy>,
    name: Arc<str>,
}

impl Busy {
    fn turn(self: &Arc<Self>, name: &Arc<str>) -> Option<Turn> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(name));
        first.then(|| Turn { busy: Arc::clone(self), name: Arc::clone(name) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

const TEXT: &str = "This is a test message from smsd.";

/// Send an SMS straight through a dispatcher
///
/// It is in no queue, and tried once.
#[utoipa::path(post, path = "/api/v1/dispatchers/{name}/test", tag = "dispatchers",
    security(("token" = ["operate"])),
    params(("name" = String, Path, description = "The dispatcher's.", example = "DebugDispatcher")),
    request_body = NewTest,
    responses(
        (status = 200, description = "What came of it, accepted or not.", body = Tested),
        (status = 404, description = "There is no such dispatcher.", body = Body, content_type = PROBLEM),
        (status = 415, description = "The body is not said to be JSON.", body = Body, content_type = PROBLEM),
        (status = 429, description = "Another test is on its way.", body = Body, content_type = PROBLEM),
    ))]
pub(super) async fn test(
    Extension(busy): Extension<Arc<Busy>>,
    State(site): State<Site>,
    caller: Caller,
    Path(name): Path<String>,
    Strict(asked): Strict<NewTest>,
) -> Result<Json<Tested>, Problem> {
    let to = Phone::parse(&asked.to).map_err(|e| wrong("to", &e.to_string()))?;
    let text = asked.text.as_deref().unwrap_or(TEXT);
    if text.trim().is_empty() {
        return Err(wrong("text", "it is empty"));
    }
    let standing = site.standing();
    let main = &standing.config.main;
    let starts = |prefixes: &[String]| prefixes.iter().any(|p| to.as_str().starts_with(p.as_str()));
    if starts(&main.deny) || !(main.allow.is_empty() || starts(&main.allow)) {
        return Err(wrong("to", "this number may not be texted: see allow and deny in [main]"));
    }
    let Some((way, dispatcher)) = standing.ways.iter().find(|(way, _)| *way.name == *name) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no dispatcher of this name"));
    };
    let Some(_turn) = busy.turn(&way.name) else {
        let detail = "a test is on its way through this dispatcher; try again";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1));
    };
    let text = compose(&[(AlertId(0), text)], &Shape::of(main)).text;
    let sms = Sms::new(to, text.into(), way.timeout);
    let attempt = sms.attempt;
    let late =
        || SubmitError::new(Class::Unknown, format!("no answer within {} s", way.timeout.as_secs_f64()));
    let result = timeout(way.timeout, dispatcher.submit(&sms)).await.unwrap_or_else(|_| Err(late()));
    let tested = match result {
        Ok(receipt) => Tested {
            attempt,
            accepted: true,
            class: "accepted",
            code: None,
            detail: None,
            references: receipt.references,
        },
        Err(error) => Tested {
            attempt,
            accepted: false,
            class: error.class.as_str(),
            code: error.code,
            detail: Some(error.detail),
            references: Vec::new(),
        },
    };
    site.hub.tell(Event::Tested {
        attempt,
        recipient: sms.recipient,
        dispatcher: Arc::clone(&way.name),
        class: tested.class,
        by: caller.name.to_string(),
    });
    Ok(Json(tested))
}
