//! What callers share, so that none of them takes all: a part is reserved for those who have next to nothing of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Shares {
    /// All that there is.
    most: usize,
    /// What only those may take who then have no more than `little`.
    reserved: usize,
    little: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Arc<str>, usize>,
}

/// What one of them has; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Shares>,
    by: Arc<str>,
    size: usize,
}

impl Shares {
    pub(crate) fn new(most: usize, reserved: usize, little: usize) -> Shares {
        Shares { most, reserved, little, taken: Mutex::default() }
    }

    /// Nothing yet, for this caller.
    pub(crate) fn open(self: &Arc<Self>, by: &Arc<str>) -> Share {
        Share { of: Arc::clone(self), by: Arc::clone(by), size: 0 }
    }
}

impl Share {
    /// So much more; false if there is no room for it.
    pub(crate) fn grow(&mut self, by: usize) -> bool {
        let shares = &*self.of;
        let mut taken = shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(&self.by).copied().unwrap_or_default() + by;
        let most = if own <= shares.little { shares.most } else { shares.most - shares.reserved };
        if taken.all + by > most {
            return false;
        }
        taken.all += by;
        taken.each.insert(Arc::clone(&self.by), own);
        self.size += by;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= self.size;
        if let Some(own) = taken.each.get_mut(&self.by) {
            *own -= self.size;
            if *own == 0 {
                taken.each.remove(&self.by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_nothing_finds_room_beside_whoever_takes_all() {
        let shares = Arc::new(Shares::new(16, 4, 1));
        let (flood, one): (Arc<str>, Arc<str>) = ("flood".into(), "one".into());
        let mut flooding: Vec<Share> = (0..100).map(|_| shares.open(&flood)).collect();
        assert_eq!(flooding.iter_mut().filter_map(|share| share.grow(1).then_some(())).count(), 12);
        let mut honest = shares.open(&one);
        assert!(honest.grow(1), "another finds room");
        assert!(!shares.open(&one).grow(1), "and for no more than a little");
        drop((flooding, honest));
        let taken = shares.taken.lock().unwrap();
        assert!(taken.all == 0 && taken.each.is_empty());
    }
}
