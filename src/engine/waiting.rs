//! The alerts that wait, as far as the engine knows them: a bounded window on the queue.
//!
//! The window keeps something for everybody, and of what waits for one recipient the most severe: too many alerts
//! for one push out each other before they push out another's. What is pushed out is not lost: it waits in the
//! queue, and a later look finds it again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use tokio::time::Instant;

use super::sizes::Sizes;
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
#[derive(Debug)]
pub struct Window {
    sizes: Sizes,
    /// Alerts within their recipient's share, of those who do not rest.
    shared: usize,
    /// Bytes of all texts, and of those within a share.
    bytes: usize,
    shared_bytes: usize,
    by_turn: BTreeMap<Turn, (Phone, Waiting)>,
    by_phone: HashMap<Phone, Share>,
    turns: HashMap<AlertId, Turn>,
}

/// What the window holds for one recipient.
#[derive(Debug, Default)]
struct Share {
    turns: BTreeSet<Turn>,
    bytes: usize,
    /// It backs off, or may have no SMS yet: its alerts take no room from those who can be served.
    resting: bool,
}

impl Share {
    /// What it takes of the window's room, in alerts and in bytes.
    fn takes(&self, share: usize) -> (usize, usize) {
        match self.turns.len() {
            _ if self.resting => (0, 0),
            len if len > share => (share, self.bytes / len * share),
            len => (len, self.bytes),
        }
    }
}

impl Window {
    /// An empty one.
    pub fn new(sizes: Sizes) -> Window {
        Window {
            sizes,
            shared: 0,
            bytes: 0,
            shared_bytes: 0,
            by_turn: BTreeMap::new(),
            by_phone: HashMap::new(),
            turns: HashMap::new(),
        }
    }

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
        let bytes = waiting.alert.text.len();
        self.bytes += bytes;
        self.change(&phone, |share| {
            share.turns.insert(turn);
            share.bytes += bytes;
        });
        self.by_turn.insert(turn, (phone, waiting));
        true
    }

    /// Takes one alert out; returns whose it was.
    pub fn remove(&mut self, id: AlertId) -> Option<Phone> {
        self.pull(id).map(|(phone, _)| phone)
    }

    fn pull(&mut self, id: AlertId) -> Option<(Phone, Waiting)> {
        let turn = self.turns.remove(&id)?;
        let (phone, waiting) = self.by_turn.remove(&turn)?;
        let bytes = waiting.alert.text.len();
        self.bytes -= bytes;
        self.change(&phone, |share| {
            share.turns.remove(&turn);
            share.bytes -= bytes;
        });
        Some((phone, waiting))
    }

    fn change(&mut self, phone: &Phone, change: impl FnOnce(&mut Share)) {
        let share = self.by_phone.entry(phone.clone()).or_default();
        let before = share.takes(self.sizes.share);
        change(share);
        let after = share.takes(self.sizes.share);
        self.shared = self.shared - before.0 + after.0;
        self.shared_bytes = self.shared_bytes - before.1 + after.1;
        if share.turns.is_empty() {
            self.by_phone.remove(phone);
        }
    }

    /// There is room for so many alerts of those who can be served, and for half of the bytes.
    pub fn has_room_for(&self, alerts: usize) -> bool {
        self.shared + alerts <= self.sizes.window && self.shared_bytes <= self.sizes.window_bytes / 2
    }

    /// At most half of it is in use.
    pub fn is_half_empty(&self) -> bool {
        self.len() <= self.sizes.window / 2 && self.bytes <= self.sizes.window_bytes / 2
    }

    /// Takes out all that waits for one recipient, in order.
    pub fn take(&mut self, phone: &Phone) -> Vec<Waiting> {
        let ids: Vec<AlertId> =
            self.by_phone.get(phone).into_iter().flat_map(|s| &s.turns).map(|turn| turn.id).collect();
        ids.into_iter().filter_map(|id| self.pull(id)).map(|(_, waiting)| waiting).collect()
    }

    /// From now on this recipient rests, or can be served.
    pub fn rest(&mut self, phone: &Phone, resting: bool) {
        if self.by_phone.contains_key(phone) {
            self.change(phone, |share| share.resting = resting);
        }
    }

    /// The first turn of a recipient.
    pub fn first(&self, phone: &Phone) -> Option<Turn> {
        self.by_phone.get(phone)?.turns.first().copied()
    }

    /// A recipient's turns, in order.
    pub fn turns(&self, phone: &Phone) -> impl Iterator<Item = Turn> {
        self.by_phone.get(phone).into_iter().flat_map(|share| &share.turns).copied()
    }

    /// When the first of a recipient's alerts became known.
    pub fn learned(&self, phone: &Phone) -> Option<Instant> {
        Some(self.by_turn.get(&self.first(phone)?)?.1.learned)
    }

    /// Where its alerts stand in the queue.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.by_turn.keys().map(|turn| Place { severity: turn.severity, id: turn.id })
    }

    /// Takes out what is too much, in number or in bytes, and a little more, so that it is not at once full again; and
    /// returns it: of those for whom most is held, the last turns. Where not everybody can have their share, those who rest give up theirs first.
    pub fn trim(&mut self) -> Vec<(Phone, Waiting)> {
        let mut out = Vec::new();
        if self.bytes > self.sizes.window_bytes {
            let too_large = self.too_large();
            out.extend(too_large.into_iter().filter_map(|id| self.pull(id)));
        }
        if self.len() <= self.sizes.window {
            return out;
        }
        let to = self.sizes.window - self.sizes.window / 128;
        let shares = self.by_phone.values().map(|share| share.turns.len().min(self.sizes.share));
        if shares.sum::<usize>() > to {
            let resting = self.resting(self.len() - to);
            out.extend(resting.into_iter().filter_map(|id| self.pull(id)));
        }
        let too_many = self.too_many(to);
        out.extend(too_many.into_iter().filter_map(|id| self.pull(id)));
        out
    }

    /// So many alerts of those who rest: what comes after their first, and then that; the last turns first.
    fn resting(&self, too_many: usize) -> Vec<AlertId> {
        let resting = || self.by_phone.values().filter(|share| share.resting);
        let mut later: Vec<Turn> = resting().flat_map(|share| share.turns.iter().skip(1)).copied().collect();
        let mut first: Vec<Turn> = resting().filter_map(|share| share.turns.first()).copied().collect();
        later.sort_unstable_by_key(|turn| Reverse(*turn));
        first.sort_unstable_by_key(|turn| Reverse(*turn));
        later.iter().chain(&first).take(too_many).map(|turn| turn.id).collect()
    }

    fn too_many(&self, to: usize) -> Vec<AlertId> {
        let mut too_many = self.len().saturating_sub(to);
        if too_many == 0 {
            return Vec::new();
        }
        let level = self.level(to);
        let mut last = Vec::new();
        for Share { turns, .. } in self.by_phone.values() {
            let over = turns.len().saturating_sub(level);
            too_many = too_many.saturating_sub(over);
            last.extend(turns.iter().rev().take(over).map(|turn| turn.id));
        }
        // Now nobody has more than the level; those who have as much give one more, the least urgent of them first.
        let at_level = self.by_phone.values().filter(|share| share.turns.len() >= level);
        let mut next: Vec<Turn> =
            at_level.filter_map(|share| share.turns.iter().nth(level - 1).copied()).collect();
        next.sort_unstable_by_key(|turn| Reverse(*turn));
        last.extend(next.iter().take(too_many).map(|turn| turn.id));
        last
    }

    /// The least number of alerts for each at which the window is full.
    fn level(&self, to: usize) -> usize {
        let (room, left) = fill(self.by_phone.values().map(|share| share.turns.len()), to);
        room.div_ceil(left).max(1)
    }

    /// Nobody's texts take more than the level, as long as more than their first is left; and if that is still too
    /// much, the last turns of all go.
    fn too_large(&self) -> Vec<AlertId> {
        let size = |turn: &Turn| self.by_turn.get(turn).map_or(0, |(_, w)| w.alert.text.len());
        let to = self.sizes.window_bytes - self.sizes.window_bytes / 16;
        let (room, left) = fill(self.by_phone.values().map(|share| share.bytes), to);
        let level = room / left;
        let (mut bytes, mut gone) = (self.bytes, BTreeSet::new());
        for share in self.by_phone.values() {
            let mut own = share.bytes;
            for turn in share.turns.iter().skip(1).rev() {
                if own <= level {
                    break;
                }
                own -= size(turn);
                bytes -= size(turn);
                gone.insert(*turn);
            }
        }
        // Those who rest give way first. One is left in any case, of somebody who can be served if there is one: it
        // would wait for ever.
        let rests = |turn: &&Turn| {
            let phone = self.by_turn.get(*turn).map(|(phone, _)| phone);
            phone.and_then(|phone| self.by_phone.get(phone)).is_some_and(|share| share.resting)
        };
        let all = || self.by_turn.keys();
        let kept = all().find(|turn| !rests(turn)).or_else(|| all().next());
        let in_order = all().rev().filter(rests).chain(all().rev().filter(|turn| !rests(turn)));
        for turn in in_order.filter(|turn| Some(*turn) != kept) {
            if bytes <= to {
                break;
            }
            if gone.insert(*turn) {
                bytes -= size(turn);
            }
        }
        gone.into_iter().map(|turn| turn.id).collect()
    }
}

/// Gives to each what it asks for, the modest first, as long as all that come after could have as much. Returns what is
/// left, and for how many.
fn fill(wanted: impl Iterator<Item = usize>, all: usize) -> (usize, usize) {
    let mut wanted: Vec<usize> = wanted.collect();
    wanted.sort_unstable();
    let (mut room, mut left) = (all, wanted.len());
    for want in wanted {
        if want * left >= room {
            break;
        }
        room -= want;
        left -= 1;
    }
    (room, left.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Tried;

    fn waiting(id: i64, severity: Option<i32>, second: i64) -> Waiting {
        let alert = Alert {
            id: AlertId(id),
            phone: String::new(),
            text: format!("{id}"),
            severity: Severity(severity),
            queued_at: Timestamp::from_second(second).unwrap(),
            maybe_sent: false,
            tried: Tried::default(),
        };
        Waiting { alert, learned: Instant::now(), attempts: 0, failures: 0 }
    }

    fn whose(trimmed: Vec<(Phone, Waiting)>) -> BTreeSet<Phone> {
        trimmed.into_iter().map(|(phone, _)| phone).collect()
    }

    fn phone(n: usize) -> Phone {
        Phone::parse(&format!("+47{n:08}")).unwrap()
    }

    #[test]
    fn most_severe_first_then_oldest_and_none_last() {
        let phone = Phone::parse("+4799999999").unwrap();
        let mut window = Window::new(Sizes { window: 3, ..Sizes::default() });
        for w in [waiting(1, None, 1), waiting(2, Some(3), 5), waiting(3, Some(3), 4), waiting(4, Some(1), 9)]
        {
            assert!(window.insert(phone.clone(), w.clone()));
            assert!(!window.insert(phone.clone(), w), "twice is once");
        }
        assert_eq!(window.first(&phone).unwrap().id, AlertId(4));
        assert_eq!(whose(window.trim()), BTreeSet::from([phone.clone()]));
        let ids: Vec<i64> = window.take(&phone).iter().map(|w| w.alert.id.0).collect();
        assert_eq!(ids, [4, 3, 2]);
        assert!(window.is_empty() && window.first(&phone).is_none() && !window.contains(AlertId(4)));
    }

    #[test]
    fn everybody_keeps_something_before_anybody_keeps_much() {
        let mut window = Window::new(Sizes::default());
        let mut id = 0;
        let mut add = |window: &mut Window, to: usize, count: usize, severity| {
            for _ in 0..count {
                id += 1;
                assert!(window.insert(phone(to), waiting(id, Some(severity), id)));
            }
        };
        let kept = |window: &Window, to: usize| window.by_phone.get(&phone(to)).map_or(0, |s| s.turns.len());
        let trim = |window: &mut Window, to: usize| {
            window.sizes.window = to;
            whose(window.trim())
        };
        add(&mut window, 1, 1000, 1);
        add(&mut window, 2, 30, 5);
        add(&mut window, 3, 1, 5);
        assert_eq!((window.len(), window.shared), (1031, 33));
        assert_eq!(trim(&mut window, 100), BTreeSet::from([phone(1)]));
        assert_eq!([1, 2, 3].map(|n| kept(&window, n)), [69, 30, 1]);
        assert_eq!(window.first(&phone(1)).unwrap().id, AlertId(1), "the first turns stay");
        assert_eq!(trim(&mut window, 50), BTreeSet::from([phone(1), phone(2)]));
        assert_eq!([1, 2, 3].map(|n| kept(&window, n)), [25, 24, 1], "the less severe gives way");
        // More people than there is room for: the most severe stay.
        add(&mut window, 4, 1, 2);
        trim(&mut window, 2);
        assert_eq!([1, 2, 3, 4].map(|n| kept(&window, n)), [1, 0, 0, 1]);
        assert_eq!((window.len(), window.shared), (2, 2));
        assert_eq!((window.take(&phone(1)).len(), window.shared), (1, 1));
        assert!(trim(&mut window, 2).is_empty());
    }

    #[test]
    fn those_who_rest_take_no_room_and_give_up_their_alerts_but_the_first_before_others_lose_theirs() {
        let mut window = Window::new(Sizes { window: 12, share: 4, ..Sizes::default() });
        for id in 0..8 {
            window.insert(phone(1 + id as usize % 2), waiting(id, Some(1), id));
        }
        assert_eq!(window.shared, 8);
        window.rest(&phone(1), true);
        window.rest(&phone(1), true);
        assert_eq!(window.shared, 4);
        for id in 8..14 {
            window.insert(phone(3 + id as usize % 3), waiting(id, Some(5), id));
        }
        let trimmed: Vec<i64> = window.trim().iter().map(|(_, w)| w.alert.id.0).collect();
        assert_eq!(trimmed, [6, 4], "severity 1 or not");
        for id in 14..20 {
            window.insert(phone(id as usize), waiting(id, Some(5), id));
        }
        let trimmed: BTreeSet<i64> = window.trim().iter().map(|(_, w)| w.alert.id.0).collect();
        assert!(
            trimmed.contains(&2) && trimmed.contains(&0),
            "the first goes as well if need be: {trimmed:?}"
        );
        assert!(!trimmed.contains(&14));
        window.rest(&phone(2), true);
        let shared = window.shared;
        let taken = window.take(&phone(2)).len();
        assert_eq!(window.shared, shared, "{taken} were counted already");
    }

    #[test]
    fn it_is_bounded_in_bytes_and_who_has_long_texts_loses_them_first() {
        let mut window = Window::new(Sizes { window_bytes: 1000, ..Sizes::default() });
        let text = |id: i64, bytes: usize| {
            let mut w = waiting(id, Some(1), id);
            w.alert.text = "x".repeat(bytes);
            w
        };
        for id in 0..5 {
            window.insert(phone(1), text(id, 300));
            window.insert(phone(2 + id as usize), text(10 + id, 50));
        }
        assert_eq!(whose(window.trim()), BTreeSet::from([phone(1)]));
        assert_eq!((window.bytes, window.len()), (850, 7), "two of 300, five of 50");
        window.insert(phone(9), text(30, 1200));
        assert_eq!(
            whose(window.trim()),
            BTreeSet::from([phone(1), phone(9)]),
            "also a first that is too long"
        );
        assert!(window.bytes <= 1000);
    }
}
