//! A test straight through one dispatcher, past queue and ledger: whoever asks waits for the answer, and gets it as it is.
//!
//! It obeys who may be texted, looks as any SMS would, and is told of with the name of who asked. One at a time goes
//! through each dispatcher. If whoever asked goes away, the test ends: nothing goes on here that nobody looks at.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Problem, Site};
use crate::alert::{AlertId, Phone};
use crate::compose::{Shape, compose};
use crate::dispatch::{Class, Sms, SubmitError};
use crate::engine::policy::permits;
use crate::telemetry::Event;

/// What a test says if nothing else is given.
pub(super) const TEXT: &str = "This is a test message from smsd.";

/// A test.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Straight through this dispatcher.
    pub(super) dispatcher: String,
    /// To this number.
    pub(super) to: Phone,
    /// With this text.
    pub(super) text: String,
    /// Under whose name.
    pub(super) by: String,
}

/// What came of a test.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Tested {
    /// The id by which the gateway may know the SMS.
    pub(super) attempt: Uuid,
    /// It was taken.
    pub(super) accepted: bool,
    /// What class of answer it was: `accepted`, or what it was not taken for.
    pub(super) class: &'static str,
    /// The gateway's own code.
    pub(super) code: Option<String>,
    /// What happened, in words, if it was not taken.
    pub(super) detail: Option<String>,
    /// The gateway's references.
    pub(super) references: Vec<String>,
}

/// The dispatchers through which a test is on its way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<BTreeSet<Arc<str>>>>);

struct Turn {
    turns: Turns,
    name: Arc<str>,
}

impl Turns {
    fn take(&self, name: &Arc<str>) -> Option<Turn> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(name));
        first.then(|| Turn { turns: self.clone(), name: Arc::clone(name) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Trial {
    /// Makes the test.
    ///
    /// # Errors
    /// 400: the text is empty or the number may not be texted. 404: there is no such dispatcher. 429: it is being tested.
    pub(super) async fn run(self, site: &Site, turns: &Turns) -> Result<Tested, Problem> {
        let standing = site.standing();
        let main = &standing.config.main;
        if self.text.trim().is_empty() {
            return Err(Problem::bad_request("text makes no sense: it is empty"));
        }
        if !permits(&main.allow, &main.deny, &self.to) {
            let detail = "to makes no sense: this number may not be texted: see allow and deny in [main]";
            return Err(Problem::bad_request(detail));
        }
        let way = standing.ways.iter().find(|(way, _)| *way.name == *self.dispatcher);
        let Some((way, dispatcher)) = way else {
            return Err(Problem::new(StatusCode::NOT_FOUND, "there is no dispatcher of this name"));
        };
        let Some(_turn) = turns.take(&way.name) else {
            let detail = "a test is on its way through this dispatcher; try again";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1));
        };
        let text = compose(&[(AlertId(0), &*self.text)], &Shape::of(main)).text;
        let sms = Sms::new(self.to, text.into(), way.timeout);
        let late =
            || SubmitError::new(Class::Unknown, format!("no answer within {} s", way.timeout.as_secs_f64()));
        let result = timeout(way.timeout, dispatcher.submit(&sms)).await.unwrap_or_else(|_| Err(late()));
        let attempt = sms.attempt;
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
            by: self.by,
        });
        Ok(tested)
    }
}
