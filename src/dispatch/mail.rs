//! A gateway that takes an SMS as a mail: NAV's UninettMailDispatcher.
//!
//! The subject names the number, the body is the text. What an SMS means is settled by the mail server that takes
//! the mail: what becomes of the mail behind it, nobody tells us. The `Message-ID` is made of [`Sms::key`], so that a
//! mail that repeats one in doubt can be recognised, by us and by every server that drops duplicates. A server may take
//! ten minutes to say that it has a mail (RFC 5321 §4.5.3.2.6); ours must do so within [`Sms::timeout`], since nobody waits
//! ten minutes for an alert, and a text gives a scanner little to look through.

pub mod mark;
pub mod message;
pub mod relay;

use std::path::PathBuf;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use tokio::time::Instant;

use self::message::Message;
use self::relay::Relay;
use super::quote::quote;
use super::smtp::meaning::Meanings;
use super::smtp::{Envelope, Failure, Reply, Tls};
use super::url_template::PHONE;
use super::{Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use crate::config::Secret;

/// Its keys; what is `None` has a default that does not depend on other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `mailaddr`: the gateway's address; may hold the place of the number.
    pub mailaddr: String,
    /// `subject` with the place of the number.
    pub subject: String,
    /// `server`: host, and port if it is not the usual one.
    pub server: Option<(String, Option<u16>)>,
    /// `tls`.
    pub tls: Option<Tls>,
    /// `tls_ca`: the certificates that are trusted, in place of the system's.
    pub tls_ca: Option<PathBuf>,
    /// `username`.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<Secret<String>>,
    /// `fromaddr`: an address, or a name with the address in angle brackets.
    pub fromaddr: Option<String>,
}

/// NAV's subject.
pub const SUBJECT: &str = "sms %(phone)s";

/// Hands an SMS to a mail server, one session each.
pub struct MailDispatcher {
    mailaddr: String,
    subject: String,
    relay: Relay,
    meanings: Meanings,
    limits: Limits,
}

/// What is wrong with its configuration: the key, and the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// The key.
    pub key: &'static str,
    /// What was found, and what was expected.
    pub problem: String,
}

impl MailDispatcher {
    /// A dispatcher through the mail server of the settings. Reads `tls_ca`.
    ///
    /// # Errors
    /// What can not be used.
    pub fn new(
        settings: Settings,
        meanings: Meanings,
        limits: Limits,
    ) -> Result<MailDispatcher, SettingsError> {
        let Settings { mailaddr, subject, server, tls, tls_ca, username, password, fromaddr } = settings;
        let relay = Relay::new(relay::Settings { server, tls, tls_ca, username, password, fromaddr })?;
        let example = mailaddr.replace(PHONE, "4799999999");
        if address(&example) != Some(&example) {
            let problem = format!("{mailaddr:?} found; expected a mail address");
            return Err(SettingsError { key: "mailaddr", problem });
        }
        let meanings = Meanings { address_per_number: mailaddr.contains(PHONE), ..meanings };
        Ok(MailDispatcher { mailaddr, subject, relay, meanings, limits })
    }

    async fn send(&self, sms: &Sms, id: &str) -> Result<Reply, Failure> {
        let session = self.relay.open(Instant::now() + sms.timeout).await?;
        let to = self.mailaddr.replace(PHONE, sms.recipient.as_str());
        let message = Message {
            from: self.relay.from(),
            to: &to,
            subject: &self.subject.replace(PHONE, sms.recipient.as_str()),
            id,
            date: Timestamp::now(),
            text: &sms.text,
            fold: false,
        };
        let mail = message.to_bytes(session.offers("8BITMIME"));
        session.send(Envelope { from: self.relay.from_address(), to: &to }, &mail).await
    }

    fn failed(&self, failure: &Failure, text: &str) -> SubmitError {
        let error = SubmitError::new(self.meanings.of(failure), self.relay.words(failure, &forms(text)));
        match failure {
            Failure::Refused(_, reply) => error.code(reply.shown_code()),
            Failure::Lacking(_) | Failure::Broken(..) => error,
        }
    }

    /// What the server calls the mail, for its log: Postfix and Exim say so; else what we call it.
    fn receipt(&self, reply: &Reply, id: &str) -> Receipt {
        let named = ["queued as ", "id="].iter().find_map(|before| reply.text.split_once(before));
        let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let name =
            named.and_then(|(_, after)| after.split(end).next()).map(|name| name.trim_end_matches('.'));
        let mut reference = match name.filter(|name| !name.is_empty()) {
            Some(name) => quote(name.as_bytes(), self.relay.secrets(), &[]),
            None => id.to_owned(),
        };
        crate::telemetry::clip(&mut reference, REFERENCE_MAX);
        Receipt { references: vec![reference] }
    }
}

/// Bytes of a reference that are kept.
const REFERENCE_MAX: usize = 100;

#[async_trait]
impl Dispatcher for MailDispatcher {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let id = self.relay.id(sms.key);
        match self.send(sms, &id).await {
            Ok(reply) => Ok(self.receipt(&reply, &id)),
            Err(failure) if self.meanings.is_accepted(&failure) => Ok(Receipt { references: vec![id] }),
            Err(failure) => Err(self.failed(&failure, &sms.text)),
        }
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        self.relay.probe().await.map(Health).map_err(|failure| self.failed(&failure, ""))
    }
}

/// The address in a `From`: of the kind that every server takes, in ASCII and without quotes.
pub fn address(from: &str) -> Option<&str> {
    let address = match from.strip_suffix('>') {
        Some(named) => named.rsplit_once('<')?.1,
        None => from,
    };
    let sound = |c: char| c.is_ascii_graphic() && !"<>()[]\\,;:\"@".contains(c);
    let (local, domain) = address.split_once('@')?;
    let good = |part: &str| !part.is_empty() && part.chars().all(sound);
    (good(local) && good(domain) && !from.contains(char::is_control)).then_some(address)
}

/// A text in the forms in which a server may give it back.
fn forms(text: &str) -> [String; 2] {
    [text.to_owned(), BASE64_STANDARD.encode(text)]
}
