//! Mails the admin what the hub has collected.
//!
//! It holds up nobody: what happens meanwhile is collected, and what could not be mailed is told with the next mail. A mail
//! is no alert: it has no attempt, and one of which nobody knows whether it was taken is sent again, since a mail too many
//! does no harm. What waits when the engine has settled all gets one short try.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::AdminMail;
use crate::dispatch::mail::message::Message;
use crate::dispatch::mail::relay::Relay;
use crate::dispatch::smtp::{Envelope, Failure};
use crate::queue::{Mention, Queue};
use crate::standing::Standing;
use crate::telemetry::admin::{Batch, Letter, Pace, Sender};
use crate::telemetry::{Hub, clip};

/// How long the mail server may take for one mail.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same at the end, when people wait for us.
const LAST: Duration = Duration::from_secs(3);
/// How long the queue may take to say what the alerts said.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes of a reason.
const WHY: usize = 512;

/// Works until `over` is cancelled, and tries once more then.
pub(super) async fn run(
    hub: Arc<Hub>,
    queue: Arc<dyn Queue>,
    standing: watch::Receiver<Arc<Standing>>,
    over: CancellationToken,
) {
    let (mut reloads, mut post) = (standing.clone(), Post { hub, queue, standing, pace: Pace::default() });
    reloads.mark_unchanged();
    loop {
        tokio::select! {
            () = post.hub.has_mail() => {}
            () = over.cancelled() => break,
        }
        tokio::select! {
            () = sleep_until(post.pace.due(Instant::now())) => {}
            // Another server, perhaps, or another address.
            Ok(()) = reloads.changed() => {
                post.pace.hope();
                continue;
            }
            () = over.cancelled() => break,
        }
        let enough = async {
            over.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            () = post.mail() => {}
            () = enough => return,
        }
    }
    // What is not taken in this time is in the log.
    let _ = timeout(LAST, post.mail()).await;
}

struct Post {
    hub: Arc<Hub>,
    queue: Arc<dyn Queue>,
    standing: watch::Receiver<Arc<Standing>>,
    pace: Pace,
}

impl Post {
    /// Mails what has come together. What can not be mailed is kept.
    async fn mail(&mut self) {
        let mut in_hand = InHand { batch: self.hub.take_mail(), hub: &self.hub };
        let mail = self.standing.borrow().config.admin_mail();
        let (false, Ok(Some(mail))) = (in_hand.batch.is_empty(), mail) else {
            in_hand.batch = Batch::default();
            return;
        };
        let result = self.hand_over(&in_hand.batch, &mail).await;
        self.hub.metrics().mailed(result.is_ok());
        match result {
            Ok(()) => {
                in_hand.batch = Batch::default();
                if self.pace.sent(Instant::now()) {
                    tracing::info!("mails to the admin are taken again");
                }
            }
            Err(mut why) => {
                clip(&mut why, WHY);
                if self.pace.failed(Instant::now()) {
                    tracing::warn!(
                        "a mail to the admin was not taken: {why}; what is to be told is kept, and it is tried again"
                    );
                }
            }
        }
    }

    /// Taken, if it is taken for one of the addresses.
    async fn hand_over(&self, batch: &Batch, mail: &AdminMail) -> Result<(), String> {
        let mentions = self.mentions(batch).await;
        let texts: Vec<String> = mentions.iter().flatten().map(|mention| mention.text.clone()).collect();
        let letter = Letter::of(batch, &mentions, &sender());
        let relay = Relay::new(mail.relay.clone()).map_err(|e| e.to_string())?;
        let deadline = Instant::now() + DEADLINE;
        let mut result = Err("there is no address".to_owned());
        for to in &mail.to {
            let sent = send(&relay, &letter, to, deadline).await;
            if let Err(failure) = &sent {
                tracing::debug!("the mail to the admin was not taken: {}", relay.words(failure, &texts));
            }
            result = result.or(sent.map_err(|failure| relay.words(&failure, &texts)));
        }
        result
    }

    /// What the ignored alerts said, or why the queue does not say it.
    async fn mentions(&self, batch: &Batch) -> Result<Vec<Mention>, String> {
        let ids = batch.named();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let answer = timeout(LOOK, self.queue.mention(&ids)).await;
        answer.map_err(|_| "the queue does not answer".to_owned())?.map_err(|error| {
            let mut why = error.to_string();
            clip(&mut why, WHY);
            why
        })
    }
}

/// What is being mailed. Goes back to the hub unless it was taken.
struct InHand<'a> {
    batch: Batch,
    hub: &'a Hub,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.hub.keep_mail(std::mem::take(&mut self.batch));
    }
}

async fn send(relay: &Relay, letter: &Letter, to: &str, deadline: Instant) -> Result<(), Failure> {
    let session = relay.open(deadline).await?;
    let message = Message {
        from: relay.from(),
        to,
        subject: &letter.subject,
        id: &relay.id(Uuid::now_v7()),
        date: Timestamp::now(),
        text: &letter.body,
        fold: true,
    };
    let mail = message.to_bytes(session.offers("8BITMIME"));
    session.send(Envelope { from: relay.from_address(), to }, &mail).await.map(drop)
}

fn sender() -> Sender {
    let host = nix::unistd::gethostname().unwrap_or_default();
    Sender { host: host.to_string_lossy().into_owned(), pid: std::process::id() }
}
