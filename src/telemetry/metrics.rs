//! What Prometheus is told: what was counted from the events, and what holds now.
//!
//! Every series is there from the start, at 0. A label is a word of a closed set or the name of a configured dispatcher:
//! never a number of a phone, never a word of an alert, never what a gateway has said. `docs/metrics.md` says of each
//! series what it means; a test holds it against what is served.
//!
//! Deliberately absent: counters of what is in the queue. Several instances work on one queue, people decide in it, and
//! other programs write to it; what it holds is shown as gauges, and the account of it is `smsd queue audit`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use jiff::Timestamp;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::board::Board;
use super::{Event, Sample};
use crate::alert::{Reason, Severity};
use crate::dispatch::Class;
use crate::intake::Tally;

/// How an attempt may end: `accepted`, or the class of the answer.
const OUTCOMES: [&str; 8] = [
    "accepted",
    Class::Rejected.as_str(),
    Class::Deferred.as_str(),
    Class::Unavailable.as_str(),
    Class::Throttled { retry_after: std::time::Duration::ZERO }.as_str(),
    Class::Misconfigured.as_str(),
    Class::Failed.as_str(),
    Class::Unknown.as_str(),
];
/// How an alert may end.
const ENDS: [&str; 2] = ["sent", "ignored"];
/// The network's later word.
const DELIVERIES: [&str; 2] = ["delivered", "undelivered"];
/// How a try to mail the admin may end.
const MAILS: [&str; 2] = ["sent", "failed"];
/// A severity by itself, if people use it; the rest together.
const SEVERITIES: [&str; 7] = ["1", "2", "3", "4", "5", "other", "none"];

/// Upper bounds of the buckets, in seconds: of a submit, from a gateway nearby to `submit_timeout` and beyond.
const SUBMIT_BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0];
/// The same of the time in the queue: from at once, over `delay`, to an outage of hours.
const QUEUE_BOUNDS: [f64; 12] =
    [0.05, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 600.0, 3_600.0, 14_400.0];

type Labels<const N: usize> = [(&'static str, Arc<str>); N];
type Seconds = Gauge<f64, AtomicU64>;

/// What was counted since the start. One per daemon; no lock is held while an event is learned.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    alerts: Family<Labels<1>, Counter>,
    ignored: Family<Labels<1>, Counter>,
    attempts: Family<Labels<2>, Counter>,
    submit: Family<Labels<1>, Histogram, Bounds>,
    queue: Histogram,
    in_doubt: Counter,
    possible_duplicates: Counter,
    delivery_reports: Family<Labels<2>, Counter>,
    reloaded: Gauge<i64, AtomicI64>,
    mails: Family<Labels<1>, Counter>,
}

/// Makes a histogram of [`SUBMIT_BOUNDS`].
#[derive(Clone, Copy, Debug)]
struct Bounds;

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SUBMIT_BOUNDS)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let metrics = Metrics {
            registry: Registry::default(),
            alerts: Family::default(),
            ignored: Family::default(),
            attempts: Family::default(),
            submit: Family::new_with_constructor(Bounds),
            queue: Histogram::new(QUEUE_BOUNDS),
            in_doubt: Counter::default(),
            possible_duplicates: Counter::default(),
            delivery_reports: Family::default(),
            reloaded: Gauge::default(),
            mails: Family::default(),
        };
        metrics.reloaded.set(1);
        for end in ENDS {
            metrics.alerts.get_or_create_owned(&[("state", end.into())]);
        }
        for reason in Reason::ALL {
            metrics.ignored.get_or_create_owned(&[("reason", reason.as_str().into())]);
        }
        for result in MAILS {
            metrics.mails.get_or_create_owned(&[("result", result.into())]);
        }
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Metrics {
        let r = &mut self.registry;
        r.register("smsd_alerts", "Alerts that ended by this daemon's doing, by how", self.alerts.clone());
        r.register("smsd_alerts_ignored", "Alerts that this daemon ignored, by reason", self.ignored.clone());
        r.register("smsd_attempts", "Submits that ended, by how", self.attempts.clone());
        r.register("smsd_submit_seconds", "How long a submit took, however it ended", self.submit.clone());
        r.register(
            "smsd_queue_seconds",
            "From when an alert was queued to when an SMS with its text was accepted",
            self.queue.clone(),
        );
        r.register(
            "smsd_in_doubt",
            "Submits of which nobody knows whether the SMS was taken",
            self.in_doubt.clone(),
        );
        r.register(
            "smsd_possible_duplicates",
            "SMS accepted while an earlier one with the same alert may have been taken too",
            self.possible_duplicates.clone(),
        );
        r.register(
            "smsd_delivery_reports",
            "What the network said later of SMS that were accepted",
            self.delivery_reports.clone(),
        );
        r.register(
            "smsd_config_last_reload_successful",
            "1 if the configuration was read without fault when it was last read",
            self.reloaded.clone(),
        );
        r.register(
            "smsd_admin_mails",
            "Mails to the admin: taken by the mail server, or tried in vain",
            self.mails.clone(),
        );
        self
    }

    /// A mail to the admin was taken, or was not.
    pub fn mailed(&self, taken: bool) {
        let [sent, failed] = MAILS;
        self.mails.get_or_create(&[("result", if taken { sent } else { failed }.into())]).inc();
    }

    /// A dispatcher that may be told of: its series are there from now on.
    pub fn expect(&self, dispatcher: &Arc<str>) {
        for outcome in OUTCOMES {
            self.attempts.get_or_create_owned(&by(dispatcher, "outcome", outcome));
        }
        for state in DELIVERIES {
            self.delivery_reports.get_or_create_owned(&by(dispatcher, "state", state));
        }
        self.submit.get_or_create_owned(&[("dispatcher", Arc::clone(dispatcher))]);
    }

    /// Counts what an event says.
    pub fn learn(&self, event: &Event, now: Timestamp) {
        match event {
            Event::Accepted { dispatcher, alerts, squeezed, possible_duplicate, queued_at, took, .. } => {
                self.ended(dispatcher, "accepted", took.as_secs_f64());
                self.alerts.get_or_create(&[("state", "sent".into())]).inc_by(*alerts as u64);
                self.ignore(Reason::Squeezed, *squeezed);
                self.possible_duplicates.inc_by(u64::from(*possible_duplicate));
                for queued_at in queued_at {
                    self.queue.observe(seconds(*queued_at, now));
                }
            }
            Event::Refused { dispatcher, error, took, .. } => {
                self.ended(dispatcher, error.class.as_str(), took.as_secs_f64());
            }
            Event::Doubtful { dispatcher, error, took, .. } => {
                self.ended(dispatcher, error.class.as_str(), took.as_secs_f64());
                self.in_doubt.inc();
            }
            Event::Ignored { alerts, reason, .. } => self.ignore(*reason, alerts.len()),
            Event::BadNumber { .. } => self.ignore(Reason::Rejected, 1),
            Event::Expired { alerts } => self.ignore(Reason::Expired, alerts.len()),
            Event::Reloaded => {
                self.reloaded.set(1);
            }
            Event::ReloadRefused { .. } => {
                self.reloaded.set(0);
            }
            _ => {}
        }
    }

    /// All series in the format of OpenMetrics 1.0.
    pub fn open_metrics(&self, now: &Now<'_>) -> String {
        let mut text = String::new();
        // Writing to a string can not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now.registry());
        let _ = encode_eof(&mut text);
        text
    }

    fn ended(&self, dispatcher: &Arc<str>, outcome: &'static str, seconds: f64) {
        self.attempts.get_or_create(&by(dispatcher, "outcome", outcome)).inc();
        self.submit.get_or_create(&[("dispatcher", Arc::clone(dispatcher))]).observe(seconds);
    }

    fn ignore(&self, reason: Reason, alerts: usize) {
        self.alerts.get_or_create(&[("state", "ignored".into())]).inc_by(alerts as u64);
        self.ignored.get_or_create(&[("reason", reason.as_str().into())]).inc_by(alerts as u64);
    }
}

/// What holds at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The time.
    pub at: Timestamp,
    /// As the events have it.
    pub board: &'a Board,
    /// As the queue had it.
    pub sample: &'a Sample,
    /// What was handed in.
    pub tally: &'a Tally,
}

impl Now<'_> {
    /// Made for one answer, so that what is no longer configured is gone from the next.
    fn registry(&self) -> Registry {
        let mut r = Registry::default();
        self.register_queue(&mut r);
        self.register_dispatchers(&mut r);
        self.register_intakes(&mut r);
        self.register_process(&mut r);
        r
    }

    fn register_queue(&self, r: &mut Registry) {
        let Sample { at, depth, .. } = self.sample;
        let age = |oldest: Option<Timestamp>| oldest.map_or(0.0, |t| seconds(t, self.at));
        r.register("smsd_alerts_waiting", "Alerts that wait", whole(depth.alerts()));
        r.register(
            "smsd_oldest_waiting_seconds",
            "How long the oldest alert waits, 0 if none does",
            gauge(age(depth.oldest())),
        );
        let (waiting, oldest) =
            (Family::<Labels<1>, Gauge>::default(), Family::<Labels<1>, Seconds>::default());
        for word in SEVERITIES {
            let layers = || depth.waiting.iter().filter(|layer| severity(layer.severity) == word);
            let labels = [("severity", word.into())];
            waiting.get_or_create(&labels).set(count(layers().map(|layer| layer.alerts).sum()));
            oldest.get_or_create(&labels).set(age(layers().filter_map(|layer| layer.oldest).min()));
        }
        r.register("smsd_alerts_waiting_by_severity", "Alerts that wait, by severity", waiting);
        r.register(
            "smsd_oldest_waiting_by_severity_seconds",
            "How long the oldest alert of a severity waits, 0 if none does",
            oldest,
        );
        let unresolved = Family::<Labels<1>, Gauge>::default();
        for (state, n) in [("open", depth.open), ("in_doubt", depth.in_doubt), ("held", depth.held)] {
            unresolved.get_or_create(&[("state", state.into())]).set(count(n));
        }
        r.register(
            "smsd_attempts_unresolved",
            "Attempts that are being made (open), in doubt, or held for a person",
            unresolved,
        );
        r.register(
            "smsd_queue_up",
            "1 while the queue answers the engine",
            whole(u64::from(self.board.queue.up)),
        );
        r.register(
            "smsd_queue_sample_age_seconds",
            "How long ago the queue said what waits and what is unresolved",
            gauge(seconds(at.unwrap_or(self.board.started_at), self.at)),
        );
        r.register(
            "smsd_instances",
            "Instances that work on the queue, with this one",
            whole(self.board.instances.into()),
        );
    }

    fn register_dispatchers(&self, r: &mut Registry) {
        let (up, last) = (Family::<Labels<1>, Gauge>::default(), Family::<Labels<1>, Seconds>::default());
        for light in &self.board.dispatchers {
            let labels = [("dispatcher", Arc::clone(&light.name))];
            up.get_or_create(&labels).set(i64::from(light.up));
            last.get_or_create(&labels).set(light.last_accepted_at.map_or(0.0, since_1970));
        }
        r.register("smsd_dispatcher_up", "1 while the dispatcher is in rotation", up);
        r.register(
            "smsd_last_accepted_timestamp_seconds",
            "When the dispatcher last took an SMS, 0 if it has not since the start",
            last,
        );
    }

    fn register_intakes(&self, r: &mut Registry) {
        let intake = Family::<Labels<2>, Counter>::default();
        for (from, fate, n) in self.tally.rows() {
            let labels = [("intake", from.as_str().into()), ("result", fate.as_str().into())];
            intake.get_or_create(&labels).inc_by(n);
        }
        r.register("smsd_intake", "What was handed in, by intake and by what came of it", intake);
        let refused = Family::<Labels<2>, Counter>::default();
        for (from, why, n) in self.tally.refusals() {
            let labels = [("intake", from.as_str().into()), ("reason", why.as_str().into())];
            refused.get_or_create(&labels).inc_by(n);
        }
        r.register(
            "smsd_intake_refused",
            "Who was turned away before what was brought had been read, by intake and reason",
            refused,
        );
    }

    fn register_process(&self, r: &mut Registry) {
        r.register(
            "process_start_time_seconds",
            "When the daemon was started",
            gauge(since_1970(self.board.started_at)),
        );
        r.register("smsd_build", "The version", Info::new([("version", crate::VERSION)]));
    }
}

/// The same in the older text format of Prometheus (0.0.4), in which a counter bears its whole name everywhere.
pub fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 512);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(words) = line.strip_prefix("# HELP ") {
            help = Some(words);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let help = help.take().and_then(|words| words.split_once(' ')).map_or("", |(_, words)| words);
            text.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        } else if line != "# EOF" {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn by(dispatcher: &Arc<str>, label: &'static str, word: &'static str) -> Labels<2> {
    [("dispatcher", Arc::clone(dispatcher)), (label, word.into())]
}

fn severity(severity: Severity) -> &'static str {
    match severity.0 {
        None => "none",
        Some(n) => {
            let place = usize::try_from(n).ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < 5);
            place.and_then(|n| SEVERITIES.get(n)).copied().unwrap_or("other")
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

fn since_1970(t: Timestamp) -> f64 {
    seconds(Timestamp::UNIX_EPOCH, t)
}

fn count(n: u64) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

fn whole(n: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(count(n));
    gauge
}

fn gauge(value: f64) -> Seconds {
    let gauge = Seconds::default();
    gauge.set(value);
    gauge
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::alert::{AlertId, Phone};
    use crate::dispatch::SubmitError;
    use crate::failover::Cause;
    use crate::queue::{Depth, Layer};

    const PHONE: &str = "+4790123456";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn phone() -> Phone {
        Phone::parse(PHONE).unwrap()
    }

    fn text(metrics: &Metrics, board: &Board, sample: &Sample, now: Timestamp) -> String {
        let tally = Tally::default();
        classic(&metrics.open_metrics(&Now { at: now, board, sample, tally: &tally }))
    }

    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    fn board() -> Board {
        Board::new([("gw".into(), "HttpDispatcher"), ("b\"ackup".into(), "DebugDispatcher")], at(0))
    }

    fn metrics() -> Metrics {
        let metrics = Metrics::default();
        board().dispatchers.iter().for_each(|light| metrics.expect(&light.name));
        metrics
    }

    fn accepted(possible_duplicate: bool) -> Event {
        Event::Accepted {
            attempt: Uuid::nil(),
            recipient: phone(),
            dispatcher: "gw".into(),
            alerts: 2,
            squeezed: 3,
            segments: 1,
            number: 1,
            possible_duplicate,
            references: vec![PHONE.to_owned()],
            queued_at: vec![at(0), at(10)],
            took: Duration::from_millis(20),
        }
    }

    #[test]
    fn each_event_is_counted_where_it_belongs() {
        let metrics = metrics();
        let error = |class| SubmitError::new(class, format!("{PHONE} is no good"));
        let (attempt, recipient, dispatcher) = (Uuid::nil(), phone(), Arc::<str>::from("gw"));
        let took = Duration::from_secs(3);
        metrics.learn(&accepted(false), at(11));
        metrics.learn(&accepted(true), at(5));
        metrics.learn(
            &Event::Refused {
                attempt,
                recipient: recipient.clone(),
                dispatcher: dispatcher.clone(),
                number: 1,
                error: error(Class::Throttled { retry_after: took }),
                took,
            },
            at(0),
        );
        metrics.learn(
            &Event::Doubtful {
                attempt,
                recipient: recipient.clone(),
                dispatcher,
                held: true,
                error: error(Class::Unknown),
                took,
            },
            at(0),
        );
        metrics.learn(
            &Event::Ignored {
                recipient,
                alerts: vec![AlertId(1), AlertId(2)],
                reason: Reason::RetryLimit,
                detail: PHONE.to_owned(),
            },
            at(0),
        );
        metrics.learn(
            &Event::BadNumber { alert: AlertId(1), number: PHONE.to_owned(), detail: PHONE.to_owned() },
            at(0),
        );
        metrics.learn(&Event::Expired { alerts: vec![AlertId(3)] }, at(0));
        metrics.learn(&Event::ReloadRefused { faults: PHONE.to_owned() }, at(0));

        let text = text(&metrics, &board(), &Sample::default(), at(0));
        for (series, want) in [
            ("smsd_alerts_total{state=\"sent\"}", 4.0),
            ("smsd_alerts_total{state=\"ignored\"}", 10.0),
            ("smsd_alerts_ignored_total{reason=\"squeezed\"}", 6.0),
            ("smsd_alerts_ignored_total{reason=\"retry_limit\"}", 2.0),
            ("smsd_alerts_ignored_total{reason=\"rejected\"}", 1.0),
            ("smsd_alerts_ignored_total{reason=\"expired\"}", 1.0),
            ("smsd_attempts_total{dispatcher=\"gw\",outcome=\"accepted\"}", 2.0),
            ("smsd_attempts_total{dispatcher=\"gw\",outcome=\"throttled\"}", 1.0),
            ("smsd_attempts_total{dispatcher=\"gw\",outcome=\"unknown\"}", 1.0),
            ("smsd_submit_seconds_count{dispatcher=\"gw\"}", 4.0),
            ("smsd_submit_seconds_bucket{le=\"0.025\",dispatcher=\"gw\"}", 2.0),
            ("smsd_queue_seconds_count", 4.0),
            ("smsd_queue_seconds_sum", 17.0),
            ("smsd_queue_seconds_bucket{le=\"1.0\"}", 2.0),
            ("smsd_in_doubt_total", 1.0),
            ("smsd_possible_duplicates_total", 1.0),
            ("smsd_config_last_reload_successful", 0.0),
        ] {
            assert_eq!(value(&text, series), want, "{series}");
        }
        assert!(!text.contains(&PHONE[1..]), "a number of a phone:\n{text}");
    }

    #[test]
    fn what_holds_is_told_as_it_is_at_that_moment() {
        let mut board = board();
        board.learn(&accepted(false), at(7));
        let dispatcher = "b\"ackup".into();
        let reason = "no route".to_owned();
        board.learn(&Event::DispatcherDown { dispatcher, cause: Cause::Trouble, reason }, at(8));
        board.learn(&Event::QueueLost { reason: "gone".to_owned() }, at(9));
        board.learn(&Event::Peers { instances: 3 }, at(9));
        let layer = |severity, alerts, oldest| Layer {
            severity: Severity(severity),
            alerts,
            oldest: Some(at(oldest)),
        };
        let waiting =
            vec![layer(Some(-7), 1, -5), layer(Some(1), 4, 10), layer(Some(6), 2, -50), layer(None, 8, 3)];
        let depth = Depth { waiting, open: 1, in_doubt: 2, held: 3 };
        let sample = Sample { at: Some(at(60)), depth, ..Sample::default() };
        let text = text(&metrics(), &board, &sample, at(100));
        for (series, want) in [
            ("smsd_alerts_waiting", 15.0),
            ("smsd_oldest_waiting_seconds", 150.0),
            ("smsd_alerts_waiting_by_severity{severity=\"1\"}", 4.0),
            ("smsd_alerts_waiting_by_severity{severity=\"2\"}", 0.0),
            ("smsd_alerts_waiting_by_severity{severity=\"other\"}", 3.0),
            ("smsd_alerts_waiting_by_severity{severity=\"none\"}", 8.0),
            ("smsd_oldest_waiting_by_severity_seconds{severity=\"1\"}", 90.0),
            ("smsd_oldest_waiting_by_severity_seconds{severity=\"5\"}", 0.0),
            ("smsd_oldest_waiting_by_severity_seconds{severity=\"other\"}", 150.0),
            ("smsd_attempts_unresolved{state=\"open\"}", 1.0),
            ("smsd_attempts_unresolved{state=\"in_doubt\"}", 2.0),
            ("smsd_attempts_unresolved{state=\"held\"}", 3.0),
            ("smsd_queue_up", 0.0),
            ("smsd_queue_sample_age_seconds", 40.0),
            ("smsd_instances", 3.0),
            ("smsd_dispatcher_up{dispatcher=\"gw\"}", 1.0),
            ("smsd_dispatcher_up{dispatcher=\"b\\\"ackup\"}", 0.0),
            ("smsd_last_accepted_timestamp_seconds{dispatcher=\"gw\"}", 1_800_000_007.0),
            ("smsd_last_accepted_timestamp_seconds{dispatcher=\"b\\\"ackup\"}", 0.0),
            ("process_start_time_seconds", 1_800_000_000.0),
            (&format!("smsd_build_info{{version=\"{}\"}}", crate::VERSION), 1.0),
        ] {
            assert_eq!(value(&text, series), want, "{series}");
        }
    }

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let text = text(&metrics(), &board(), &Sample::default(), at(0));
        for dispatcher in ["gw", "b\\\"ackup"] {
            for outcome in OUTCOMES {
                let series =
                    format!("smsd_attempts_total{{dispatcher=\"{dispatcher}\",outcome=\"{outcome}\"}}");
                assert_eq!(value(&text, &series), 0.0);
            }
            for state in DELIVERIES {
                let series =
                    format!("smsd_delivery_reports_total{{dispatcher=\"{dispatcher}\",state=\"{state}\"}}");
                assert_eq!(value(&text, &series), 0.0);
            }
            assert_eq!(
                value(&text, &format!("smsd_submit_seconds_count{{dispatcher=\"{dispatcher}\"}}")),
                0.0
            );
        }
        for reason in Reason::ALL {
            let series = format!("smsd_alerts_ignored_total{{reason=\"{}\"}}", reason.as_str());
            assert_eq!(value(&text, &series), 0.0);
        }
        for series in [
            "smsd_alerts_total{state=\"sent\"}",
            "smsd_alerts_total{state=\"ignored\"}",
            "smsd_alerts_waiting",
            "smsd_oldest_waiting_seconds",
            "smsd_queue_seconds_count",
            "smsd_in_doubt_total",
            "smsd_possible_duplicates_total",
            "smsd_admin_mails_total{result=\"failed\"}",
            "smsd_intake_total{intake=\"spool\",result=\"queued\"}",
        ] {
            assert_eq!(value(&text, series), 0.0, "{series}");
        }
        assert_eq!(value(&text, "smsd_config_last_reload_successful"), 1.0);
    }

    #[test]
    fn both_formats_are_whole() {
        let (metrics, board, sample, tally) = (metrics(), board(), Sample::default(), Tally::default());
        let open = metrics.open_metrics(&Now { at: at(0), board: &board, sample: &sample, tally: &tally });
        assert!(open.ends_with("\n# EOF\n"));
        assert!(open.contains("# TYPE smsd_alerts counter\n"));
        let classic = classic(&open);
        assert!(!classic.contains("# EOF"));
        assert!(classic.contains("# TYPE smsd_alerts_total counter\n"));
        assert!(classic.contains("# TYPE smsd_build_info gauge\n"));
        let names: Vec<&str> = classic
            .lines()
            .filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(n, _)| n)
            .collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "a name stands twice");
        for line in classic.lines().filter(|l| !l.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            assert!(names.contains(&base) || names.contains(&name), "{line} has no type");
        }
        for line in classic.lines().filter_map(|l| l.strip_prefix("# HELP ")) {
            assert!(line.ends_with('.'), "{line}");
        }
    }
}
