//! TLS towards a gateway: only a certificate that is trusted, valid and of that name will do.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use smsd::config::Secret;
use smsd::demo::gateway::{Behaviour, Gateway};
use smsd::dispatch::http_client::Client;
use smsd::dispatch::http_get::{HttpGetDispatcher, Settings};
use smsd::dispatch::status::HttpStatuses;
use smsd::dispatch::{Class, Dispatcher, Limits};

use crate::contract::{sms, submit};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of this name and its key.
    pub(crate) fn certificate(&self, name: &str, year_of_end: i32) -> (CertificateDer<'static>, Vec<u8>) {
        let (certificate, key) = self.sign(name, year_of_end);
        (certificate.der().clone(), key.serialize_der())
    }

    /// A client's certificate and its key, in PEM.
    pub(crate) fn client(&self) -> (String, String) {
        let (certificate, key) = self.sign("client", 2999);
        (certificate.pem(), key.serialize_pem())
    }

    fn sign(&self, name: &str, year_of_end: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year_of_end, 1, 1);
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    pub(crate) fn server(&self, name: &str, year_of_end: i32) -> Arc<rustls::ServerConfig> {
        let (certificate, key) = self.certificate(name, year_of_end);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key).unwrap());
        Arc::new(config.unwrap())
    }
}

async fn dispatcher(gateway: &Gateway, trusted: &Authority) -> HttpGetDispatcher {
    let url = format!("https://localhost:{}/?to=%(phone)s&text=%(sms)s", gateway.addr.port());
    let settings = Settings { url: Secret::new(url), success: None };
    let built = HttpGetDispatcher::new(settings, HttpStatuses::default(), Limits { max_segments: None });
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der()).unwrap();
    built.unwrap().through(|origin| Client::with_roots(origin, roots))
}

#[tokio::test]
async fn a_sound_certificate_is_taken_and_the_connection_kept() {
    let authority = Authority::new();
    let gateway = Gateway::start_tls(Behaviour::ok(), authority.server("localhost", 2999)).await.unwrap();
    let dispatcher = dispatcher(&gateway, &authority).await;
    assert!(dispatcher.probe().await.is_ok());
    for _ in 0..5 {
        submit(&dispatcher, &sms("112", "hei")).await.unwrap();
    }
    assert_eq!(gateway.accepted_count(), 5);
    assert_eq!(gateway.connections(), 2, "one for the probe, one for all submits");

    gateway.set(Behaviour::answering(smsd::demo::gateway::Answer::Reset));
    assert_eq!(submit(&dispatcher, &sms("112", "hei")).await.unwrap_err().class, Class::Unknown);
}

#[tokio::test]
async fn any_other_is_refused_before_a_byte_of_the_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let self_signed = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    for (what, server) in [
        ("expired", authority.server("localhost", 2001)),
        ("wrong name", authority.server("other.example", 2999)),
        ("unknown authority", stranger.server("localhost", 2999)),
        ("self-signed", Arc::new(self_signed)),
    ] {
        let gateway = Gateway::start_tls(Behaviour::ok(), server).await.unwrap();
        let dispatcher = dispatcher(&gateway, &authority).await;
        let error = submit(&dispatcher, &sms("112", "hei")).await.unwrap_err();
        assert_eq!(error.class, Class::Unavailable, "{what}: {error}");
        assert!(error.detail.contains("certificate"), "{what}: {error}");
        assert_eq!(dispatcher.probe().await.unwrap_err().class, Class::Unavailable, "{what}");
        assert!(gateway.heads().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_plain_server_is_no_tls_server() {
    let gateway = Gateway::start(Behaviour::ok()).await.unwrap();
    let dispatcher = dispatcher(&gateway, &Authority::new()).await;
    let error = submit(&dispatcher, &sms("112", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Unavailable, "{error}");
    assert_eq!(gateway.accepted_count(), 0);
}
