//! The alerts that wait, as far as the engine knows them: a bounded window on the queue.
//!
//! The window keeps the most severe. What is pushed out of it is not lost: it waits in the queue, and a
//! later look finds it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::alert::{Alert, AlertId, Phone, Severity};
use crate::queue::Place;

/// An alert's turn: most severe first, then oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// First by severity, none last.
    pub severity: Severity,
    /// Then by age.
    pub queued_at: Timestamp,
    /// Then by key.
    pub id: AlertId,
}

/// A waiting alert with what the engine remembers of it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The alert.
    pub alert: Alert,
    /// When the engine learned of it.
    pub learned: Instant,
    /// Attempts made for it, whoever was to blame.
    pub attempts: u32,
    /// Attempts that failed by its recipient's fault: what `retrylimit` bounds.
    pub failures: u32,
}

impl Waiting {
    /// Its turn.
    pub fn turn(&self) -> Turn {
        Turn { severity: self.alert.severity, queued_at: self.alert.queued_at, id: self.alert.id }
    }
}

/// The window.
#[derive(Debug, Default)]
pub struct Window {
    by_turn: BTreeMap<Turn, (Phone, Waiting)>,
    by_phone: HashMap<Phone, BTreeSet<Turn>>,
    turns: HashMap<AlertId, Turn>,
}

impl Window {
    /// How many alerts it holds.
    pub fn len(&self) -> usize {
        self.by_turn.len()
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.by_turn.is_empty()
    }

    /// True if it holds this one.
    pub fn contains(&self, id: AlertId) -> bool {
        self.turns.contains_key(&id)
    }

    /// Adds an alert; false if it was there.
    pub fn insert(&mut self, phone: Phone, waiting: Waiting) -> bool {
        let turn = waiting.turn();
        if self.turns.contains_key(&turn.id) {
            return false;
        }
        self.turns.insert(turn.id, turn);
        self.by_phone.entry(phone.clone()).or_default().insert(turn);
        self.by_turn.insert(turn, (phone, waiting));
        true
    }

    /// Takes one alert out; returns whose it was.
    pub fn remove(&mut self, id: AlertId) -> Option<Phone> {
        let turn = self.turns.remove(&id)?;
        let (phone, _) = self.by_turn.remove(&turn)?;
        if let Some(turns) = self.by_phone.get_mut(&phone) {
            turns.remove(&turn);
            if turns.is_empty() {
                self.by_phone.remove(&phone);
            }
        }
        Some(phone)
    }

    /// Takes out all that waits for one recipient, in order.
    pub fn take(&mut self, phone: &Phone) -> Vec<Waiting> {
        let turns = self.by_phone.remove(phone).unwrap_or_default();
        turns
            .into_iter()
            .filter_map(|turn| {
                self.turns.remove(&turn.id);
                self.by_turn.remove(&turn).map(|(_, waiting)| waiting)
            })
            .collect()
    }

    /// The first turn of a recipient.
    pub fn first(&self, phone: &Phone) -> Option<Turn> {
        self.by_phone.get(phone)?.first().copied()
    }

    /// When the first of a recipient's alerts became known.
    pub fn learned(&self, phone: &Phone) -> Option<Instant> {
        Some(self.by_turn.get(&self.first(phone)?)?.1.learned)
    }

    /// Where its alerts stand in the queue.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.by_turn.keys().map(|turn| Place { severity: turn.severity, id: turn.id })
    }

    /// Takes out the alert whose turn is last of all; returns whose it was.
    pub fn pop_last(&mut self) -> Option<Phone> {
        let id = self.by_turn.last_key_value()?.0.id;
        self.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: i64, severity: Option<i32>, second: i64) -> Waiting {
        let alert = Alert {
            id: AlertId(id),
            phone: String::new(),
            text: format!("{id}"),
            severity: Severity(severity),
            queued_at: Timestamp::from_second(second).unwrap(),
            maybe_sent: false,
        };
        Waiting { alert, learned: Instant::now(), attempts: 0, failures: 0 }
    }

    #[test]
    fn most_severe_first_then_oldest_and_none_last() {
        let phone = Phone::parse("+4799999999").unwrap();
        let mut window = Window::default();
        for w in [waiting(1, None, 1), waiting(2, Some(3), 5), waiting(3, Some(3), 4), waiting(4, Some(1), 9)]
        {
            assert!(window.insert(phone.clone(), w.clone()));
            assert!(!window.insert(phone.clone(), w), "twice is once");
        }
        assert_eq!(window.first(&phone).unwrap().id, AlertId(4));
        assert_eq!(window.pop_last(), Some(phone.clone()));
        let ids: Vec<i64> = window.take(&phone).iter().map(|w| w.alert.id.0).collect();
        assert_eq!(ids, [4, 3, 2]);
        assert!(window.is_empty() && window.first(&phone).is_none() && !window.contains(AlertId(4)));
    }
}
