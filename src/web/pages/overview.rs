//! `GET /`: in one look, whether alerts get out, what waits, what has to be decided, how each way out is, what went out.

use jiff::Timestamp;
use maud::{Markup, html};

use super::chart;
use super::verdict::{Verdict, verdict};
use super::words::{self, Tone, ago, count, foreign, minute, moment, number, span, state};
use crate::alert::AlertId;
use crate::queue::{AttemptRow, AttemptState, FROM_THE_PAST, Layer};
use crate::telemetry::board::{Board, Light};
use crate::telemetry::history::Course;
use crate::telemetry::sampler::Sample;

/// What the page is made of.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// When.
    pub(super) now: Timestamp,
    /// What holds, as the events have it.
    pub(super) board: Board,
    /// What the queue said last.
    pub(super) sample: std::sync::Arc<Sample>,
    /// The last day of each dispatcher.
    pub(super) courses: Vec<Course>,
    /// Whoever looks may act.
    pub(super) operate: bool,
    /// For a screen on the wall.
    pub(super) wall: bool,
}

/// SMS shown of those that went out last.
const LAST: usize = 20;
/// The same on a wall, which nobody scrolls.
const LAST_ON_WALL: usize = 8;
/// Attempts shown of those to be decided.
const DECIDE: usize = 20;
/// The same on a wall: one row.
const DECIDE_ON_WALL: usize = 3;

impl View {
    /// What is said first.
    pub(super) fn verdict(&self) -> Verdict {
        verdict(&self.board, &self.sample, self.now)
    }

    /// The page beneath the navigation.
    pub(super) fn render(&self) -> Markup {
        html! {
            (self.first())
            div.board {
                @if !self.sample.undecided.is_empty() { (self.decide()) }
                div.stack {
                    (self.waits())
                    (self.about())
                }
                (self.ways())
                (self.last())
            }
        }
    }

    fn first(&self) -> Markup {
        let Verdict { tone, line, detail, reason } = self.verdict();
        html! {
            section.verdict.(tone.as_str()) aria-label="Do alerts get out?" {
                (tone.icon())
                div {
                    h1 aria-live="polite" { (line) }
                    p { (detail) @if let Some(reason) = &reason { " " (foreign(reason, 200)) } }
                }
            }
        }
    }

    fn waits(&self) -> Markup {
        let depth = &self.sample.depth;
        let most = depth.waiting.iter().map(|layer| layer.alerts).max().unwrap_or(1).max(1);
        html! {
            section.card #waits aria-labelledby="h-waits" {
                header {
                    h2 #h-waits { "Waiting" }
                    @if depth.open > 0 { span.soft.small { (count(depth.open, "SMS")) " on the way now" } }
                }
                p.total { (number(depth.alerts())) }
                @if depth.waiting.is_empty() {
                    p.none { @if self.sample.at.is_some() { "Nothing waits." } @else { "Not known yet." } }
                } @else {
                    table.waits {
                        caption.hidden { "Alerts that wait, by severity" }
                        thead { tr {
                            th scope="col" { "Severity" }
                            th.num scope="col" { "Alerts" }
                            th.bar scope="col" { span.hidden { "Share" } }
                            th scope="col" { "Oldest" }
                        } }
                        tbody { @for layer in &depth.waiting { (self.layer(layer, most)) } }
                    }
                }
            }
        }
    }

    fn layer(&self, layer: &Layer, most: u64) -> Markup {
        let width = (layer.alerts as f64 / most as f64 * 100.0).max(1.0);
        html! {
            tr {
                td { (words::severity(layer.severity)) @if layer.severity.0 == Some(1) { span.soft { " most severe" } } }
                td.n { (number(layer.alerts)) }
                td.bar {
                    svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                        rect.bg width="100" height="8" {}
                        rect width={ (format!("{width:.1}")) } height="8" {}
                    }
                }
                td { @if let Some(oldest) = layer.oldest { (ago(oldest, self.now)) } @else { "–" } }
            }
        }
    }

    fn decide(&self) -> Markup {
        let all = &self.sample.undecided;
        let shown = if self.wall { DECIDE_ON_WALL } else { DECIDE };
        let more = all.len().saturating_sub(shown);
        html! {
            section.card.wide.decide #decide aria-labelledby="h-decide" {
                header {
                    h2 #h-decide { (state(Tone::Warn, "Nobody knows whether these came")) }
                    span.soft.small { (count(all.len() as u64, "SMS")) }
                }
                ul { @for attempt in all.iter().take(shown) { (self.undecided(attempt)) } }
                @if more > 0 {
                    p.soft { "And " (number(more as u64)) " more: " a href="/alerts?state=held" { "all alerts that are held" } }
                }
            }
        }
    }

    fn undecided(&self, attempt: &AttemptRow) -> Markup {
        let held = attempt.state == AttemptState::Held;
        let guard = attempt.class.as_deref() == Some(FROM_THE_PAST);
        let (tone, word) = words::outcome(attempt);
        html! {
            li id={ "d-" (attempt.id) } {
                p {
                    (state(tone, word)) " since " (minute(attempt.ended_at.unwrap_or(attempt.begun_at), self.now))
                    " · to " strong { (foreign(&attempt.recipient, 32)) }
                    @if !guard { " by " (foreign(&attempt.dispatcher, 64)) }
                }
                blockquote { (foreign(&attempt.text, 160)) }
                p.soft.small {
                    @if guard { "The queue came back from the past; it may have been sent before. " }
                    @else if let Some(detail) = &attempt.detail { (foreign(detail, 200)) ". " }
                    @if held { "A person has to decide." }
                    @else { "It is sent again by itself, once, unless somebody decides before." }
                }
                @if let (true, Some(id)) = (self.operate, alert_of(attempt)) { (decisions(id, Some(&attempt.recipient))) }
            }
        }
    }

    fn ways(&self) -> Markup {
        html! {
            section.card #ways aria-labelledby="h-ways" {
                header { h2 #h-ways { "Ways out" } span.soft.small { "in order of priority · last 24 hours" } }
                @if self.board.dispatchers.is_empty() { p.none { "No dispatcher is configured." } }
                ol.ways { @for (n, light) in self.board.dispatchers.iter().enumerate() { (self.way(n, light)) } }
            }
        }
    }

    fn way(&self, place: usize, light: &Light) -> Markup {
        let (tone, word) = health(light);
        let course = self.courses.iter().find(|course| course.dispatcher == light.name);
        html! {
            li {
                div.way {
                    h3 { (foreign(&light.name, 64)) " " span.soft.small { (light.kind) } }
                    (state(tone, word))
                    @if let Some(reason) = light.reason.as_deref().filter(|_| !light.up) {
                        p.reason { (foreign(reason, 300)) }
                    } @else if let Some(reason) = &light.reason {
                        p.why { "Last trouble: " (foreign(reason, 300)) }
                    }
                    p.why {
                        @if light.up { "Works since " } @else { "Down since " }
                        (minute(light.since, self.now)) " · "
                        @match light.last_accepted_at {
                            Some(at) => { "last accepted " (moment(at, self.now)) }
                            None => { "nothing accepted since the start" }
                        }
                    }
                }
                @if let Some(course) = course { (chart::course(course, place, self.now)) }
            }
        }
    }

    fn last(&self) -> Markup {
        let last = if self.wall { LAST_ON_WALL } else { LAST };
        html! {
            section.card.wide #last aria-labelledby="h-last" {
                header { h2 #h-last { "Last SMS" } @if !self.wall { a.small href="/alerts" { "All alerts" } } }
                @if self.sample.recent.is_empty() {
                    p.none { @if self.sample.at.is_some() { "None yet." } @else { "Not known yet." } }
                } @else {
                    table.rows role="table" {
                        caption.hidden { "The SMS that were begun last, newest first" }
                        thead role="rowgroup" { tr role="row" {
                            th role="columnheader" scope="col" { "Time" }
                            th role="columnheader" scope="col" { "To" }
                            th role="columnheader" scope="col" { "SMS" }
                            th role="columnheader" scope="col" { "By" }
                            th role="columnheader" scope="col" { "Outcome" }
                            th.num role="columnheader" scope="col" { "Took" }
                        } }
                        tbody role="rowgroup" { @for attempt in self.sample.recent.iter().take(last) { (self.sms(attempt)) } }
                    }
                }
            }
        }
    }

    fn sms(&self, attempt: &AttemptRow) -> Markup {
        let (tone, word) = words::outcome(attempt);
        let took = attempt.ended_at.map(|end| span(end.as_millisecond() - attempt.begun_at.as_millisecond()));
        let begun = moment(attempt.begun_at, self.now);
        let bad = tone == Tone::Bad || tone == Tone::Warn;
        html! {
            tr role="row" id={ "s-" (attempt.id) } {
                td.key role="cell" {
                    @match alert_of(attempt) { Some(id) => a href={ "/alerts/" (id) } { (begun) }, None => (begun) }
                }
                td.key role="cell" { (foreign(&attempt.recipient, 32)) }
                td.text role="cell" {
                    (foreign(&attempt.text, 90))
                    @if let Some(detail) = attempt.detail.as_ref().filter(|_| bad) { span.why { (foreign(detail, 160)) } }
                }
                td.key role="cell" { (foreign(&attempt.dispatcher, 64)) }
                td.end role="cell" {
                    (state(tone, word))
                    @if attempt.possible_duplicate { " " span.tag { "may be double" } }
                }
                td.num role="cell" { (took.unwrap_or_else(|| "–".to_owned())) }
            }
        }
    }

    fn about(&self) -> Markup {
        let board = &self.board;
        let queue = if board.queue.up { (Tone::Good, "answers") } else { (Tone::Bad, "does not answer") };
        html! {
            section.card #about aria-labelledby="h-about" {
                header { h2 #h-about { "This smsd" } }
                dl.facts {
                    dt { "Figures" }
                    dd { @match self.sample.at { Some(at) => { "as of " (ago(at, self.now)) " ago" }, None => "not yet" } }
                    dt { "Queue" }
                    dd { (state(queue.0, queue.1)) " since " (minute(board.queue.since, self.now)) }
                    dt { "Instances" }
                    dd { (board.instances) @if board.instances > 1 { ", sharing the queue" } }
                    dt { "Version" }
                    dd { (crate::VERSION) ", started " (minute(board.started_at, self.now)) }
                }
            }
        }
    }
}

/// What a dispatcher's state is called.
fn health(light: &Light) -> (Tone, &'static str) {
    match (light.up, light.cause) {
        (true, _) => (Tone::Good, "works"),
        (false, Some("misconfigured")) => (Tone::Bad, "needs a person"),
        (false, Some("refusals")) => (Tone::Bad, "refuses everybody"),
        (false, _) => (Tone::Bad, "down"),
    }
}

/// The alert whose story tells of this attempt.
fn alert_of(attempt: &AttemptRow) -> Option<AlertId> {
    attempt.carried.first().or(attempt.counted.first()).copied()
}

/// What may be decided of an SMS in doubt; each asks once more.
pub(super) fn decisions(id: AlertId, to: Option<&str>) -> Markup {
    let whom = html! { @if let Some(to) = to { span.hidden { " (to " (foreign(to, 32)) ")" } } };
    html! {
        div.acts {
            a.btn id={ "accept-" (id) } href={ "/alerts/" (id) "/accept" } { "It came" (whom) }
            a.btn id={ "release-" (id) } href={ "/alerts/" (id) "/release" } { "Send again" (whom) }
            a.btn id={ "cancel-" (id) } href={ "/alerts/" (id) "/cancel" } { "Cancel" (whom) }
        }
    }
}

#[cfg(test)]
mod tests;
