//! Who is to be believed in TLS: libpq's `sslmode` in rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::settings::{Roots, TlsMode, TlsSettings};

/// How far the server's certificate is checked.
#[derive(Debug)]
enum Trust {
    /// Not at all; the connection is private, but to whom is unknown.
    Anyone,
    /// It comes from one of the roots, whatever name it bears (`verify-ca`).
    Chain(Arc<WebPkiServerVerifier>),
}

/// The client's side of TLS, or what is wrong with the files.
pub(super) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can not be used: {error}"))?;
    let verifier = || {
        let roots = Arc::new(roots(&settings.roots)?);
        WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| format!("the root certificates of the database can not be used: {error}"))
    };
    let builder = match (settings.mode, &settings.roots) {
        (TlsMode::VerifyFull, _) => builder.with_webpki_verifier(verifier()?),
        // As libpq: with roots at hand, `require` means verify-ca.
        (TlsMode::VerifyCa, _) | (TlsMode::Require, Roots::File(_)) => {
            let verifier = Verifier { trust: Trust::Chain(verifier()?), provider: provider.clone() };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        _ => {
            let verifier = Verifier { trust: Trust::Anyone, provider: provider.clone() };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    match &settings.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("sslkey {} can not be used: {error}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("sslcert {} can not be used: {error}", certificate.display()))
        }
    }
}

fn roots(roots: &Roots) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::None => {
            return Err("sslmode asks to check the database's certificate, but there is no sslrootcert \
                        and no ~/.postgresql/root.crt; name the file, or sslrootcert=system"
                .into());
        }
        Roots::File(file) => {
            for certificate in certificates(file)? {
                store
                    .add(certificate)
                    .map_err(|error| format!("sslrootcert {} can not be used: {error}", file.display()))?;
            }
        }
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{} can not be read as certificates: {error}", file.display()))
        .and_then(|all| match all.is_empty() {
            true => Err(format!("{} holds no certificate", file.display())),
            false => Ok(all),
        })
}

/// rustls checks names as a matter of course; libpq's weaker modes do not.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::Chain(verifier) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        // The chain is checked before the name, so that a wrong name alone means a good chain.
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
