//! What a person does to an alert: first a page that says what it costs, then the deed, then its story.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{Here, Page, Viewer, trouble};
use super::words::{Tone, count, foreign, foreign_lines};
use crate::alert::AlertId;
use crate::queue::{AlertState, AttemptState, Decision, QueueError, Story, Which};
use crate::web::Site;
use crate::web::access::check_form;

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// It shall not be sent.
    Cancel,
    /// It shall be sent after all, or again.
    Requeue,
    /// The SMS in doubt came.
    Accept,
    /// The SMS in doubt shall be sent again.
    Release,
}

/// What was done, as the address of the next page has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Did {
    did: Option<Act>,
    #[serde(default)]
    n: u64,
}

/// What our own form brings.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Given {
    #[serde(default)]
    pub(super) csrf: String,
}

/// `GET`: what it costs.
pub(super) async fn ask(
    State(site): State<Site>,
    Path((id, act)): Path<(i64, Act)>,
    parts: Parts,
) -> Response {
    let viewer = Viewer::of(&site, &parts);
    let story = match story(&site, &viewer, id).await {
        Ok(story) => story,
        Err(response) => return response,
    };
    let title = act.question(&story);
    let page = Page {
        title: &title,
        here: Here::Alerts,
        live: false,
        wall: false,
        viewer: Some(&viewer),
        flash: None,
        above: html! {},
        body: act.confirm(&story, &title, &viewer),
    };
    page.answer(StatusCode::OK)
}

/// `POST`: the deed.
pub(super) async fn perform(
    State(site): State<Site>,
    Path((id, act)): Path<(i64, Act)>,
    parts: Parts,
    Form(given): Form<Given>,
) -> Response {
    let viewer = Viewer::of(&site, &parts);
    if let Err(problem) = check_form(&parts, &given.csrf) {
        return trouble(&viewer, problem.status, &problem.detail);
    }
    let story = match story(&site, &viewer, id).await {
        Ok(story) => story,
        Err(response) => return response,
    };
    match act.of(&site, &story, &viewer.name).await {
        Ok(n) => Redirect::to(&format!("/alerts/{id}?did={}&n={n}", act.as_str())).into_response(),
        Err(error) => trouble(
            &viewer,
            StatusCode::SERVICE_UNAVAILABLE,
            &format!(
                "The queue does not answer, so nobody knows whether this was done: {error}. Look at the alert again."
            ),
        ),
    }
}

async fn story(site: &Site, viewer: &Viewer, id: i64) -> Result<Story, Response> {
    match site.queue.show(AlertId(id)).await {
        Ok(Some(story)) => Ok(story),
        Ok(None) => Err(trouble(viewer, StatusCode::NOT_FOUND, &format!("There is no alert {id}."))),
        Err(error) => Err(trouble(
            viewer,
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("The queue does not answer: {error}"),
        )),
    }
}

impl Act {
    /// The word for it in addresses.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Act::Cancel => "cancel",
            Act::Requeue => "requeue",
            Act::Accept => "accept",
            Act::Release => "release",
        }
    }

    /// Where it is asked about and done.
    pub(super) fn path(self, id: AlertId) -> String {
        format!("/alerts/{id}/{}", self.as_str())
    }

    fn question(self, story: &Story) -> String {
        let id = story.alert.id;
        match self {
            Act::Cancel => format!("Cancel alert {id}?"),
            Act::Requeue => format!("Queue alert {id} again?"),
            Act::Accept => format!("Did the SMS with alert {id} come?"),
            Act::Release => format!("Send the SMS with alert {id} again?"),
        }
    }

    /// What it costs.
    fn cost(self, story: &Story) -> &'static str {
        match (self, story.alert.state) {
            (Act::Cancel, AlertState::InDoubt | AlertState::Held) => {
                "It is not sent again. If it did not come the first time, nobody gets it. It can be queued again later."
            }
            (Act::Cancel, _) => "It will not be sent: nobody gets it. It can be queued again later.",
            (Act::Requeue, AlertState::Sent) => {
                "It was sent before: the phone gets it a second time. That is recorded as a possible duplicate."
            }
            (Act::Requeue, _) => "It is sent as soon as a way out has room for it, however old it is.",
            (Act::Accept, _) => {
                "It is recorded as sent and never sent again. If it did not come, nobody gets it."
            }
            (Act::Release, _) => {
                "It is sent again. If it came the first time, the phone gets it twice. That is recorded as a possible duplicate."
            }
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Act::Cancel => "Cancel it",
            Act::Requeue => "Queue it again",
            Act::Accept => "Yes, it came",
            Act::Release => "Send it again",
        }
    }

    fn confirm(self, story: &Story, title: &str, viewer: &Viewer) -> Markup {
        let id = story.alert.id;
        let others = together(story).len().saturating_sub(1);
        let grave = if matches!(self, Act::Cancel) { "grave" } else { "main" };
        html! {
            div.narrow {
                h1 { (title) }
                div.card {
                    p { "To " strong { (foreign(&story.alert.to, 64)) } }
                    blockquote { (foreign_lines(&story.alert.text, 600)) }
                    p.cost { (self.cost(story)) }
                    @if others > 0 && self != Act::Requeue {
                        p { "The same SMS is about " (count(others as u64, "other alert")) "; what you decide holds for all of them." }
                    }
                    p.soft.small { "Recorded under " (foreign(&viewer.name, 64)) "." }
                    form method="post" action=(self.path(id)) {
                        input type="hidden" name="csrf" value=(viewer.csrf);
                        div.acts {
                            button.btn.(grave) { (self.verb()) }
                            a.btn href={ "/alerts/" (id) } { "Back" }
                        }
                    }
                }
            }
        }
    }

    /// Does it; returns how many alerts it changed.
    async fn of(self, site: &Site, story: &Story, by: &str) -> Result<usize, QueueError> {
        let id = [story.alert.id];
        Ok(match self {
            // An SMS in doubt is cancelled as a whole: what was said of it must hold for all that it is about.
            Act::Cancel => site.queue.cancel(&Which::Ids(together(story)), by).await?.cancelled.len(),
            Act::Requeue => site.queue.requeue(&id, by).await?.len(),
            Act::Accept => site.queue.resolve(&id, Decision::Accept, by).await?.decided.len(),
            Act::Release => site.queue.resolve(&id, Decision::Resend, by).await?.decided.len(),
        })
    }
}

/// The alert, with those that are in the same SMS in doubt.
fn together(story: &Story) -> Vec<AlertId> {
    let doubted = |state| matches!(state, AttemptState::InDoubt | AttemptState::Held);
    let mut ids = vec![story.alert.id];
    for a in story.attempts.iter().filter(|a| doubted(a.state)) {
        ids.extend(a.carried.iter().chain(&a.counted).filter(|id| **id != story.alert.id));
    }
    ids
}

impl Did {
    /// What was done, in words.
    pub(super) fn flash(&self) -> Option<(Tone, String)> {
        let alerts = count(self.n, "alert");
        Some(match (self.did?, self.n) {
            (_, 0) => (
                Tone::Warn,
                "Nothing was changed: it is being sent right now, or somebody else was first. See below how it stands.".to_owned(),
            ),
            (Act::Cancel, _) => (Tone::Good, format!("Cancelled: {alerts}.")),
            (Act::Requeue, _) => (Tone::Good, format!("Queued again: {alerts}.")),
            (Act::Accept, _) => (Tone::Good, format!("Recorded as sent: {alerts}.")),
            (Act::Release, _) => (Tone::Good, format!("To be sent again: {alerts}.")),
        })
    }
}
