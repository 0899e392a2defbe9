//! What is handed in to a [`super::MemoryQueue`].

use super::tables::{Remembered, Tables};
use super::*;
use crate::queue::submission::forgotten_with;
use crate::queue::{Submission, Submitted};

impl Tables {
    pub(super) fn enqueue(&mut self, submissions: &[Submission], now: Timestamp) -> Vec<Submitted> {
        for _ in 0..forgotten_with(submissions.len()) {
            let Some((until, key)) = self.forgotten.pop_first() else { break };
            if until > now {
                self.forgotten.insert((until, key));
                break;
            }
            self.submissions.remove(&key);
        }
        submissions.iter().map(|submission| self.enqueue_one(submission, now)).collect()
    }

    fn enqueue_one(&mut self, submission: &Submission, now: Timestamp) -> Submitted {
        let (key, digest) = (&submission.key, submission.digest());
        if let Some(before) = self.submissions.get(&key.name) {
            if before.until > now {
                return match before.digest == digest {
                    true => Submitted::Before(before.ids.clone()),
                    false => Submitted::OtherAlerts,
                };
            }
            self.forgotten.remove(&(before.until, key.name.clone()));
        }
        let new = |a: &NewAlert| self.insert(a.to.as_str(), &a.text, a.severity, now);
        let ids: Vec<AlertId> = submission.alerts.iter().map(new).collect();
        let until = plus(now, key.kept);
        self.forgotten.insert((until, key.name.clone()));
        self.submissions.insert(key.name.clone(), Remembered { digest, until, ids: ids.clone() });
        Submitted::Queued(ids)
    }
}
