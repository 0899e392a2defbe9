//! The ways out: how each does, and a test straight through one.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Strict, wrong};
use crate::alert::Phone;
use crate::telemetry::board::Light;
use crate::web::problem::{Body, PROBLEM};
use crate::web::trial::{TEXT, Tested, Trial, Turns};
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
    #[schema(pattern = r"^(\+[1-9][0-9]{2,14}|[0-9]{3,15})$", example = "+4790000001")]
    to: String,
    /// Another text than the usual one.
    #[serde(default)]
    #[schema(pattern = r"\S")]
    text: Option<String>,
}

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
    Extension(turns): Extension<Turns>,
    State(site): State<Site>,
    caller: Caller,
    Path(name): Path<String>,
    Strict(asked): Strict<NewTest>,
) -> Result<Json<Tested>, Problem> {
    let to = Phone::parse(&asked.to).map_err(|e| wrong("to", &e.to_string()))?;
    let text = asked.text.unwrap_or_else(|| TEXT.to_owned());
    let trial = Trial { dispatcher: name, to, text, by: caller.name.to_string() };
    trial.run(&site, &turns).await.map(Json)
}
