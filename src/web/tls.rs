//! Certificate and key of the HTTP interface.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// Why no TLS can be spoken with these files. The words say which file, and show nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can not be read.
    #[error("can not read {path}: {error}", path = .0.display(), error = .1)]
    Unreadable(PathBuf, io::Error),
    /// It holds no certificate.
    #[error("{} holds no certificate; expected PEM (-----BEGIN CERTIFICATE-----)", .0.display())]
    NoCertificate(PathBuf),
    /// It holds no key.
    #[error("{} holds no private key; expected PEM (-----BEGIN PRIVATE KEY-----) without a password", .0.display())]
    NoKey(PathBuf),
    /// They do not belong together, or are of a kind that is not known.
    #[error("certificate and key can not be used together: {0}")]
    Unusable(rustls::Error),
}

impl TlsError {
    /// True if another user may be able to read it.
    pub fn is_denied(&self) -> bool {
        matches!(self, TlsError::Unreadable(_, e) if e.kind() == io::ErrorKind::PermissionDenied)
    }

    /// True if it is about the key.
    pub fn is_of_key(&self) -> bool {
        matches!(self, TlsError::NoKey(_))
    }
}

/// What speaks TLS with these files: 1.2 and 1.3, HTTP/1.1 alone.
///
/// # Errors
/// See [`TlsError`].
pub fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|e| wrong(e, &files.cert, TlsError::NoCertificate))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(e, &files.key, TlsError::NoKey))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn wrong(error: pem::Error, path: &Path, otherwise: fn(PathBuf) -> TlsError) -> TlsError {
    match error {
        pem::Error::Io(e) => TlsError::Unreadable(path.to_owned(), e),
        _ => otherwise(path.to_owned()),
    }
}
