//! A mail server that only takes, and makes an alert of each recipient of a mail: for NAV, Argus and whatever can send
//! mail but not SMS.
//!
//! A mail is taken (250 after its end) when its alerts are queued, durably, and not before; 451 and 452 ask the
//! client to come again. One that comes again because our answer was lost has the `Message-ID` that it had, and is queued
//! once; one without cannot be told from two alerts that say the same, and is queued as often as it comes.
//!
//! Ours, since what there is in Rust either drives the I/O itself, in another runtime, or takes a lone LF for the end
//! of a line: the [`wire`] in a hundred lines, the [`command`]s, and what is [answered](session), each without I/O.
//! What a mail holds is read by `mail-parser`. Deliberately absent: TLS and logins (it listens to this machine, or to
//! networks that are named), relaying, and waiting rooms: who is told no keeps the mail.

pub mod command;
pub mod content;
mod places;
pub mod session;
pub mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::content::Content;
use self::places::Places;
use self::session::{Answer, Envelope, Next, Rules, Session, ascii, too_big};
use self::wire::{Data, Line, Mail};
use super::{ALERTS_MAX, Desk, Intake, NotTaken, Rates, Refusal, Taken, recipients};
use crate::alert::Phone;
use crate::config::{Config, SmtpConfig};
use crate::queue::{Key, NewAlert, Submission};
use crate::standing::Standing;

/// How long a client may take for a line, and to read a reply.
const LINE_TIME: Duration = Duration::from_secs(60);
/// How long a client may take for a mail.
const MAIL_TIME: Duration = Duration::from_secs(120);
/// Between two tries to listen where we can not.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a mail's `Message-ID` is known again: as long as a mail server goes on trying (Postfix's
/// `maximal_queue_lifetime`, 5 days).
const KEPT: Duration = Duration::from_secs(5 * 86_400);
/// Octets that are read at once.
const CHUNK: usize = 8 * 1024;
/// Ids that a reply names.
const SHOWN: usize = 10;

/// Takes mails as the configuration says, until `over` is cancelled.
pub async fn run(desk: Desk, mut standing: watch::Receiver<Arc<Standing>>, over: CancellationToken) {
    let mut said = None;
    loop {
        let config = standing.borrow_and_update().config.smtp.clone();
        let Some(config) = config else {
            tokio::select! {
                () = over.cancelled() => return,
                changed = standing.changed() => if changed.is_err() { return over.cancelled().await },
            }
            continue;
        };
        match TcpListener::bind(config.listen).await {
            Ok(listener) => {
                tracing::info!("smtp: listening on {}", config.listen);
                said = None;
                serve(&listener, config.listen, &desk, &mut standing, &over).await;
                if over.is_cancelled() {
                    return;
                }
            }
            Err(error) => {
                let error = format!("smtp: can not listen on {}: {error}", config.listen);
                if said.as_ref() != Some(&error) {
                    tracing::error!("{error}; trying again");
                }
                said = Some(error);
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    _ = standing.changed() => {}
                    () = over.cancelled() => return,
                }
            }
        }
    }
}

/// Serves until `over` is cancelled, or another address is to be listened on. Connections outlive only the latter.
async fn serve(
    listener: &TcpListener,
    address: SocketAddr,
    desk: &Desk,
    standing: &mut watch::Receiver<Arc<Standing>>,
    over: &CancellationToken,
) {
    let house = Arc::new(House {
        desk: desk.clone(),
        standing: standing.clone(),
        places: Arc::default(),
        rates: Mutex::default(),
        trouble: Mutex::default(),
        closing: over.child_token(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = over.cancelled() => break,
            changed = standing.changed() => {
                let wanted = standing.borrow().config.smtp.as_ref().map(|smtp| smtp.listen);
                if changed.is_err() || wanted != Some(address) {
                    break;
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Some(config) = house.config() else { continue };
                    let house = Arc::clone(&house);
                    connections.spawn(async move {
                        // A connection that breaks off has said nothing that anybody was told yes to.
                        let _ = house.receive(stream, peer.ip().to_canonical(), config).await;
                    });
                }
                Err(error) => {
                    tracing::warn!("smtp: no connection can be accepted: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
    house.closing.cancel();
    while connections.join_next().await.is_some() {}
}

/// What all connections share.
struct House {
    desk: Desk,
    standing: watch::Receiver<Arc<Standing>>,
    places: Arc<Places>,
    rates: Mutex<Rates<IpAddr>>,
    /// What is wrong with the queue, said once.
    trouble: Mutex<Option<String>>,
    closing: CancellationToken,
}

impl House {
    fn config(&self) -> Option<SmtpConfig> {
        self.standing.borrow().config.smtp.clone()
    }

    async fn receive(&self, mut stream: TcpStream, peer: IpAddr, config: SmtpConfig) -> io::Result<()> {
        if !(peer.is_loopback() || config.allow.iter().any(|net| net.has(peer))) {
            self.desk.tally().refuse(Intake::Smtp, Refusal::Address, Some(peer));
            return write(&mut stream, b"554 5.7.1 you are not in `allow`\r\n").await;
        }
        let Some(seat) = self.places.take(peer, config.max_connections) else {
            self.desk.tally().refuse(Intake::Smtp, Refusal::Room, Some(peer));
            return write(&mut stream, b"421 4.3.2 too many connections; come again\r\n").await;
        };
        stream.set_nodelay(true)?;
        let mut client = Client { stream, buffer: vec![0; CHUNK], start: 0, end: 0, replies: Vec::new() };
        client.reply("220 smsd ESMTP");
        let mut session = Session::default();
        loop {
            let line = tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    client.reply("421 4.3.2 smsd is stopping; come again");
                    return client.flush().await;
                }
                () = seat.given_away.cancelled() => {
                    client.reply("421 4.3.2 others bring mail and need the place; come again");
                    return client.flush().await;
                }
                line = timeout(LINE_TIME, client.line()) => line,
            };
            let Ok(line) = line else {
                client.reply("421 4.4.2 too slow");
                return client.flush().await;
            };
            let line = line?;
            let standing = Arc::clone(&self.standing.borrow());
            let config = standing.config.smtp.as_ref().unwrap_or(&config);
            let rules = Rules { config, groups: &standing.config.groups };
            let admit = || {
                let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
                rates.admit(peer, 1.0, config.rate, Instant::now())
            };
            let Answer { reply, next } = session.line(&line, rules, admit);
            client.reply(&reply);
            match next {
                Next::Command => {}
                Next::Close => return client.flush().await,
                Next::Data => {
                    seat.brings(true);
                    let mail = tokio::select! {
                        mail = timeout(MAIL_TIME, client.mail(config.max_size)) => mail,
                        () = self.closing.cancelled() => return Ok(()),
                    };
                    let Ok(mail) = mail else {
                        client.reply("421 4.4.2 too slow");
                        return client.flush().await;
                    };
                    let envelope = session.envelope();
                    let reply = match mail? {
                        Mail::Well(mail) => {
                            self.deliver(&mail, envelope, &standing.config, config, peer).await
                        }
                        Mail::TooBig => too_big(config),
                        // What another server takes for commands may stand in it.
                        Mail::Bare => {
                            client.reply("521 5.6.11 lines end in CR LF, and neither stands alone");
                            return client.flush().await;
                        }
                    };
                    seat.brings(false);
                    client.reply(&reply);
                }
            }
        }
    }

    /// Queues what a mail says, and returns what its sender is told.
    async fn deliver(
        &self,
        mail: &[u8],
        envelope: Envelope,
        config: &Config,
        smtp: &SmtpConfig,
        peer: IpAddr,
    ) -> String {
        let content = content::read(mail);
        if let Some(unwanted) = content.unwanted {
            tracing::warn!("smtp: a mail of {peer} was refused: {}", unwanted.reply());
            return unwanted.reply().to_owned();
        }
        let (to, bad) = whom(envelope, &content, config);
        let text = content.text(smtp.text);
        if to.is_empty() || text.is_empty() || to.len() > ALERTS_MAX {
            let reply = match bad {
                Some(why) if to.is_empty() => format!("550 5.1.3 {}", ascii(&why)),
                _ if to.len() > ALERTS_MAX => format!("554 5.5.3 more than {ALERTS_MAX} numbers"),
                _ => "554 5.6.0 the mail has no text".to_owned(),
            };
            tracing::warn!("smtp: a mail of {peer} was refused: {reply}");
            return reply;
        }
        let key = key(content.id.as_deref(), &to, &text);
        let text: Arc<str> = text.into();
        let (severity, account) = (smtp.severity, smtp.account);
        let alert = |to: Phone| NewAlert { to, text: Arc::clone(&text), severity, account };
        let submission = Submission { key, alerts: to.into_iter().map(alert).collect() };
        let result = self.desk.by(&peer.to_string().into()).hand_in(submission).await;
        self.tell(&result);
        match result {
            Ok(taken) => {
                let all = taken.ids.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let more = if taken.ids.len() > SHOWN { " ..." } else { "" };
                let before = if taken.before { ", before" } else { "" };
                tracing::info!("smtp: a mail of {peer} is queued{before}: alert {all}{more}");
                match bad {
                    None => format!("250 2.6.0 queued as {all}{more}"),
                    Some(why) => {
                        format!("554 5.1.3 {}; for the others it is queued as {all}{more}", ascii(&why))
                    }
                }
            }
            Err(NotTaken::Busy(_)) => "452 4.3.1 more comes in than is taken; come again".to_owned(),
            // The operator mends the configuration, and the mail comes again.
            Err(NotTaken::NoAccount(_)) => "451 4.3.5 no account to queue it to; come again".to_owned(),
            Err(NotTaken::Unfit(why)) => format!("554 5.6.0 {}", ascii(&why)),
            Err(NotTaken::OtherAlerts | NotTaken::Queue(_)) => {
                "451 4.3.0 the queue can not be written; come again".to_owned()
            }
        }
    }

    /// Logs when the queue stops taking mails, and when it takes them again.
    fn tell(&self, result: &Result<Taken, NotTaken>) {
        let now = result.as_ref().err().map(ToString::to_string);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, &now) {
            (_, Some(why)) if *trouble != now => tracing::error!("smtp: {why}; mails are told to come again"),
            (Some(_), None) => tracing::info!("smtp: mails are taken again"),
            _ => {}
        }
        *trouble = now;
    }
}

/// Whom a mail is for, each once, and what is wrong with its subject if it should have named somebody.
fn whom(envelope: Envelope, content: &Content, config: &Config) -> (Vec<Phone>, Option<String>) {
    let (mut to, mut bad) = (envelope.to, None);
    if envelope.by_subject {
        let named = content.named_in_subject().filter(|words| !words.is_empty());
        if named.is_none() {
            bad = Some("neither the address nor the subject (sms NUMBER) names a number".to_owned());
        }
        for word in named.unwrap_or_default() {
            match recipients([word], &config.groups) {
                Ok(phones) => to.extend(phones),
                Err(why) => bad = Some(why.to_string()),
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    to.retain(|phone| seen.insert(phone.clone()));
    (to, bad)
}

/// What tells a mail from all others: its `Message-ID`, whom it is for and what it says. Without the first, nothing does.
fn key(id: Option<&str>, to: &[Phone], text: &str) -> Key {
    let Some(id) = id else { return Key::own() };
    let mut digest = Sha256::new();
    let numbers = to.iter().map(Phone::as_str).collect::<Vec<_>>().join(",");
    for part in [id, &numbers, text] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Key { name: format!("smtp:{}", hex::encode(digest.finalize())), kept: KEPT }
}

async fn write(stream: &mut TcpStream, octets: &[u8]) -> io::Result<()> {
    timeout(LINE_TIME, stream.write_all(octets)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The octets of a connection. Replies go out when there is nothing left to read, as pipelining wants it (RFC 2920).
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    replies: Vec<u8>,
}

impl Client {
    fn reply(&mut self, reply: &str) {
        self.replies.extend_from_slice(reply.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> io::Result<()> {
        write(&mut self.stream, &std::mem::take(&mut self.replies)).await
    }

    async fn line(&mut self) -> io::Result<wire::Ended> {
        let mut line = Line::default();
        loop {
            let (used, ended) = line.take(self.waiting().await?);
            self.start += used;
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    async fn mail(&mut self, max: usize) -> io::Result<Mail> {
        let mut data = Data::new(max);
        loop {
            let (used, ended) = data.take(self.waiting().await?);
            self.start += used;
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// What has come and was not used; more, if there is none.
    async fn waiting(&mut self) -> io::Result<&[u8]> {
        if self.start >= self.end {
            self.flush().await?;
            self.start = 0;
            self.end = self.stream.read(&mut self.buffer).await?;
            if self.end == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_that_comes_again_has_its_key_and_no_other_has() {
        let to = |n: &str| vec![Phone::parse(n).unwrap()];
        let first = key(Some("1@x"), &to("112"), "down");
        assert_eq!(key(Some("1@x"), &to("112"), "down"), first);
        for (id, number, text) in
            [("2@x", "112", "down"), ("1@x", "113", "down"), ("1@x", "112", "up"), ("1@x1", "112", "down")]
        {
            assert_ne!(key(Some(id), &to(number), text), first);
        }
        assert_ne!(key(None, &to("112"), "down"), key(None, &to("112"), "down"));
    }
}
