//! The alerts that wait, as far as the engine knows them: a bounded window on the queue.
//!
//! The window keeps something for everybody, and of what waits for one recipient the most severe: too many alerts
//! for one push out each other before they push out another's. What is pushed out is not lost: it waits in the
//! queue, and a later look finds it again.

use std::cmp::Reverse;
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

/// As many of a recipient's alerts as are worth knowing: more than an SMS tells. What goes beyond it takes no room
/// from others.
const SHARE: usize = 16;

/// The window.
#[derive(Debug, Default)]
pub struct Window {
    /// Alerts within their recipient's share.
    shared: usize,
    by_turn: BTreeMap<Turn, (Phone, Waiting)>,
    by_phone: HashMap<Phone, BTreeSet<Turn>>,
    turns: HashMap<AlertId, Turn>,
}

impl Window {
    /// How many alerts it holds.
    pub fn len(&self) -> usize {
        self.by_turn.len()
    }

    /// How many it holds, not counting what goes beyond a recipient's share.
    pub fn shared(&self) -> usize {
        self.shared
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
        let turns = self.by_phone.entry(phone.clone()).or_default();
        turns.insert(turn);
        self.shared += usize::from(turns.len() <= SHARE);
        self.by_turn.insert(turn, (phone, waiting));
        true
    }

    /// Takes one alert out; returns whose it was.
    pub fn remove(&mut self, id: AlertId) -> Option<Phone> {
        let turn = self.turns.remove(&id)?;
        let (phone, _) = self.by_turn.remove(&turn)?;
        if let Some(turns) = self.by_phone.get_mut(&phone) {
            turns.remove(&turn);
            self.shared -= usize::from(turns.len() < SHARE);
            if turns.is_empty() {
                self.by_phone.remove(&phone);
            }
        }
        Some(phone)
    }

    /// Takes out all that waits for one recipient, in order.
    pub fn take(&mut self, phone: &Phone) -> Vec<Waiting> {
        let turns = self.by_phone.remove(phone).unwrap_or_default();
        self.shared -= turns.len().min(SHARE);
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

    /// A recipient's turns, in order.
    pub fn turns(&self, phone: &Phone) -> impl Iterator<Item = Turn> {
        self.by_phone.get(phone).into_iter().flatten().copied()
    }

    /// When the first of a recipient's alerts became known.
    pub fn learned(&self, phone: &Phone) -> Option<Instant> {
        Some(self.by_turn.get(&self.first(phone)?)?.1.learned)
    }

    /// Where its alerts stand in the queue.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.by_turn.keys().map(|turn| Place { severity: turn.severity, id: turn.id })
    }

    /// Takes out what is too much: of those for whom most is held, the last turns. Returns whose it was.
    pub fn trim(&mut self, limit: usize) -> BTreeSet<Phone> {
        let mut too_much = self.len().saturating_sub(limit);
        if too_much == 0 {
            return BTreeSet::new();
        }
        let level = self.level(limit);
        let mut last = Vec::new();
        for turns in self.by_phone.values() {
            let over = turns.len().saturating_sub(level);
            too_much = too_much.saturating_sub(over);
            last.extend(turns.iter().rev().take(over).map(|turn| turn.id));
        }
        // Now nobody has more than the level; those who have as much give one more, the least urgent of them first.
        let at_level = self.by_phone.values().filter(|turns| turns.len() >= level);
        let mut next: Vec<Turn> = at_level.filter_map(|turns| turns.iter().nth(level - 1).copied()).collect();
        next.sort_unstable_by_key(|turn| Reverse(*turn));
        last.extend(next.iter().take(too_much).map(|turn| turn.id));
        last.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// The least number of alerts for each at which the window is full.
    fn level(&self, limit: usize) -> usize {
        let mut counts: Vec<usize> = self.by_phone.values().map(BTreeSet::len).collect();
        counts.sort_unstable();
        let (mut room, mut left) = (limit, counts.len());
        for count in counts {
            if count * left >= room {
                break;
            }
            room -= count;
            left -= 1;
        }
        room.div_ceil(left.max(1)).max(1)
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
        assert_eq!(window.trim(3), BTreeSet::from([phone.clone()]));
        let ids: Vec<i64> = window.take(&phone).iter().map(|w| w.alert.id.0).collect();
        assert_eq!(ids, [4, 3, 2]);
        assert!(window.is_empty() && window.first(&phone).is_none() && !window.contains(AlertId(4)));
    }

    #[test]
    fn everybody_keeps_something_before_anybody_keeps_much() {
        let phone = |n: usize| Phone::parse(&format!("+47{n:08}")).unwrap();
        let mut window = Window::default();
        let mut id = 0;
        let mut add = |window: &mut Window, to: usize, count: usize, severity| {
            for _ in 0..count {
                id += 1;
                assert!(window.insert(phone(to), waiting(id, Some(severity), id)));
            }
        };
        let kept = |window: &Window, to: usize| window.by_phone.get(&phone(to)).map_or(0, BTreeSet::len);
        add(&mut window, 1, 1000, 1);
        add(&mut window, 2, 30, 5);
        add(&mut window, 3, 1, 5);
        assert_eq!((window.len(), window.shared()), (1031, 33));
        assert_eq!(window.trim(100), BTreeSet::from([phone(1)]));
        assert_eq!([1, 2, 3].map(|n| kept(&window, n)), [69, 30, 1]);
        assert_eq!(window.first(&phone(1)).unwrap().id, AlertId(1), "the first turns stay");
        assert_eq!(window.trim(50), BTreeSet::from([phone(1), phone(2)]));
        assert_eq!([1, 2, 3].map(|n| kept(&window, n)), [25, 24, 1], "the less severe gives way");
        // More people than there is room for: the most severe stay.
        add(&mut window, 4, 1, 2);
        window.trim(2);
        assert_eq!([1, 2, 3, 4].map(|n| kept(&window, n)), [1, 0, 0, 1]);
        assert_eq!((window.len(), window.shared()), (2, 2));
        assert_eq!((window.take(&phone(1)).len(), window.shared()), (1, 1));
        assert!(window.trim(2).is_empty());
    }
}
