//! `GET /openapi.json`: what can be asked, for programs. Open to all: it is the same for everybody, and says nothing of
//! this smsd.
//!
//! Each operation stands with its handler. Here they come together, with what every one of them may be answered: a body
//! is read before anybody looks at it, and who asks is looked at before that.
//!
//! Deliberately absent: the pages of the dashboard, which are for people.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::problem::{Body, PROBLEM};
use super::{Site, api, health, metrics, webhooks};

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/openapi.json", get(document))
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "health", security(()),
    responses((status = 200, description = "What can be asked.", body = Object)))]
pub(super) async fn document() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| Api::openapi().to_json().map(Bytes::from).unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// See the module.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "smsd",
        description = "Gets alerts onto people's phones. What is refused is said as `application/problem+json` (RFC 9457).",
    ),
    paths(
        api::hand_in::hand_in,
        api::alerts::list,
        api::alerts::show,
        api::alerts::cancel,
        api::alerts::requeue,
        api::alerts::accept,
        api::alerts::release,
        api::state::attempts,
        api::state::status,
        api::events::follow,
        api::dispatchers::list,
        api::dispatchers::test,
        webhooks::alertmanager,
        webhooks::grafana,
        webhooks::named,
        metrics::metrics,
        health::alive,
        health::ready,
        document,
    ),
    components(schemas(Body, api::alerts::Done)),
    modifiers(&Common),
)]
struct Api;

/// What all operations have in common.
struct Common;

const TOKEN: &str = "A token of smsd.conf. What it may, its scopes say: `send` (hand in), `read` (look), `operate` \
    (cancel, requeue, accept, release, test). Each operation names the one that it needs. Where no token is configured, \
    whoever is on the same machine needs none.";

/// What may be answered to anything.
const ANYBODY: [(&str, &str); 6] = [
    ("400", "What was asked makes no sense."),
    ("408", "The body was not here in time."),
    ("413", "The body has more than 256 KiB."),
    ("431", "The head has more than 64 headers, or more than 16 KiB."),
    ("500", "smsd has a fault here."),
    (
        "503",
        "Not now: the queue does not answer, or there is no room. `Retry-After` says when to come again.",
    ),
];

/// And where a scope is needed.
const CALLERS: [(&str, &str); 2] = [
    ("401", "Say who you are: `Authorization: Bearer TOKEN`."),
    ("403", "The token has no such scope, or a browser was led here from elsewhere."),
];

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(TOKEN)).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        for item in document.paths.paths.values_mut() {
            [&mut item.get, &mut item.post].into_iter().flatten().for_each(complete);
        }
    }
}

fn complete(operation: &mut Operation) {
    // An empty requirement is that of what is open.
    let open =
        operation.security.as_ref().is_some_and(|all| all.iter().any(|one| one == &Default::default()));
    let callers = CALLERS.iter().filter(|_| !open);
    for (status, words) in ANYBODY.iter().chain(callers) {
        let mut answer = ResponseBuilder::new().description(*words);
        // What reads heads refuses without a body.
        if *status != "431" {
            answer = answer.content(PROBLEM, Content::new(Some(Ref::from_schema_name("Problem"))));
        }
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| answer.build().into());
    }
}
