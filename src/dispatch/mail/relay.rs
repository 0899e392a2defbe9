//! A mail server that takes mail for others: how it is reached, in whose name, and what must not be said of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::Instant;
use uuid::Uuid;

use super::{SettingsError, address};
use crate::config::Secret;
use crate::dispatch::http_client::{CONNECT_TIMEOUT, native_roots};
use crate::dispatch::http_gateway::secret_forms;
use crate::dispatch::quote::quote;
use crate::dispatch::reach::Addresses;
use crate::dispatch::smtp::{Failure, Server, Session, Tls};

/// Where mail goes if nothing says where (NAV: Django's default).
pub const SERVER: &str = "localhost";

/// From whom mail comes if nothing says from whom (NAV's default).
pub const FROM: &str = "nav@localhost";

/// The usual ports (RFC 5321 §4.5.4.2, RFC 8314 §3.3).
const PORT: u16 = 25;
const SMTPS_PORT: u16 = 465;

/// How it is reached; what is `None` has a default.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Host, and port if it is not the usual one.
    pub server: Option<(String, Option<u16>)>,
    /// How the connection is protected.
    pub tls: Option<Tls>,
    /// The certificates that are trusted, in place of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Who logs in.
    pub username: Option<String>,
    /// With what.
    pub password: Option<Secret<String>>,
    /// From whom mail comes: an address, or a name with the address in angle brackets.
    pub fromaddr: Option<String>,
}

/// See the module.
pub struct Relay {
    settings: Settings,
    from: String,
    from_address: String,
    server: OnceLock<Server>,
    roots: Option<Arc<RootCertStore>>,
    secrets: Vec<String>,
}

impl Relay {
    /// As the settings have it. Reads `tls_ca`.
    ///
    /// # Errors
    /// What can not be used.
    pub fn new(settings: Settings) -> Result<Relay, SettingsError> {
        let from = settings.fromaddr.clone().unwrap_or_else(|| FROM.to_owned());
        let Some(from_address) = address(&from).map(str::to_owned) else {
            let problem = format!("{from:?} found; expected a mail address in ASCII");
            return Err(SettingsError { key: "fromaddr", problem });
        };
        let roots = settings.tls_ca.as_deref().map(read_roots).transpose()?;
        let mut secrets = Vec::new();
        if let Some(password) = settings.password.as_ref().map(Secret::reveal).filter(|p| !p.is_empty()) {
            let user = settings.username.as_deref().unwrap_or_default();
            secrets.push(BASE64_STANDARD.encode(format!("\0{user}\0{password}")));
            secrets.extend(secret_forms(password));
        }
        Ok(Relay { settings, from, from_address, server: OnceLock::new(), roots, secrets })
    }

    /// From whom mail comes, for a header.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The same, the address alone.
    pub fn from_address(&self) -> &str {
        &self.from_address
    }

    /// What must not be shown.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// A mail's `Message-ID`, without its angle brackets.
    pub fn id(&self, key: Uuid) -> String {
        let domain = self.from_address.rsplit_once('@').map_or(SERVER, |(_, domain)| domain);
        format!("{key}@{domain}")
    }

    /// A session that is ready for a mail. The deadline is that of the whole session.
    ///
    /// # Errors
    /// [`Failure`]: nothing of a mail has gone out.
    pub async fn open(&self, deadline: Instant) -> Result<Session, Failure> {
        Session::open(self.server(), deadline).await
    }

    /// Opens a session and ends it without a mail; how it went, in words.
    ///
    /// # Errors
    /// What a mail would meet now.
    pub async fn probe(&self) -> Result<String, Failure> {
        let begun = Instant::now();
        self.open(begun + 2 * CONNECT_TIMEOUT).await?.quit().await;
        let (server, took) = (self.server(), begun.elapsed().as_millis());
        let logged_in = if server.login.is_some() { "logged in at" } else { "greeted by" };
        Ok(format!("{logged_in} {}:{} in {took} ms", server.host, server.port))
    }

    /// A failure in words, with the server, without secrets and without the texts.
    pub fn words(&self, failure: &Failure, texts: &[String]) -> String {
        let words = quote(failure.to_string().as_bytes(), &self.secrets, texts);
        format!("{}: {words}", self.place())
    }

    /// `host:port`.
    pub fn place(&self) -> String {
        let (host, port) = self.host_and_port();
        format!("{host}:{port}")
    }

    fn host_and_port(&self) -> (String, u16) {
        let (host, port) = self.settings.server.clone().unwrap_or_else(|| (SERVER.to_owned(), None));
        let usual = if self.settings.tls == Some(Tls::Smtps) { SMTPS_PORT } else { PORT };
        (host, port.unwrap_or(usual))
    }

    /// The server; the system's certificates are read when first needed, and only if there is TLS.
    fn server(&self) -> &Server {
        self.server.get_or_init(|| {
            let settings = &self.settings;
            let tls = settings.tls.unwrap_or(Tls::None);
            let (host, port) = self.host_and_port();
            let roots = self.roots.clone().unwrap_or_else(|| match tls {
                Tls::None => Arc::new(RootCertStore::empty()),
                Tls::StartTls | Tls::Smtps => Arc::new(native_roots()),
            });
            let password = settings.password.as_ref().map(|password| password.reveal().clone());
            let login = settings.username.clone().zip(password);
            Server { host, port, tls, roots, login, addresses: Addresses::default() }
        })
    }
}

fn read_roots(path: &Path) -> Result<Arc<RootCertStore>, SettingsError> {
    let unusable = |why: String| SettingsError {
        key: "tls_ca",
        problem: format!("{} can not be used: {why}", path.display()),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))? {
        let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".into()));
    }
    Ok(Arc::new(roots))
}
