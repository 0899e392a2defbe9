//! The ways out: how each does, and a test straight through one.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::{Strict, wrong};
use crate::alert::Phone;
use crate::telemetry::board::Light;
use crate::web::trial::{TEXT, Tested, Trial, Turns};
use crate::web::{Caller, Problem, Site};

/// One way out. No key of its type is shown, since some are secret.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
pub(super) struct WaysOut {
    dispatchers: Vec<WayOut>,
}

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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTest {
    to: String,
    #[serde(default)]
    text: Option<String>,
}

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
