//! Forgetting: the queue has come back from the past, and its keys may be other alerts' by now.
//!
//! What is at a dispatcher stays there, and its outcome is written if the queue still knows the attempt. But no
//! such SMS goes on from there: not to another dispatcher, not back to those that wait, not into doubt. Whatever the queue
//! shows is learned anew.

use super::*;

impl Core {
    /// Forgets all that came from the queue. `planned` are attempts that have not been begun.
    pub fn forget_all(&mut self, planned: &[Uuid], now: Instant) {
        let planned: Vec<Uuid> =
            planned.iter().copied().chain(self.out.begins.drain(..).map(|new| new.id)).collect();
        self.not_begun(&planned, now);
        self.past.extend(self.jobs.keys());
        for job in std::mem::take(&mut self.between) {
            if let Some(recipient) = self.recipients.get_mut(&job.recipient) {
                recipient.busy = false;
            }
        }
        self.window = Window::new(self.sizes);
        self.let_go = 0;
        self.doubts.clear();
        self.doubt_timers.clear();
        self.spoken_of.clear();
        self.rejecting.clear();
        self.on_their_way.clear();
        self.settled_meanwhile = None;
        self.copies = Copies::default();
        self.out.settlements.retain(|(_, settlement)| settlement.closing.is_some());
        let phones: BTreeSet<Phone> = self.recipients.keys().cloned().collect();
        for phone in phones {
            if let Some(recipient) = self.recipients.get_mut(&phone) {
                recipient.resends.clear();
                recipient.let_go.clear();
                recipient.waiting_since = None;
            }
            self.refresh(&phone, now);
        }
    }

    /// The end of an SMS from before: it goes nowhere from here. False if it is none.
    pub(super) fn is_past(&mut self, id: Uuid, now: Instant) -> bool {
        if !self.past.remove(&id) {
            return false;
        }
        if let Some(job) = self.end(id) {
            self.free(&job.recipient, now);
        }
        true
    }
}
