//! How a dispatcher did in the last day: two small charts and, for whoever does not see them, a table.
//!
//! The charts are SVG without style attributes, so that the content security policy may forbid those.

use std::fmt::Write as _;

use jiff::Timestamp;
use maud::{Markup, html};

use super::words::{foreign, iso, minute_words, number, percent, span};
use crate::telemetry::history::{Bucket, Course};

/// Units of the chart's own, from bottom to top.
const HEIGHT: f64 = 30.0;
/// Buckets of one row of the table: an hour.
const ROW: usize = 4;

/// Both charts and the table. `place` tells the dispatcher from others on the page.
pub(super) fn course(course: &Course, place: usize, now: Timestamp) -> Markup {
    let all = sum(&course.buckets);
    let Some(success) = all.success() else {
        return html! { p.none { "Nothing was sent by it in the last 24 hours." } };
    };
    let done = format!("{} of {} accepted", number(all.accepted), number(all.accepted + all.failed));
    let took = all.mean_millis().map(|m| span(m as i64));
    let slowest =
        course.buckets.iter().map(|b| b.mean_millis().unwrap_or_default()).max().unwrap_or_default();
    html! {
        div.charts {
            div.chart {
                p { span { "Accepted " b { (percent(success)) } } span { (done) } }
                svg viewBox={ "0 0 " (course.buckets.len()) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                    aria-label={ "Accepted and failed SMS in the last 24 hours: " (done) } {
                    path.yes d=(bars(&course.buckets, false)) {}
                    path.no d=(bars(&course.buckets, true)) {}
                }
                (axis())
            }
            div.chart {
                p { span { "Took " b { (took.as_deref().unwrap_or("–")) } " on average" } span { "most " (span(slowest as i64)) } }
                svg viewBox={ "0 0 " (course.buckets.len()) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                    aria-label={ "Time to acceptance in the last 24 hours: " (took.as_deref().unwrap_or("none")) " on average" } {
                    path.line d=(line(&course.buckets, slowest)) {}
                }
                (axis())
            }
        }
        details id={ "hours-" (place) } {
            summary { "Hour by hour" span.hidden { " for " (foreign(&course.dispatcher, 64)) } }
            table {
                thead { tr { th scope="col" { "From" } th.num scope="col" { "Accepted" } th.num scope="col" { "Failed" } th.num scope="col" { "Took" } } }
                tbody {
                    @for hour in course.buckets.chunks(ROW).rev().map(sum).filter(|b| b.accepted + b.failed > 0) {
                        tr {
                            td { time datetime=(iso(hour.from)) { (minute_words(hour.from, now)) } }
                            td.num { (number(hour.accepted)) }
                            td.num { (number(hour.failed)) }
                            td.num { (hour.mean_millis().map_or("–".to_owned(), |m| span(m as i64))) }
                        }
                    }
                }
            }
        }
    }
}

fn axis() -> Markup {
    html! { div.axis aria-hidden="true" { span { "24 h ago" } span { "now" } } }
}

fn sum(buckets: &[Bucket]) -> Bucket {
    let first = buckets.first().map_or(Timestamp::UNIX_EPOCH, |b| b.from);
    let none = Bucket { from: first, accepted: 0, failed: 0, accepted_millis: 0, slowest_millis: 0 };
    buckets.iter().fold(none, |sum, b| Bucket {
        from: sum.from,
        accepted: sum.accepted + b.accepted,
        failed: sum.failed + b.failed,
        accepted_millis: sum.accepted_millis.saturating_add(b.accepted_millis),
        slowest_millis: sum.slowest_millis.max(b.slowest_millis),
    })
}

/// One bar a bucket, as high as the square root of its attempts, so that a storm leaves the quiet hours visible; the part
/// that failed stands on top.
fn bars(buckets: &[Bucket], failed: bool) -> String {
    let root = |b: &Bucket| ((b.accepted + b.failed) as f64).sqrt();
    let most = buckets.iter().map(root).fold(1.0, f64::max);
    let mut path = String::new();
    for (x, bucket) in buckets.iter().enumerate() {
        let Some(success) = bucket.success() else { continue };
        let high = (root(bucket) / most * HEIGHT).max(2.0);
        let yes = high * success;
        let (bottom, part) = if failed { (HEIGHT - yes, high - yes) } else { (HEIGHT, yes) };
        if part > 0.0 {
            // Writing to a String does not fail.
            let _ = write!(path, "M{x} {bottom:.1}v-{part:.1}h.8v{part:.1}z");
        }
    }
    path
}

/// One point a bucket in which something was accepted; where nothing was, the line ends.
fn line(buckets: &[Bucket], slowest: u64) -> String {
    let mut path = String::new();
    let mut pen = false;
    for (x, bucket) in buckets.iter().enumerate() {
        let Some(mean) = bucket.mean_millis() else {
            pen = false;
            continue;
        };
        let y = HEIGHT - 1.5 - mean as f64 / slowest.max(1) as f64 * (HEIGHT - 3.0);
        let _ = match pen {
            true => write!(path, "L{x}.5 {y:.1}"),
            // A point alone is a short line.
            false => write!(path, "M{x} {y:.1}h.5"),
        };
        pen = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(accepted: u64, failed: u64, mean: u64) -> Bucket {
        Bucket {
            from: Timestamp::UNIX_EPOCH,
            accepted,
            failed,
            accepted_millis: accepted * mean,
            slowest_millis: mean,
        }
    }

    #[test]
    fn bars_are_as_high_as_what_they_stand_for() {
        let day = [bucket(0, 0, 0), bucket(4, 0, 10), bucket(0, 1, 0), bucket(2, 2, 20)];
        assert_eq!(bars(&day, false), "M1 30.0v-30.0h.8v30.0zM3 30.0v-15.0h.8v15.0z");
        assert_eq!(bars(&day, true), "M2 30.0v-15.0h.8v15.0zM3 15.0v-15.0h.8v15.0z");
        assert_eq!(line(&day, 20), "M1 15.0h.5M3 1.5h.5");
    }

    #[test]
    fn figures_stand_beside_the_picture() {
        let course = Course { dispatcher: "gw".into(), buckets: vec![bucket(3, 1, 10); 8] };
        let shown = super::course(&course, 1, Timestamp::UNIX_EPOCH).into_string();
        assert!(
            shown.contains("24 of 32 accepted") && shown.contains("75.0 %") && !shown.contains("style="),
            "{shown}"
        );
        assert_eq!(shown.matches("<tr>").count(), 3);
        let idle = Course { dispatcher: "gw".into(), buckets: vec![bucket(0, 0, 0); 8] };
        assert!(super::course(&idle, 1, Timestamp::UNIX_EPOCH).into_string().contains("Nothing was sent"));
    }
}
