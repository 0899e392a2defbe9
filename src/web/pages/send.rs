//! `/send`: a test message, through the queue as any alert, or straight through one dispatcher, past queue and ledger.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::layout::{Here, Page, Viewer};
use super::words::{Tone, foreign, span};
use crate::alert::{Phone, Severity};
use crate::config::QueueKind;
use crate::dispatch::Class;
use crate::intake::{Taken, recipients};
use crate::queue::{Key, NewAlert, Submission};
use crate::web::access::check_form;
use crate::web::trial::{TEXT, Tested, Trial, Turns};
use crate::web::{Problem, Site};

/// Results that are remembered, so that a page loaded again shows its own and sends nothing.
const REMEMBERED: usize = 64;
/// Characters of a test.
const TEXT_MAX: usize = 1_000;
/// Numbers of a test, groups counted by their numbers.
const MOST: usize = 100;
/// A form that is sent twice queues once, for so long.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The last results, by the key of their form. `None`: not known yet.
#[derive(Debug, Default)]
pub(super) struct Results(Mutex<VecDeque<(Uuid, Option<Told>)>>);

/// The place of a result that is not known yet. If whoever asked goes away before it is, that is the result.
struct Slot<'a> {
    results: &'a Results,
    key: Uuid,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let told = Told {
            tone: Tone::Warn,
            words: "Nobody waited for the answer; it may have gone out.".to_owned(),
            foreign: String::new(),
            alert: None,
        };
        self.results.end(self.key, told);
    }
}

/// How it went: our words, then foreign ones.
#[derive(Clone, Debug)]
struct Told {
    tone: Tone,
    words: String,
    foreign: String,
    alert: Option<i64>,
}

/// What the form brings.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Given {
    #[serde(default)]
    csrf: String,
    key: Option<Uuid>,
    #[serde(default)]
    to: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    by: String,
}

/// Whose result is asked for.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Asked {
    result: Option<Uuid>,
}

impl Results {
    /// True for the first who comes with this key.
    fn begin(&self, key: Uuid) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.iter().any(|(known, _)| *known == key) {
            return false;
        }
        if all.len() >= REMEMBERED {
            all.pop_front();
        }
        all.push_back((key, None));
        true
    }

    /// The first that is said of it holds.
    fn end(&self, key: Uuid, told: Told) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = all.iter_mut().find(|(known, _)| *known == key) {
            slot.get_or_insert(told);
        }
    }

    fn of(&self, key: Uuid) -> Option<Option<Told>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(known, _)| *known == key).map(|(_, told)| told.clone())
    }
}

/// `GET /send`.
pub(super) async fn ask(
    State(site): State<Site>,
    Extension(results): Extension<Arc<Results>>,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Response {
    let viewer = Viewer::of(&site, &parts);
    let result = asked.result.and_then(|key| results.of(key));
    page(&site, &viewer, &Given::default(), result, StatusCode::OK)
}

/// `POST /send`.
pub(super) async fn perform(
    State(site): State<Site>,
    Extension(results): Extension<Arc<Results>>,
    Extension(turns): Extension<Turns>,
    parts: Parts,
    Form(given): Form<Given>,
) -> Response {
    let viewer = Viewer::of(&site, &parts);
    let wrong = |status, words: String| {
        let told =
            Told { tone: Tone::Bad, words: "Nothing was sent.".to_owned(), foreign: words, alert: None };
        page(&site, &viewer, &given, Some(Some(told)), status)
    };
    if let Err(problem) = check_form(&parts, &given.csrf) {
        return wrong(problem.status, problem.detail);
    }
    let Some(key) = given.key else {
        return wrong(StatusCode::BAD_REQUEST, "this form has no key".to_owned());
    };
    let test = match given.read(&site) {
        Ok(test) => test,
        Err(words) => return wrong(StatusCode::BAD_REQUEST, words),
    };
    if results.begin(key) {
        let slot = Slot { results: &results, key };
        let told = test.send(&site, &turns, &viewer.name, key).await;
        slot.results.end(key, told);
    }
    Redirect::to(&format!("/send?result={key}")).into_response()
}

/// What is to be sent, and how.
enum Test {
    Queue(Vec<NewAlert>),
    Straight { dispatcher: String, to: Phone, text: String },
}

impl Given {
    fn read(&self, site: &Site) -> Result<Test, String> {
        let standing = site.standing();
        let text = self.text.replace("\r\n", "\n");
        if text.trim().is_empty() || text.chars().count() > TEXT_MAX {
            return Err(format!("the text is empty or longer than {TEXT_MAX} characters"));
        }
        let words = self.to.split([',', ';', '\n']).filter(|word| !word.trim().is_empty());
        let to = recipients(words, &standing.config.groups).map_err(|e| e.to_string())?;
        if to.len() > MOST {
            return Err(format!("{} numbers; a test goes to at most {MOST}", to.len()));
        }
        if !self.by.is_empty() {
            let [to] = to.as_slice() else {
                return Err("straight through a dispatcher goes to one number".to_owned());
            };
            return Ok(Test::Straight { dispatcher: self.by.clone(), to: to.clone(), text });
        }
        let number = |word: &str, what: &str| match word.trim() {
            "" => Ok(None),
            word => word.parse::<i32>().map(Some).map_err(|_| format!("{what} is no number: {word}")),
        };
        let severity = Severity(number(&self.severity, "the severity")?);
        let account = number(&self.account, "the account")?;
        let text: Arc<str> = text.into();
        Ok(Test::Queue(
            to.into_iter().map(|to| NewAlert { to, text: Arc::clone(&text), severity, account }).collect(),
        ))
    }
}

impl Test {
    async fn send(self, site: &Site, turns: &Turns, by: &str, key: Uuid) -> Told {
        match self {
            Test::Queue(alerts) => {
                let submission = Submission { key: Key { name: format!("page:{key}"), kept: KEPT }, alerts };
                match site.desk.hand_in(submission).await {
                    Ok(Taken { ids, .. }) => Told {
                        tone: Tone::Good,
                        words: format!("Queued: {}.", super::words::count(ids.len() as u64, "alert")),
                        foreign: String::new(),
                        alert: ids.first().map(|id| id.0),
                    },
                    Err(error) => Told {
                        tone: Tone::Bad,
                        words: "Not queued.".into(),
                        foreign: error.to_string(),
                        alert: None,
                    },
                }
            }
            Test::Straight { dispatcher, to, text } => {
                let begun = Instant::now();
                let trial = Trial { dispatcher, to, text, by: by.to_owned() };
                Told::of(trial.run(site, turns).await, begun)
            }
        }
    }
}

impl Told {
    /// What came of a test straight through a dispatcher.
    fn of(result: Result<Tested, Problem>, begun: Instant) -> Told {
        let took = span(begun.elapsed().as_millis().try_into().unwrap_or(i64::MAX));
        let (tone, words, foreign) = match result {
            Ok(tested) if tested.accepted => {
                (Tone::Good, format!("Accepted in {took}."), tested.references.join(" "))
            }
            Ok(tested) => {
                let doubt = tested.class == Class::Unknown.as_str();
                let tone = if doubt { Tone::Warn } else { Tone::Bad };
                let words = match doubt {
                    true => format!("No answer within {took}; it may have gone out."),
                    false => format!("Not accepted, after {took} ({}).", tested.class),
                };
                (tone, words, tested.detail.unwrap_or_default())
            }
            Err(problem) => (Tone::Bad, "Nothing was sent.".to_owned(), problem.detail),
        };
        Told { tone, words, foreign, alert: None }
    }
}

fn page(
    site: &Site,
    viewer: &Viewer,
    given: &Given,
    result: Option<Option<Told>>,
    status: StatusCode,
) -> Response {
    let page = Page {
        title: "Test send",
        here: Here::Send,
        live: false,
        wall: false,
        viewer: Some(viewer),
        flash: None,
        above: html! {},
        body: form(site, viewer, given, result),
    };
    page.answer(status)
}

fn form(site: &Site, viewer: &Viewer, given: &Given, result: Option<Option<Told>>) -> Markup {
    let standing = site.standing();
    let text = if given.text.is_empty() { TEXT } else { &given.text };
    let nav = matches!(standing.config.queue.kind, QueueKind::NavDb(_));
    html! {
        div.narrow {
            h1 { "Test send" }
            @match result {
                Some(Some(told)) => p.flash.(told.tone.as_str()) role="status" {
                    (told.tone.icon())
                    span {
                        (told.words) " " (foreign(&told.foreign, 400))
                        @if let Some(id) = told.alert { " " a href={ "/alerts/" (id) } { "See alert " (id) } }
                    }
                },
                Some(None) => p.flash.busy role="status" { (Tone::Busy.icon()) span { "On its way. Load this page again for the answer." } },
                None => {},
            }
            form.card method="post" action="/send" {
                input type="hidden" name="csrf" value=(viewer.csrf);
                input type="hidden" name="key" value=(Uuid::now_v7());
                div.field {
                    label for="to" { "To" }
                    input #to name="to" required autocomplete="off" maxlength="2000" value=(given.to) placeholder="+4799999999" aria-describedby="to-help";
                    p #to-help.soft.small { "Numbers with commas between them" @if !standing.config.groups.is_empty() { ", or group:NAME" } "." }
                }
                div.field {
                    label for="text" { "Text" }
                    textarea #text name="text" required maxlength=(TEXT_MAX) { (text) }
                }
                div.field {
                    label for="by" { "How" }
                    select #by name="by" aria-describedby="by-help" {
                        option value="" { "Through the queue, as an alert" }
                        @for (way, _) in standing.ways.iter() {
                            option value=(way.name) selected[given.by == *way.name] { "Straight through " (foreign_plain(&way.name)) }
                        }
                    }
                    p #by-help.soft.small { "Straight through a dispatcher passes the queue by: it is sent at once, is not repeated, and stands in no ledger." }
                }
                div.field {
                    label for="severity" { "Severity" }
                    select #severity name="severity" {
                        option value="" { "none" }
                        @for n in 1..=5 { option value=(n) selected[given.severity == n.to_string()] { (n) @if n == 1 { " (most severe)" } } }
                    }
                }
                @if nav {
                    div.field {
                        label for="account" { "NAV account (number)" }
                        input #account name="account" inputmode="numeric" maxlength="10" value=(given.account);
                    }
                }
                button.btn.main { "Send" }
            }
        }
    }
}

/// For where only text may stand.
fn foreign_plain(text: &str) -> String {
    let mut text = text.to_owned();
    crate::telemetry::clip(&mut text, 64);
    text
}
