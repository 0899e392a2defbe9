//! What a body that another program posted comes to.

use super::RecipientError;
use crate::queue::{Key, Submission};

/// What is to be handed in, and what is odd about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// What is to be queued, one after the other; none, if there is nothing to tell.
    pub submissions: Vec<Submission>,
    /// What did not go as configured, for the log. It cost no alert.
    pub notes: Vec<String>,
}

/// Characters that a text in NAV's table has at most (`smsq.msg`).
pub const NAV_CHARACTERS: usize = 145;

impl Handover {
    /// Puts who brings it into the keys: what one caller says is never taken for what another has said.
    pub fn by(&mut self, caller: &str) {
        for key in self.submissions.iter_mut().map(|submission| &mut submission.key) {
            if let Some((kind, rest)) = key.name.split_once(':')
                && kind != Key::OWN
            {
                key.name = format!("{kind}:{caller}:{rest}");
            }
        }
    }

    /// Cuts what is longer than so many characters: a queue that holds no more must not cost an alert.
    pub fn cut(&mut self, characters: usize) {
        const DOTS: &str = "...";
        for alert in self.submissions.iter_mut().flat_map(|submission| &mut submission.alerts) {
            if alert.text.chars().count() > characters {
                let kept = alert.text.chars().take(characters.saturating_sub(DOTS.len()));
                alert.text = kept.chain(DOTS.chars()).collect::<String>().into();
            }
        }
    }
}

/// Why nothing can be handed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The body will never be readable: to post it again is no use.
    #[error("{0}; nothing was queued")]
    Unreadable(String),
    /// The body names a recipient that is none: to post it again is no use.
    #[error(
        "`to` of [webhook.{name}] in smsd.conf made no recipient of this body: {why}; nothing was queued"
    )]
    Recipient {
        /// The webhook.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The configuration names nobody, until someone mends that: to post it again then is.
    #[error("[{0}] in smsd.conf has no `to`: nobody is told; nothing was queued")]
    Nobody(&'static str),
}

impl Refused {
    /// A recipient that is none.
    pub(super) fn recipient(name: &str, why: &RecipientError) -> Refused {
        Refused::Recipient { name: name.to_owned(), why: why.to_string() }
    }
}
