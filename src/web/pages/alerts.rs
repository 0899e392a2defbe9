//! `GET /alerts`: all alerts, newest first, by state and number, page by page.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{Here, Page, Viewer};
use super::words::{alert_state, foreign, minute, severity, state};
use crate::alert::{AlertId, Phone};
use crate::queue::{AlertRow, AlertState, Filter};
use crate::web::Site;

/// Alerts of one page.
const PAGE: usize = 50;

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    to: String,
    before: Option<i64>,
}

pub(super) async fn list(State(site): State<Site>, Query(asked): Query<Asked>, parts: Parts) -> Response {
    let viewer = Viewer::of(&site, &parts);
    let (filter, wrong) = asked.filter();
    let (status, rows) = match wrong {
        Some(wrong) => (StatusCode::BAD_REQUEST, Err(wrong)),
        None => match site.queue.list(&filter).await {
            Ok(rows) => (StatusCode::OK, Ok(rows)),
            Err(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, Err(format!("The queue does not answer: {error}")))
            }
        },
    };
    let page = Page {
        title: "Alerts",
        here: Here::Alerts,
        live: status == StatusCode::OK,
        wall: false,
        viewer: Some(&viewer),
        flash: None,
        above: asked.form(),
        body: match &rows {
            Ok(rows) => asked.table(rows, Timestamp::now()),
            Err(words) => html! { p.none role="alert" { (foreign(words, 400)) } },
        },
    };
    page.answer(status)
}

impl Asked {
    /// What the queue is asked, and what is wrong with it.
    fn filter(&self) -> (Filter, Option<String>) {
        let mut wrong = None;
        let mut said = |error: String| wrong = Some(error);
        let state = match self.state.as_str() {
            "" => None,
            word => word.parse::<AlertState>().map_err(&mut said).ok(),
        };
        let to = match self.to.trim() {
            "" => None,
            number => Phone::parse(number).map_err(|e| said(e.to_string())).ok(),
        };
        // One more than is shown tells whether there are older ones.
        (Filter { state, to, limit: PAGE + 1, before: self.before.map(AlertId) }, wrong)
    }

    fn form(&self) -> Markup {
        html! {
            div.head { h1 { "Alerts" } }
            form.filter.card action="/alerts" method="get" {
                div {
                    label for="state" { "State" }
                    select #state name="state" {
                        option value="" selected[self.state.is_empty()] { "any" }
                        @for known in AlertState::ALL {
                            option value=(known.as_str()) selected[self.state == known.as_str()] { (known.as_str().replace('_', " ")) }
                        }
                    }
                }
                div {
                    label for="to" { "To" }
                    input #to name="to" type="tel" autocomplete="off" maxlength="32" placeholder="+4799999999" value=(self.to);
                }
                button.btn { "Show" }
            }
        }
    }

    fn table(&self, rows: &[AlertRow], now: Timestamp) -> Markup {
        let last = rows.get(PAGE - 1).filter(|_| rows.len() > PAGE);
        html! {
            section.card.list aria-label="Alerts" {
                @if rows.is_empty() { p.none { "There are none." } }
                @else {
                    table.rows role="table" {
                        caption.hidden { "Alerts, newest first" }
                        thead role="rowgroup" { tr role="row" {
                            th role="columnheader" scope="col" { "Alert" }
                            th role="columnheader" scope="col" { "Queued" }
                            th role="columnheader" scope="col" { "To" }
                            th role="columnheader" scope="col" { "Text" }
                            th.num role="columnheader" scope="col" { "Severity" }
                            th role="columnheader" scope="col" { "State" }
                        } }
                        tbody role="rowgroup" {
                            @for row in rows.iter().take(PAGE) {
                                tr role="row" id={ "a-" (row.id) } {
                                    td role="cell" { a href={ "/alerts/" (row.id) } { (row.id) } }
                                    td.key role="cell" { @if let Some(at) = row.queued_at { (minute(at, now)) } @else { "–" } }
                                    td.key role="cell" { (foreign(&row.to, 32)) }
                                    td.text role="cell" { (foreign(&row.text, 120)) }
                                    td.num role="cell" { span.narrow-only { "severity " } (severity(row.severity)) }
                                    @let (tone, word) = alert_state(row.state, row.reason);
                                    td.end role="cell" { (state(tone, word)) }
                                }
                            }
                        }
                    }
                }
                @if self.before.is_some() || last.is_some() {
                    nav.pages aria-label="More alerts" {
                        @if self.before.is_some() { a.btn href=(self.path(None)) { "Newest" } }
                        @if let Some(last) = last { a.btn href=(self.path(Some(last.id))) { "Older" } }
                    }
                }
            }
        }
    }

    fn path(&self, before: Option<AlertId>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("state", &self.state), ("to", &self.to)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        if let Some(id) = before {
            query.append_pair("before", &id.to_string());
        }
        format!("/alerts?{}", query.finish())
    }
}
