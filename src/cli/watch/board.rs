//! What is shown: the last look, what was seen before it where it saw nothing, and where in the list of SMS we are. Pure.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::feed::{LAST, Look};
use crate::cli::ask::Sms;
use crate::queue::{AttemptState, Depth};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// The last look.
    pub(super) look: Option<Look>,
    /// What the queue said last.
    pub(super) depth: Depth,
    /// When it said so; `None`: it has said nothing yet.
    pub(super) said_at: Option<Timestamp>,
    /// The last SMS, the last begun first.
    pub(super) sms: Vec<Sms>,
    /// The row at the top of the list.
    pub(super) top: usize,
    /// How many rows there is room for, as the last picture had it.
    pub(super) room: usize,
}

impl Board {
    pub(super) fn learn(&mut self, look: Option<Look>) {
        if let Some(Look { at, queue: Ok((depth, sms)), .. }) = &look {
            // Who has scrolled down goes on reading what is there while more comes in above.
            let reading: Option<Uuid> = self.sms.get(self.top).map(|sms| sms.id).filter(|_| self.top > 0);
            let stayed = reading.and_then(|id| sms.iter().position(|sms| sms.id == id));
            self.top = stayed.unwrap_or(self.top);
            self.depth = depth.clone();
            self.sms = sms.clone();
            self.said_at = Some(*at);
        }
        self.look = look;
        self.scroll(0);
    }

    /// By so many rows.
    pub(super) fn scroll(&mut self, rows: isize) {
        let last = self.sms.len().saturating_sub(self.room.max(1));
        self.top = self.top.saturating_add_signed(rows).min(last);
    }

    /// By so many screens.
    pub(super) fn page(&mut self, pages: isize) {
        let room = isize::try_from(self.room.max(1)).unwrap_or(isize::MAX);
        self.scroll(pages.saturating_mul(room));
    }

    /// There is room for so many rows now.
    pub(super) fn fit(&mut self, room: usize) {
        self.room = room;
        self.scroll(0);
    }

    /// SMS a minute that were taken and that were not, over so many last minutes, as of when the queue last answered.
    pub(super) fn per_minute(&self, minutes: i64) -> (f64, f64) {
        let Some(now) = self.said_at else { return (0.0, 0.0) };
        let window = SignedDuration::from_mins(minutes);
        let span = match self.sms.last() {
            // The list is full, and reaches back less far than asked.
            Some(first) if self.sms.len() >= LAST => now.duration_since(first.begun_at).min(window),
            _ => window,
        };
        let span = span.max(SignedDuration::from_secs(1));
        let count = |took: fn(AttemptState) -> bool| {
            let within = |sms: &&Sms| now.duration_since(sms.begun_at) <= span && took(sms.state);
            self.sms.iter().filter(within).count() as f64 * 60.0 / span.as_secs_f64()
        };
        (count(|state| state == AttemptState::Accepted), count(not_taken))
    }

    /// Of the SMS in the list, those that may have reached a phone before.
    pub(super) fn possible_duplicates(&self) -> usize {
        self.sms.iter().filter(|sms| sms.possible_duplicate).count()
    }
}

fn not_taken(state: AttemptState) -> bool {
    use AttemptState::{Accepted, Cancelled, Failed, Held, InDoubt, Open, Rejected, Resent};
    match state {
        Failed | Rejected | InDoubt | Held | Resent => true,
        Accepted | Open | Cancelled => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::watch) fn now() -> Timestamp {
        "2026-03-04T12:00:00Z".parse().unwrap()
    }

    /// Begun so many seconds before now; the id says so too.
    pub(in crate::cli::watch) fn sms(ago: i64, state: AttemptState) -> Sms {
        Sms {
            id: Uuid::from_u128(ago as u128),
            recipient: "+4790123456".to_owned(),
            text: format!("alert-{ago}"),
            dispatcher: "gw".to_owned(),
            state,
            begun_at: now() - SignedDuration::from_secs(ago),
            possible_duplicate: false,
        }
    }

    pub(in crate::cli::watch) fn look(sms: Vec<Sms>) -> Look {
        let queue = Ok((Depth::default(), sms));
        Look { at: now(), holder: Some(Some(7)), daemon: Ok(Default::default()), ways: vec![], queue }
    }

    #[test]
    fn rates_are_of_the_time_that_is_known() {
        let mut board = Board::default();
        assert_eq!(board.per_minute(1), (0.0, 0.0));
        let states = [AttemptState::Accepted, AttemptState::Failed, AttemptState::Open];
        board.learn(Some(look((0..100).map(|n| sms(n * 3, states[n as usize % 3])).collect())));
        assert_eq!(board.per_minute(1), (7.0, 7.0));
        assert_eq!(board.per_minute(5), (34.0 / 5.0, 33.0 / 5.0));
        // A full list that reaches back 50 s: ten a second, whatever was asked.
        board.learn(Some(look((0..500).map(|n| sms(n / 10 + 1, AttemptState::Accepted)).collect())));
        assert_eq!(board.per_minute(5), (600.0, 0.0));
    }

    #[test]
    fn who_has_scrolled_stays_where_he_reads() {
        let mut board = Board::default();
        let list = |from: i64| Some(look((from..100).map(|n| sms(n, AttemptState::Accepted)).collect()));
        board.learn(list(10));
        board.fit(20);
        board.scroll(-5);
        board.learn(list(9));
        assert_eq!(board.top, 0, "at the top, the newest are shown");
        board.page(1);
        board.scroll(1);
        assert_eq!(board.sms[board.top].id, Uuid::from_u128(30));
        board.learn(list(5));
        assert_eq!(board.sms[board.top].id, Uuid::from_u128(30));
        board.page(100);
        assert_eq!(board.top, 95 - 20);
        board.fit(90);
        assert_eq!(board.top, 5, "a larger terminal has no empty end");
        let mut away = look(vec![]);
        away.queue = Err("away".to_owned());
        board.learn(Some(away));
        assert_eq!((board.sms.len(), board.top), (95, 5), "what was seen stays");
    }
}
