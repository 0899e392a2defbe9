//! The way to a gateway, where it is not the usual one: a private authority, a client certificate, a proxy.

use std::fmt;

use hyper::http::HeaderValue;
use hyper::http::uri::Authority;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::http_client::tls;
use super::url_template::{UrlError, apart, basic, secrets};

/// What a client is to do differently.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Trust these authorities only; `None`: those of the system.
    pub roots: Option<RootCertStore>,
    /// Show this certificate to a server that asks for one.
    pub identity: Option<Identity>,
    /// Go through this proxy.
    pub proxy: Option<Proxy>,
}

/// Reads authorities from PEM.
///
/// # Errors
/// What is wrong with it.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|e| format!("a certificate in it can not be used: {e}"))?;
    }
    Ok(roots)
}

/// A certificate, those between it and its authority, and its key.
#[derive(PartialEq)]
pub struct Identity {
    /// The certificate first.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads certificates and key from PEM.
    ///
    /// # Errors
    /// Which of the two is at fault (true: the key), and why; also that they do not belong together.
    pub fn new(certificate: &[u8], key: &[u8]) -> Result<Identity, (bool, String)> {
        let certificates = certificates(certificate).map_err(|why| (false, why))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| (true, "found no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned()))?;
        let identity = Identity { certificates, key };
        tls(RootCertStore::empty(), Some(&identity)).map_err(|why| (true, why))?;
        Ok(identity)
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Way) -> bool {
        let roots = |way: &Way| way.roots.as_ref().map(|store| store.roots.clone());
        roots(self) == roots(other) && self.identity == other.identity && self.proxy == other.proxy
    }
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity { certificates: self.certificates.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(<secret>)")
    }
}

/// A proxy: https goes through a tunnel (CONNECT), http is asked of it.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// Host and port.
    pub(super) authority: Authority,
    /// What must never show: user and password, as written, as meant and as they go out.
    pub(super) secrets: Vec<String>,
    login: Option<HeaderValue>,
}

impl Proxy {
    /// Reads `http://user:password@host:port`.
    ///
    /// # Errors
    /// What is wrong with it, without a piece of it.
    pub fn parse(url: &str) -> Result<Proxy, String> {
        let sound = |c: char| c.is_ascii_graphic();
        if !url.chars().all(sound) {
            return Err("a character that no URL has; write it percent-encoded".into());
        }
        let apart = apart(url, &[]).map_err(|why| match why {
            UrlError::Scheme => "it does not begin with http://".to_owned(),
            other => other.to_string(),
        })?;
        if apart.origin.tls {
            return Err("it begins with https://; a proxy is spoken to in http://".into());
        }
        if !matches!(apart.target, "" | "/") {
            return Err("a path stands behind its host".into());
        }
        let login = apart.user.map(basic).and_then(|login| HeaderValue::from_str(&login).ok());
        let login = login.map(|mut login| {
            login.set_sensitive(true);
            login
        });
        let secrets = secrets(apart.user.unwrap_or(""), "");
        Ok(Proxy { authority: apart.origin.authority, secrets, login })
    }

    /// The value of `Proxy-Authorization`, if there is a user.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.login.clone()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.authority.as_str()).finish()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let none = "found no certificate in PEM (-----BEGIN CERTIFICATE-----)";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| none.to_owned())
}
