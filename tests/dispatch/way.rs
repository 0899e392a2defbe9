//! The way to a gateway that is not the usual one: a private authority, a client certificate, a proxy.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use smsd::config::Main;
use smsd::demo::gateway::{Answer, Behaviour, Gateway};
use smsd::dispatch::{self, Class, Dispatcher};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::contract::{MARKERS, sms, submit};
use crate::http::{built, load_in};
use crate::http_get::gateway;
use crate::tls::Authority;

const REST: &str = "to={{ phone }}&text={{ text }}";

/// A dispatcher to `https://localhost` whose files stand in `dir`.
fn to(gateway: &Gateway, dir: &Path, keys: &str) -> Arc<dyn Dispatcher> {
    let keys = format!("url: https://localhost:{}/?{REST}\n{keys}", gateway.addr.port());
    dispatch::build(&load_in(dir, &keys).unwrap(), &Main::default()).unwrap()
}

async fn class(dispatcher: &Arc<dyn Dispatcher>) -> Option<Class> {
    submit(&**dispatcher, &sms("112", "hei")).await.err().map(|error| error.class)
}

/// A folder with the authority's certificate, a client's certificate and key, and a key of nobody.
fn files(authority: &Authority) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.client();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o600)).unwrap();
    };
    write("ca.pem", &authority.pem());
    write("client.pem", &certificate);
    write("client.key", &key);
    write("other.key", &authority.client().1);
    dir
}

#[tokio::test]
async fn only_the_authority_of_the_file_is_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = files(&authority);
    let ours = Gateway::start_tls(Behaviour::ok(), authority.server("localhost", 2999)).await.unwrap();
    assert_eq!(class(&to(&ours, dir.path(), "tls_ca: ca.pem")).await, None);
    // Not the system's, where this authority is unknown.
    assert_eq!(class(&to(&ours, dir.path(), "")).await, Some(Class::Unavailable));
    let theirs = Gateway::start_tls(Behaviour::ok(), stranger.server("localhost", 2999)).await.unwrap();
    assert_eq!(class(&to(&theirs, dir.path(), "tls_ca: ca.pem")).await, Some(Class::Unavailable));
    assert!(theirs.heads().is_empty());
}

#[tokio::test]
async fn a_gateway_that_wants_a_certificate_gets_ours() {
    let authority = Authority::new();
    let dir = files(&authority);
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let (certificate, key) = authority.certificate("localhost", 2999);
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key).unwrap())
        .unwrap();
    let gateway = Gateway::start_tls(Behaviour::ok(), Arc::new(server)).await.unwrap();
    let with = "tls_ca: ca.pem\ntls_cert: client.pem\ntls_key: client.key";
    assert_eq!(class(&to(&gateway, dir.path(), with)).await, None);
    assert_eq!(gateway.accepted_count(), 1);
    // TLS 1.3 tells a client that it is unwanted only behind its first bytes: nobody has read them, and a person is needed.
    assert_eq!(class(&to(&gateway, dir.path(), "tls_ca: ca.pem")).await, Some(Class::Misconfigured));
    assert_eq!(gateway.accepted_count(), 1);

    for (keys, want) in [
        ("tls_cert: client.pem\ntls_key: other.key", "smsd.conf:7:1: tls_key: "),
        ("tls_cert: client.pem\ntls_key: ca.pem", "smsd.conf:7:1: tls_key: found no private key in PEM"),
        ("tls_cert: client.key\ntls_key: client.key", "smsd.conf:6:1: tls_cert: found no certificate in PEM"),
    ] {
        let told = load_in(dir.path(), &format!("url: https://gw/?{REST}\n{keys}")).unwrap_err();
        assert!(told.contains(want), "{told}");
    }
}

/// What a proxy does.
#[derive(Clone, Copy, PartialEq)]
enum Play {
    /// Its work.
    Works,
    /// Answers so to every request.
    Answers(&'static str),
    /// Reads, and closes the connection.
    Cuts,
    /// Makes the tunnel, and cuts it at the first byte from behind the handshake with it.
    CutsTunnel,
    /// Reads, and says nothing.
    Hangs,
}

/// A small proxy: CONNECT, and requests in absolute form.
struct Proxy {
    addr: SocketAddr,
    /// The heads that it read.
    heads: Arc<Mutex<Vec<String>>>,
    play: Arc<Mutex<Play>>,
    task: AbortHandle,
}

impl Proxy {
    async fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (heads, play) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Play::Works)));
        let (seen, asked) = (heads.clone(), play.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (seen, play) = (seen.clone(), *asked.lock().unwrap());
                tokio::spawn(async move {
                    let _ = serve(client, play, &seen).await;
                });
            }
        });
        Proxy { addr, heads, play, task: task.abort_handle() }
    }

    fn set(&self, play: Play) {
        *self.play.lock().unwrap() = play;
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut client: TcpStream, play: Play, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    match play {
        Play::Works | Play::CutsTunnel => {}
        Play::Answers(answer) => return client.write_all(answer.as_bytes()).await,
        Play::Cuts => return client.shutdown().await,
        Play::Hangs => std::future::pending().await,
    }
    let target = head.split(' ').nth(1).unwrap();
    if head.starts_with("CONNECT ") {
        let mut server = TcpStream::connect(target).await?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n").await?;
        if play == Play::CutsTunnel {
            return client.read_u8().await.map(drop);
        }
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    let (host, path) = target.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut server = TcpStream::connect(host).await?;
    let head = head.replacen(target, &format!("/{path}"), 1);
    server.write_all(head.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What every proxy of these tests is known as: its password is a marker.
fn key(proxy: &Proxy) -> String {
    format!("proxy: http://marker-user:mark%65r-pass@{}\n", proxy.addr)
}

const LOGIN: &str = "bWFya2VyLXVzZXI6bWFya2VyLXBhc3M=";

#[tokio::test]
async fn https_goes_through_a_tunnel_and_http_is_asked_of_the_proxy() {
    let (proxy, authority) = (Proxy::start().await, Authority::new());
    let dir = files(&authority);
    let secure = Gateway::start_tls(Behaviour::ok(), authority.server("localhost", 2999)).await.unwrap();
    let dispatcher = to(&secure, dir.path(), &format!("tls_ca: ca.pem\n{}", key(&proxy)));
    assert!(dispatcher.probe().await.is_ok());
    assert_eq!(class(&dispatcher).await, None);
    let port = secure.addr.port();
    let connect = format!(
        "CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\nProxy-Authorization: Basic {LOGIN}\r\n\r\n"
    );
    assert_eq!(proxy.heads(), [connect.clone(), connect]);
    assert!(!secure.heads()[0].to_lowercase().contains("proxy"), "{}", secure.heads()[0]);

    let plain = gateway(Behaviour::ok()).await;
    let dispatcher = built(&format!("url: http://{}/s?{REST}\n{}", plain.addr, key(&proxy)));
    assert_eq!(class(&dispatcher).await, None);
    let head = proxy.heads().pop().unwrap();
    assert!(head.starts_with(&format!("GET http://{}/s?to=112&text=hei HTTP/1.1\r\n", plain.addr)), "{head}");
    assert!(head.contains(&format!("\r\nproxy-authorization: Basic {LOGIN}\r\n")), "{head}");
    assert_eq!(plain.accepted_count(), 1);
}

/// As long as the tunnel is not there, nothing of the request has been written: the next way out may send the SMS.
#[tokio::test]
async fn a_tunnel_that_is_not_made_is_unavailable() {
    let (proxy, authority) = (Proxy::start().await, Authority::new());
    let dir = files(&authority);
    let gateway = Gateway::start_tls(Behaviour::ok(), authority.server("localhost", 2999)).await.unwrap();
    let dispatcher = to(&gateway, dir.path(), &format!("tls_ca: ca.pem\n{}", key(&proxy)));
    let endless = format!("HTTP/1.1 200 \r\n{}", "X: y\r\n".repeat(5000)).leak();
    for (play, words) in [
        (
            Play::Answers("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
            "proxy: it answered 407",
        ),
        (
            Play::Answers("HTTP/1.1 403 Forbidden\r\n\r\nmarker-user marker-pass"),
            "proxy: it answered 403 Forbidden",
        ),
        (Play::Answers("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "proxy: it answered 502"),
        (Play::Answers("220 mail.example ESMTP\r\n\r\n"), "proxy: its answer is no HTTP"),
        (Play::Answers("HTTP/1.1 200"), "proxy: it closed the connection"),
        (Play::Answers(endless), "proxy: its answer does not end"),
        (Play::Cuts, "proxy: it closed the connection"),
        (Play::CutsTunnel, "TLS"),
        (Play::Hangs, "connecting took too long"),
    ] {
        proxy.set(play);
        let error = submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err();
        assert_eq!(error.class, Class::Unavailable, "{error}");
        assert!(error.detail.contains(words), "{words}: {error}");
        let probed = dispatcher.probe();
        if play != Play::Hangs {
            assert_eq!(probed.await.unwrap_err().class, Class::Unavailable);
        }
    }
    assert!(gateway.heads().is_empty());
    let addr = proxy.addr;
    drop(proxy);
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let error = submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Unavailable, "{error}");
    assert!(MARKERS.iter().all(|marker| !format!("{error:?}").contains(marker)), "{error:?}");
}

/// Without a tunnel the proxy has the request, and only its word says what became of it.
#[tokio::test]
async fn a_proxy_that_cuts_a_request_leaves_it_in_doubt() {
    let (proxy, gateway) = (Proxy::start().await, gateway(Behaviour::ok()).await);
    let dispatcher = built(&format!("url: http://{}/s?{REST}\n{}", gateway.addr, key(&proxy)));
    for (play, want) in [
        (Play::Cuts, Class::Unknown),
        (Play::Hangs, Class::Unknown),
        (Play::Answers("HTTP/1.1 407 \r\nContent-Length: 0\r\n\r\n"), Class::Misconfigured),
        (Play::Answers("HTTP/1.1 502 \r\nContent-Length: 0\r\n\r\n"), Class::Failed),
    ] {
        proxy.set(play);
        assert_eq!(class(&dispatcher).await, Some(want));
    }
    // Through a tunnel that works, a gateway that cuts is in doubt as well.
    proxy.set(Play::Works);
    let authority = Authority::new();
    let dir = files(&authority);
    let closes = Behaviour::answering(Answer::Close);
    let secure = Gateway::start_tls(closes, authority.server("localhost", 2999)).await.unwrap();
    let dispatcher = to(&secure, dir.path(), &format!("tls_ca: ca.pem\n{}", key(&proxy)));
    assert_eq!(class(&dispatcher).await, Some(Class::Unknown));
}
