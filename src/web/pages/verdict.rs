//! The first line: do alerts get out? Pure.

use jiff::Timestamp;

use super::words::{Tone, count, minute_words};
use crate::telemetry::board::Board;
use crate::telemetry::sampler::Sample;

/// Somebody who waits longer than this (seconds), though a way out works, is worth a word.
const LONG: i64 = 900;

/// What is said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How good or bad it is.
    pub(super) tone: Tone,
    /// In a few words, readable from across the room.
    pub(super) line: String,
    /// What is behind it; our own words.
    pub(super) detail: String,
    /// What a gateway or the queue said; foreign.
    pub(super) reason: Option<String>,
}

impl Verdict {
    fn new(tone: Tone, line: impl Into<String>, detail: impl Into<String>) -> Verdict {
        Verdict { tone, line: line.into(), detail: detail.into(), reason: None }
    }

    fn because(self, reason: Option<&str>) -> Verdict {
        Verdict { reason: reason.filter(|r| !r.is_empty()).map(str::to_owned), ..self }
    }
}

/// The worst of what is known.
pub(super) fn verdict(board: &Board, sample: &Sample, now: Timestamp) -> Verdict {
    let waiting = sample.depth.alerts();
    let wait =
        if waiting == 1 { "1 alert waits".to_owned() } else { format!("{} wait", count(waiting, "alert")) };
    let waits = if waiting == 0 { "Nothing waits.".to_owned() } else { format!("{wait}.") };
    let since = |t| minute_words(t, now);
    if !board.queue.up {
        let line = format!("The queue does not answer since {}", since(board.queue.since));
        let detail = match sample.at {
            Some(at) => format!(
                "What is shown below is of {}. Nothing is lost: what waits in the queue stays there.",
                since(at)
            ),
            None => "Nothing is known of what waits; what waits in the queue stays there.".to_owned(),
        };
        return Verdict::new(Tone::Bad, line, detail).because(board.queue.reason.as_deref());
    }
    if board.dispatchers.is_empty() {
        return Verdict::new(
            Tone::Bad,
            "There is no way out",
            format!("No dispatcher is configured. {waits}"),
        );
    }
    if let Some(down) = board.all_down_since {
        let line = match waiting {
            0 => format!("No way out since {}", since(down)),
            _ => format!("{wait}, no way out since {}", since(down)),
        };
        let first = board.dispatchers.first();
        let detail = "Alerts wait and go out, most severe first, as soon as a dispatcher works again.";
        return Verdict::new(Tone::Bad, line, detail).because(first.and_then(|d| d.reason.as_deref()));
    }
    if board.stopping {
        return Verdict::new(Tone::Warn, "smsd is stopping", format!("It takes up no new work. {waits}"));
    }
    if let Some(error) = &sample.error {
        let line = match sample.at {
            Some(at) => format!("What waits is not known since {}", since(at)),
            None => "What waits is not known".to_owned(),
        };
        return Verdict::new(Tone::Warn, line, "The queue did not answer when it was asked for this page.")
            .because(Some(error));
    }
    if sample.at.is_none() {
        return Verdict::new(Tone::Busy, "Asking the queue", "smsd has just been started.");
    }
    let undecided = sample.depth.held;
    if undecided > 0 {
        let line = match undecided {
            1 => "Alerts get out; 1 SMS waits for you".to_owned(),
            n => format!("Alerts get out; {} wait for you", count(n, "SMS")),
        };
        return Verdict::new(
            Tone::Warn,
            line,
            "Nobody knows whether they went out, and a person has to decide.",
        );
    }
    let down: Vec<&str> = board.dispatchers.iter().filter(|d| !d.up).map(|d| &*d.name).collect();
    if !down.is_empty() {
        let (n, all) = (down.len(), board.dispatchers.len());
        let line =
            format!("Alerts get out; {n} of {all} ways out {} down", if n == 1 { "is" } else { "are" });
        return Verdict::new(Tone::Warn, line, format!("What does not work: {}. {waits}", down.join(", ")));
    }
    let oldest = sample.depth.oldest();
    if let Some(oldest) = oldest.filter(|t| now.as_second() - t.as_second() > LONG) {
        let line = format!("Alerts get out, but one waits since {}", since(oldest));
        return Verdict::new(Tone::Warn, line, format!("{waits} Its story says why."));
    }
    if sample.recent.is_empty() && board.dispatchers.iter().all(|d| d.last_accepted_at.is_none()) {
        return Verdict::new(Tone::Good, "Ready to send", format!("No SMS has gone out yet. {waits}"));
    }
    let doubt = match sample.depth.in_doubt {
        0 => String::new(),
        n => format!(" {} in doubt, to be sent again soon.", count(n, "SMS")),
    };
    Verdict::new(Tone::Good, "Alerts get out", format!("{waits}{doubt}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::alert::Severity;
    use crate::queue::{Depth, Layer};
    use crate::telemetry::board::Answering;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn board() -> Board {
        let names: [(Arc<str>, &'static str); 2] =
            [("gw1".into(), "HttpDispatcher"), ("phone".into(), "GammuDispatcher")];
        let mut board = Board::new(names, at(0));
        board.dispatchers[0].last_accepted_at = Some(at(0));
        board
    }

    fn sample(alerts: u64, oldest: i64) -> Sample {
        let layer = Layer { severity: Severity(Some(1)), alerts, oldest: Some(at(oldest)) };
        let waiting = if alerts == 0 { vec![] } else { vec![layer] };
        Sample { at: Some(at(1000)), depth: Depth { waiting, ..Depth::default() }, ..Sample::default() }
    }

    fn said(board: &Board, sample: &Sample) -> (Tone, String) {
        let v = verdict(board, sample, at(1000));
        (v.tone, format!("{}. {}", v.line, v.detail))
    }

    /// Each trouble is told, the worst first, and none of them looks well.
    #[test]
    fn the_worst_comes_first() {
        let (mut board, mut sample) = (board(), sample(3, 990));
        assert_eq!(said(&board, &sample), (Tone::Good, "Alerts get out. 3 alerts wait.".into()));
        let mut old = sample.clone();
        old.depth.waiting[0].oldest = Some(at(0));
        assert!(said(&board, &old).1.contains("but one waits since"));
        board.dispatchers[1].up = false;
        let (tone, words) = said(&board, &sample);
        assert_eq!(tone, Tone::Warn);
        assert!(words.contains("1 of 2 ways out is down. What does not work: phone"), "{words}");
        sample.depth.held = 2;
        assert!(said(&board, &sample).1.starts_with("Alerts get out; 2 SMS wait for you"));
        sample.error = Some("gone".into());
        assert!(said(&board, &sample).1.starts_with("What waits is not known since"));
        board.stopping = true;
        assert!(said(&board, &sample).1.starts_with("smsd is stopping"));
        board.all_down_since = Some(at(500));
        board.dispatchers[0].reason = Some("refused".into());
        let v = verdict(&board, &sample, at(1000));
        assert_eq!((v.tone, v.reason.as_deref()), (Tone::Bad, Some("refused")));
        assert!(v.line.starts_with("3 alerts wait, no way out since "), "{}", v.line);
        board.queue = Answering { up: false, since: at(900), reason: Some("no route".into()) };
        let v = verdict(&board, &sample, at(1000));
        assert_eq!((v.tone, v.reason.as_deref()), (Tone::Bad, Some("no route")));
        assert!(v.line.starts_with("The queue does not answer since "));
    }

    #[test]
    fn what_is_not_known_is_not_called_well() {
        let mut board = board();
        assert_eq!(said(&board, &Sample::default()).0, Tone::Busy);
        assert_eq!(said(&board, &sample(0, 0)), (Tone::Good, "Alerts get out. Nothing waits.".into()));
        board.dispatchers[0].last_accepted_at = None;
        assert!(said(&board, &sample(0, 0)).1.starts_with("Ready to send"));
        board.dispatchers.clear();
        assert_eq!(said(&board, &sample(0, 0)).0, Tone::Bad);
    }
}
