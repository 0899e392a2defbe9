//! A gateway that takes an SMS as a mail: NAV's UninettMailDispatcher.
//!
//! The subject names the number, the body is the text. What an SMS means is settled by the mail server that takes
//! the mail: what becomes of the mail behind it, nobody tells us. The `Message-ID` is made of [`Sms::key`], so that a
//! mail that repeats one in doubt can be recognised, by us and by every server that drops duplicates. A server may take
//! ten minutes to say that it has a mail (RFC 5321 §4.5.3.2.6); ours must do so within [`Sms::timeout`], since nobody waits
//! ten minutes for an alert, and a text gives a scanner little to look through.

pub mod message;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::Instant;

use self::message::Message;
use super::http_client::{CONNECT_TIMEOUT, native_roots};
use super::quote::quote;
use super::smtp::meaning::Meanings;
use super::smtp::{Envelope, Failure, Reply, Server, Session, Tls};
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

/// Where mail goes if nothing says where (NAV: Django's default).
const SERVER: &str = "localhost";

/// From whom mail comes if nothing says from whom (NAV's default).
const FROM: &str = "nav@localhost";

/// The usual ports (RFC 5321 §4.5.4.2, RFC 8314 §3.3).
const PORT: u16 = 25;
const SMTPS_PORT: u16 = 465;

/// Hands an SMS to a mail server, one session each.
pub struct MailDispatcher {
    settings: Settings,
    from: String,
    from_address: String,
    server: OnceLock<Server>,
    roots: Option<Arc<RootCertStore>>,
    meanings: Meanings,
    limits: Limits,
    secrets: Vec<String>,
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
        let error = |key, problem: String| SettingsError { key, problem };
        let from = settings.fromaddr.clone().unwrap_or_else(|| FROM.to_owned());
        let from_address = address(&from)
            .ok_or_else(|| error("fromaddr", format!("{from:?} found; expected a mail address in ASCII")))?
            .to_owned();
        let example = settings.mailaddr.replace(PHONE, "4799999999");
        if address(&example) != Some(&example) {
            return Err(error("mailaddr", format!("{:?} found; expected a mail address", settings.mailaddr)));
        }
        let roots = settings.tls_ca.as_ref().map(|path| {
            let unusable =
                |why: String| error("tls_ca", format!("{} can not be used: {why}", path.display()));
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
                roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            }
            if roots.is_empty() {
                Err(unusable("it holds no certificate".into()))
            } else {
                Ok(Arc::new(roots))
            }
        });
        let mut secrets = Vec::new();
        if let Some(password) = settings.password.as_ref().map(Secret::reveal).filter(|p| !p.is_empty()) {
            let user = settings.username.as_deref().unwrap_or_default();
            secrets.push(BASE64_STANDARD.encode(format!("\0{user}\0{password}")));
            secrets.push(BASE64_STANDARD.encode(password));
            secrets.push(password.clone());
        }
        let meanings = Meanings { address_per_number: settings.mailaddr.contains(PHONE), ..meanings };
        Ok(MailDispatcher {
            roots: roots.transpose()?,
            settings,
            from,
            from_address,
            server: OnceLock::new(),
            meanings,
            limits,
            secrets,
        })
    }

    /// The server; the system's certificates are read when first needed, and only if there is TLS.
    fn server(&self) -> &Server {
        self.server.get_or_init(|| {
            let settings = &self.settings;
            let tls = settings.tls.unwrap_or(Tls::None);
            let (host, port) = settings.server.clone().unwrap_or_else(|| (SERVER.to_owned(), None));
            let usual = if tls == Tls::Smtps { SMTPS_PORT } else { PORT };
            let roots = self.roots.clone().unwrap_or_else(|| match tls {
                Tls::None => Arc::new(RootCertStore::empty()),
                Tls::StartTls | Tls::Smtps => Arc::new(native_roots()),
            });
            let password = settings.password.as_ref().map(|password| password.reveal().clone());
            let login = settings.username.clone().zip(password);
            Server { host, port: port.unwrap_or(usual), tls, roots, login }
        })
    }

    async fn send(&self, sms: &Sms, id: &str) -> Result<Reply, Failure> {
        let session = Session::open(self.server(), Instant::now() + sms.timeout).await?;
        let to = self.settings.mailaddr.replace(PHONE, sms.recipient.as_str());
        let message = Message {
            from: &self.from,
            to: &to,
            subject: &self.settings.subject.replace(PHONE, sms.recipient.as_str()),
            id,
            date: Timestamp::now(),
            text: &sms.text,
        };
        let mail = message.to_bytes(session.offers("8BITMIME"));
        session.send(Envelope { from: &self.from_address, to: &to }, &mail).await
    }

    fn failed(&self, failure: &Failure, text: &str) -> SubmitError {
        let words = quote(failure.to_string().as_bytes(), &self.secrets, &forms(text));
        let server = self.server();
        let error =
            SubmitError::new(self.meanings.of(failure), format!("{}:{}: {words}", server.host, server.port));
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
            Some(name) => quote(name.as_bytes(), &self.secrets, &[]),
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
        let domain = self.from_address.rsplit_once('@').map_or(SERVER, |(_, domain)| domain);
        let id = format!("{}@{domain}", sms.key);
        match self.send(sms, &id).await {
            Ok(reply) => Ok(self.receipt(&reply, &id)),
            Err(failure) if self.meanings.is_accepted(&failure) => Ok(Receipt { references: vec![id] }),
            Err(failure) => Err(self.failed(&failure, &sms.text)),
        }
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        let begun = Instant::now();
        let opened = Session::open(self.server(), begun + 2 * CONNECT_TIMEOUT).await;
        opened.map_err(|failure| self.failed(&failure, ""))?.quit().await;
        let (server, took) = (self.server(), begun.elapsed().as_millis());
        let logged_in = if server.login.is_some() { "logged in at" } else { "greeted by" };
        Ok(Health(format!("{logged_in} {}:{} in {took} ms", server.host, server.port)))
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
