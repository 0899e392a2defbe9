//! Who keeps mail connections and brings no mail, and who hides a second mail in the first.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::place::{Place, account};
use crate::bench::{Daemon, nobody_listens, until};
use crate::faults::Faults;

/// A connection to the mail intake, spoken to by hand.
struct Client(BufReader<TcpStream>);

impl Client {
    /// From an address of loopback; with its greeting.
    fn from(address: [u8; 4], port: u16) -> (Client, String) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if address != ONE {
            socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        }
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut client = Client(BufReader::new(socket.into()));
        let greeting = client.reply();
        (client, greeting)
    }

    /// The last line of a reply; nothing, if the connection has ended.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 || line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    fn ask(&mut self, words: &str) -> String {
        let _ = self.0.get_mut().write_all(format!("{words}\r\n").as_bytes());
        self.reply()
    }

    /// Hands in a mail; the last reply.
    fn mail(&mut self, to: &str, mail: &str) -> String {
        for words in ["EHLO me", "MAIL FROM:<me@example.org>", &format!("RCPT TO:<{to}@x>"), "DATA"] {
            let reply = self.ask(words);
            assert!(reply.starts_with(['2', '3']), "{words}: {reply}");
        }
        self.ask(&format!("{mail}\r\n."))
    }
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

fn listening(faults: &Faults) -> (Place, u16, Daemon) {
    let port = nobody_listens().port();
    let place = Place::new("", &format!("[smtp]\nlisten: 127.0.0.1:{port}\n"));
    let mut command = place.site.command(&["-f"]);
    faults.befall(&mut command, None);
    let daemon = place.up(place.site.spawn(command));
    until("it takes mails", || TcpStream::connect(("127.0.0.1", port)).ok());
    (place, port, daemon)
}

#[test]
fn silent_mail_clients_shut_nobody_out() {
    let faults = Faults::new();
    silent_clients(64, || faults.set_uptime_ahead(11), &faults);
}

#[test]
#[ignore = "make attack"]
fn silent_mail_clients_for_a_quarter_of_a_minute() {
    silent_clients(2_000, || sleep(Duration::from_secs(15)), &Faults::new());
}

/// Connections of one address that say a word now and then, and never bring a mail.
fn silent_clients(connections: usize, wait: impl FnOnce(), faults: &Faults) {
    let (place, port, daemon) = listening(faults);
    let begun = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..connections {
        let (mut client, greeting) = Client::from(ONE, port);
        if greeting.starts_with("220 ") {
            assert_eq!(client.ask("NOOP"), "250 2.0.0 ok");
            idle.push(client);
        } else {
            assert!(greeting.starts_with("421 "), "{greeting}");
        }
    }
    assert!((4..=16).contains(&idle.len()), "{} of 64 places", idle.len());
    let (mut honest, _) = Client::from(OTHER, port);
    assert!(honest.mail("+4790000001", "\r\nfrom another address").starts_with("250 "));
    for client in &mut idle {
        assert_eq!(client.ask("NOOP"), "250 2.0.0 ok");
    }
    wait();
    let (mut honest, greeting) = Client::from(ONE, port);
    assert!(greeting.starts_with("220 "), "{greeting}");
    assert!(honest.mail("+4790000002", "\r\nfrom the same address").starts_with("250 "));
    for text in ["from another address", "from the same address"] {
        until(text, || place.is_sent(text).then_some(()));
    }
    let urgent = place.urgent();
    account("silent mail clients", connections, begun, &daemon, urgent, 64);
    let refused = place.metric("smsd_intake_refused_total{intake=\"smtp\",reason=\"room\"}");
    assert!(refused >= (connections - 17) as f64, "{refused}");
    assert_eq!(daemon.said("turned away: more comes at once than there is room for"), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_lone_line_feed_ends_the_mail_and_its_connection() {
    let (place, port, daemon) = listening(&Faults::new());
    let second = "MAIL FROM:<a@x>\r\nRCPT TO:<+4790000009@x>\r\nDATA\r\n\r\nsecond\r\n.\r\n";
    for end in ["\n.\r\n", "\r\n.\n", "\n.\n", "\r\r\n.\r\r\n", "\nlone"] {
        let (mut client, _) = Client::from(ONE, port);
        let reply = client.mail("+4790000001", &format!("\r\nfirst{end}{second}"));
        assert!(reply.starts_with("521 "), "{end:?}: {reply}");
        assert_eq!(client.reply(), "", "{end:?}: it ends");
    }
    let (mut honest, _) = Client::from(ONE, port);
    assert!(honest.mail("+4790000002", "\r\nwell").starts_with("250 "));
    until("the honest one is sent", || place.is_sent("well").then_some(()));
    assert_eq!(place.gateway.accepted_count(), 1, "{:?}", place.gateway.accepted());
    daemon.stop();
}
