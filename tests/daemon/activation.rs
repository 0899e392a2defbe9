//! Sockets that somebody else has opened for the HTTP interface, as systemd does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;

use super::bench::{Daemon, Site, gateway, give, until, ways};

/// Starts the daemon with these as its descriptors from 3 on, under these names.
fn start(site: &Site, sockets: &[(&str, &dyn AsFd)]) -> Daemon {
    let (mut script, mut names) = (String::new(), Vec::new());
    for (n, (name, socket)) in sockets.iter().enumerate() {
        // A number that no other has, and that a child inherits.
        let high = fcntl(socket.as_fd(), FcntlArg::F_DUPFD(100)).unwrap();
        script += &format!("exec {}<&{high} {high}<&-; ", 3 + n);
        names.push(*name);
    }
    script += "export LISTEN_PID=$$; exec \"$@\"";
    let smsd = site.command(&["-f"]);
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(smsd.get_program()).args(smsd.get_args()).env_clear();
    command.envs(smsd.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    site.spawn(command)
}

fn asked<S: Read + Write>(mut stream: S) -> String {
    let mut answer = String::new();
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn by_tcp(at: SocketAddr) -> String {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    asked(stream)
}

fn by_path(site: &Site) -> String {
    let stream = UnixStream::connect(site.path("http.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    asked(stream)
}

fn configure(site: &Site, main: &str, http: &str, at: SocketAddr) {
    site.configure(main, &format!("{}[http]\n{http}\n", ways(&[at], "")));
}

#[test]
fn sockets_of_systemds_are_answered_at_by_name_over_reloads_and_restarts() {
    let (gateway, site) = (gateway(), Site::embedded("", ""));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(site.path("http.sock")).unwrap();
    give(&site.path("http.sock"));
    let sockets: [(&str, &dyn AsFd); 2] = [("http", &tcp), ("local", &unix)];
    configure(&site, "", "listen: systemd", gateway.addr);

    // Whoever comes before the daemon is there waits, and is not refused.
    let early = std::thread::spawn(move || {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        asked(stream)
    });
    std::thread::sleep(Duration::from_millis(300));
    let daemon = start(&site, &sockets).up();
    assert!(early.join().unwrap().starts_with("HTTP/1.1 200"), "{}", daemon.log());
    for answer in [by_tcp(at), by_path(&site)] {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    // A reload keeps both; another name leaves one.
    configure(&site, "delay: 10", "listen: systemd", gateway.addr);
    daemon.signal(Signal::SIGHUP);
    until("it is reread", || (daemon.said("configuration reread") == 1).then_some(()));
    assert!(by_tcp(at).starts_with("HTTP/1.1 200") && by_path(&site).starts_with("HTTP/1.1 200"));
    configure(&site, "delay: 10", "listen: systemd:local", gateway.addr);
    daemon.signal(Signal::SIGHUP);
    until("it listens on one of them", || (daemon.said("listens on systemd no more") == 1).then_some(()));
    until("nobody answers at the other", || by_tcp(at).is_empty().then_some(()));
    until("this one answers", || by_path(&site).starts_with("HTTP/1.1 200").then_some(()));
    daemon.stop();
    assert!(site.path("http.sock").exists(), "it is not ours to remove");

    // The next daemon has the same sockets; what nobody listens on is said.
    let daemon = start(&site, &sockets).up();
    assert!(by_path(&site).starts_with("HTTP/1.1 200"));
    until("it is said", || (daemon.said("`listen` in [http] lacks systemd:http") == 1).then_some(()));
    assert_eq!(daemon.said("lacks systemd:local"), 0);
    daemon.stop();
}

#[test]
fn a_socket_that_other_machines_reach_needs_what_an_address_needs() {
    let (gateway, site) = (gateway(), Site::embedded("", ""));
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let at: SocketAddr = ([127, 0, 0, 1], open.local_addr().unwrap().port()).into();
    configure(&site, "", "listen: systemd:http", gateway.addr);
    let daemon = start(&site, &[("http", &open)]).up();
    until("it is refused", || {
        (daemon.said("can be reached from other machines, which needs a token, tls_cert and tls_key") == 1)
            .then_some(())
    });
    assert_eq!(by_tcp(at), "", "nobody answers");

    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    site.write("cert.pem", &key.cert.pem());
    site.write("key.pem", &key.signing_key.serialize_pem());
    let sound =
        "listen: systemd:http\ntoken: 0123456789abcdef0123456789abcdef\ntls_cert: cert.pem\ntls_key: key.pem";
    configure(&site, "", sound, gateway.addr);
    daemon.signal(Signal::SIGHUP);
    until("it listens", || (daemon.said("HTTP listens on 0.0.0.0") == 1).then_some(()));
    assert!(!by_tcp(at).starts_with("HTTP/1.1 200"), "not in the clear");

    // Without its token it is open no more.
    configure(&site, "", "listen: systemd:http\ntls_cert: cert.pem\ntls_key: key.pem", gateway.addr);
    daemon.signal(Signal::SIGHUP);
    until("it is refused", || (daemon.said("which needs a token; trying again") == 1).then_some(()));
    daemon.stop();
}

#[test]
fn where_nothing_was_handed_over_that_is_said_and_sms_go_out() {
    let (gateway, site) = (gateway(), Site::embedded("", ""));
    configure(&site, "", "listen: systemd", gateway.addr);
    let daemon = site.start();
    until("it is said", || (daemon.said("systemd has handed over no such socket") == 1).then_some(()));
    assert_eq!(site.run(&["send", "--to", "+4790000001", "--wait", "goes out"]).code, 0);
    daemon.stop();
    let said =
        Site::embedded("", &format!("{}[http]\nlisten: systemd:\n", ways(&[gateway.addr], ""))).run(&["-f"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.names(&["listen", "systemd:NAME"]);
}
