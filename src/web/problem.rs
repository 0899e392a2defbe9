//! How a request is refused: a status, and words that say what to do, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::intake::NotTaken;

/// The type of its body.
pub(super) const PROBLEM: &str = "application/problem+json";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong and what to do, for people; no secrets.
    pub detail: String,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// With a status and words.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), retry_after: None }
    }

    /// The same with the seconds after which to come again.
    pub fn retry_after(self, seconds: u64) -> Problem {
        Problem { retry_after: Some(seconds), ..self }
    }

    /// What was asked makes no sense.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }
}

/// The body.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// The status of the answer.
    status: u16,
    /// Its name.
    title: &'a str,
    /// What is wrong and what to do, for people.
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("refused");
        let body = Body { status: self.status.as_u16(), title, detail: &self.detail };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<NotTaken> for Problem {
    fn from(error: NotTaken) -> Problem {
        let (status, retry_after) = match &error {
            NotTaken::OtherAlerts => (StatusCode::CONFLICT, None),
            NotTaken::NoAccount(_) | NotTaken::Unfit(_) => (StatusCode::BAD_REQUEST, None),
            NotTaken::Busy(after) => (StatusCode::TOO_MANY_REQUESTS, Some(after.as_secs().max(1))),
            NotTaken::Queue(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        };
        Problem { status, detail: error.to_string(), retry_after }
    }
}
