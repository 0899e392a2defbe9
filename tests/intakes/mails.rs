//! Mails from the programs that send them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use crate::bench::{Site, until};
use crate::site::{Place, pairs};

/// One connection, spoken to by hand.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub fn open(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut wire = Wire { stream: BufReader::new(stream) };
        assert!(wire.reply().starts_with("220 "));
        wire
    }

    pub fn greeted(port: u16) -> Wire {
        let mut wire = Wire::open(port);
        assert!(wire.ask("EHLO me").starts_with("250"));
        wire
    }

    pub fn put(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(octets.as_ref()).unwrap();
    }

    /// The last line of a reply; nothing, if the connection has ended.
    pub fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return String::new();
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.put(format!("{line}\r\n"));
        self.reply()
    }

    /// A mail to one; the last reply.
    pub fn mail(&mut self, to: &str, mail: impl AsRef<[u8]>) -> String {
        assert!(self.ask("MAIL FROM:<me@example.org>").starts_with("250"));
        assert_eq!(self.ask(&format!("RCPT TO:<{to}>")), "250 2.1.5 ok");
        assert!(self.ask("DATA").starts_with("354"));
        self.put(mail);
        self.put("\r\n.\r\n");
        self.reply()
    }
}

fn python(port: u16, script: &str) -> Output {
    let script = format!("import smtplib\nfrom email.message import EmailMessage\nPORT = {port}\n{script}");
    Command::new("python3").args(["-c", &script]).output().unwrap()
}

#[test]
fn python_sends_in_all_the_forms() {
    let place = Place::new("domains: gw.example\n");
    let daemon = place.start();
    let script = r#"
from email.mime.text import MIMEText
from email.policy import SMTP
def mail(to, subject, text, **more):
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = "me@example.org", to, subject
    m.set_content(text, **more)
    return m
with smtplib.SMTP("127.0.0.1", PORT) as s:
    s.send_message(mail("+4790000001@gw.example", "Down", "router\n.dotted\nand more"))
    s.send_message(mail("sms@gw.example", "sms +4790000002", "på linja"))
    s.send_message(mail("noc@gw.example", "", "all of you", charset="iso-8859-1", cte="quoted-printable"))
    rich = mail("4790000003@gw.example", "Rich", "plain", cte="base64")
    rich.add_alternative("<p>rich</p>", subtype="html")
    rich.add_attachment(b"\0" * 1000, maintype="image", subtype="png")
    s.send_message(rich)
    # As Django's send_mail does for Argus: a MIMEText with 8bit, the text the description.
    argus = MIMEText("Link down\nhttps://argus.example/1", "plain", "utf-8")
    argus["Subject"], argus["From"], argus["To"] = "sms +4790000004", "argus@example.org", "sms@gw.example"
    argus["Message-ID"] = "<1@argus>"
    s.sendmail("argus@example.org", ["sms@gw.example"], argus.as_bytes(policy=SMTP))
    refused = s.sendmail("me@x", ["+4790000005@gw.example", "12ab@gw.example", "112@elsewhere.example"], "Subject: x\r\n\r\ntwo bad")
    print(sorted((to, code) for to, (code, words) in refused.items()))
    for to, subject, want in [("sms@gw.example", "hello", 550), ("sms@gw.example", "sms 12ab", 550)]:
        try: s.send_message(mail(to, subject, "x")); print("taken")
        except smtplib.SMTPDataError as e: print(e.smtp_code == want)
"#;
    let out = python(place.port, script);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(said, "[('112@elsewhere.example', 550), ('12ab@gw.example', 550)]\nTrue\nTrue\n");
    let want = [
        ("+4790000001", "router\n.dotted\nand more"),
        ("+4790000002", "på linja"),
        ("+4790000004", "Link down\nhttps://argus.example/1"),
        ("+4790000005", "two bad"),
        ("+4790000011", "all of you"),
        ("+4790000012", "all of you"),
        ("4790000003", "plain"),
    ];
    assert_eq!(place.sent_all(want.len()), pairs(&want));
    place.site.audit();
    daemon.stop();
}

/// NAV's UninettMailDispatcher, as we have it ourselves, sends through another smsd.
#[test]
fn one_smsd_sends_through_another() {
    let place = Place::new("");
    let daemon = place.start();
    let way_out = format!(
        "[dispatcher]\ndispatcher1: UninettMailDispatcher\n[UninettMailDispatcher]\nmailaddr: sms@gw.example\n\
         server: 127.0.0.1:{}\n",
        place.port
    );
    let other = Site::embedded("delay: 0.2", &way_out);
    let sending = other.start().up();
    let said = other.run(&["send", "--to", "+4790000001", "på linja:  «ned»"]);
    assert_eq!(said.code, 0, "{said:?}");
    let id = said.out.trim().to_owned();
    assert_eq!(place.sent_all(1), pairs(&[("+4790000001", "på linja:  «ned»")]));
    let row = until("it is settled", || {
        let story = other.json(&["queue", "show", &id]);
        (story["attempts"][0]["state"] == "accepted").then_some(story)
    });
    assert_eq!(row["attempts"][0]["references"][0], "1", "the alert's id there: {row}");
    sending.stop();
    daemon.stop();
}

/// Its subject names nobody, its address somebody: who sends it learns both.
#[test]
fn a_mail_that_only_some_can_have_is_no_success() {
    let place = Place::new("");
    let daemon = place.start();
    let mut wire = Wire::greeted(place.port);
    assert!(wire.ask("MAIL FROM:<me@x>").starts_with("250"));
    assert!(wire.ask("RCPT TO:<+4790000001@x>").starts_with("250"));
    let reply = {
        wire.ask("RCPT TO:<sms@x>");
        wire.ask("DATA");
        wire.put("Subject: sms 12ab\r\n\r\nx\r\n.\r\n");
        wire.reply()
    };
    assert!(reply.starts_with("554 5.1.3 ") && reply.ends_with("queued as 1"), "{reply}");
    assert_eq!(place.sent_all(1), pairs(&[("+4790000001", "x")]));
    daemon.stop();
}

#[test]
fn a_mail_that_comes_again_is_queued_once_also_after_a_crash() {
    let place = Place::new("");
    let daemon = place.start();
    let mail = "Message-ID: <1@x>\r\n\r\ndown";
    let mut wire = Wire::greeted(place.port);
    assert_eq!(wire.mail("+4790000001@x", mail), "250 2.6.0 queued as 1");
    assert_eq!(wire.mail("+4790000001@x", mail), "250 2.6.0 queued as 1");
    assert_eq!(wire.mail("+4790000002@x", mail), "250 2.6.0 queued as 2", "for another, it is another");
    assert_eq!(wire.mail("+4790000003@x", "\r\nby hand"), "250 2.6.0 queued as 3");
    assert_eq!(
        wire.mail("+4790000003@x", "\r\nby hand"),
        "250 2.6.0 queued as 4",
        "nothing says it is the same"
    );
    // Its answer is lost: the daemon is killed as soon as the mail is whole.
    assert!(wire.ask("MAIL FROM:<me@x>").starts_with("250"));
    assert!(wire.ask("RCPT TO:<+4790000004@x>").starts_with("250"));
    assert!(wire.ask("DATA").starts_with("354"));
    wire.put("Message-ID: <4@x>\r\n\r\nlost\r\n.\r\n");
    until("it is queued", || place.sent().iter().any(|(to, _)| to == "+4790000004").then_some(()));
    daemon.kill();
    let daemon = place.start();
    let mut wire = Wire::greeted(place.port);
    assert_eq!(wire.mail("+4790000004@x", "Message-ID: <4@x>\r\n\r\nlost"), "250 2.6.0 queued as 5");
    let sent = until("all are sent", || Some(place.sent()).filter(|sent| sent.len() >= 4));
    assert_eq!(sent.iter().filter(|(to, _)| to == "+4790000004").count(), 1, "{sent:?}");
    place.site.audit();
    daemon.stop();
}

#[test]
fn a_queue_that_is_locked_asks_mails_to_come_again() {
    let place = Place::new("");
    let daemon = place.start();
    let queue = place.site.path("queue.db");
    // Somebody holds the database, as a backup that hangs does.
    let mut holder = Command::new("python3")
        .args(["-c", "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],timeout=20,isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held',flush=True)\nsys.stdin.read()"])
        .arg(&queue)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut held).unwrap();
    assert_eq!(held, "held\n");
    // Who is told no is told the truth, and what nothing tells from another is one all the same.
    let mail = "Message-ID: <1@x>\r\n\r\nx";
    place.put("waits", "To: 4790000002\n\nfile");
    let (mut wire, mut nameless) = (Wire::greeted(place.port), Wire::greeted(place.port));
    wire.put(format!("MAIL FROM:<a@x>\r\nRCPT TO:<112@x>\r\nDATA\r\n{mail}\r\n.\r\n"));
    assert_eq!(nameless.mail("113@x", "\r\ny"), "451 4.3.0 the queue can not be written; come again");
    let replies: Vec<String> = (0..4).map(|_| wire.reply()).collect();
    assert_eq!(replies[3], "451 4.3.0 the queue can not be written; come again", "{replies:?}");
    assert_eq!(place.names("outgoing"), ["waits"]);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let reply = until("it is taken", || Some(wire.mail("112@x", mail)).filter(|r| r.starts_with("250")));
    assert!(reply.starts_with("250 2.6.0 queued as "), "{reply}");
    assert!(nameless.mail("113@x", "\r\ny").starts_with("250"));
    assert_eq!(place.sent_all(3), pairs(&[("+4790000002", "file"), ("112", "x"), ("113", "y")]));
    assert!(place.file("sent/waits").contains("Alerts: "));
    daemon.stop();
}

#[test]
fn rates_sizes_and_connections_are_bounded() {
    let place = Place::new("rate: 5/m\nmax_size: 2000\nmax_connections: 3\n");
    let daemon = place.start();
    let mut wire = Wire::greeted(place.port);
    let big = wire.mail("112@x", vec![b'x'; 3000]);
    assert_eq!(big, "552 5.3.4 a mail may have 2000 bytes");
    for _ in 0..4 {
        assert!(wire.mail("112@x", "\r\nx").starts_with("250"));
    }
    assert!(wire.ask("MAIL FROM:<me@x>").starts_with("450 4.7.1 too many mails"));
    let mut others: Vec<Wire> = (0..2).map(|_| Wire::greeted(place.port)).collect();
    let mut one_more = BufReader::new(TcpStream::connect(("127.0.0.1", place.port)).unwrap());
    let mut line = String::new();
    one_more.read_line(&mut line).unwrap();
    assert!(line.starts_with("421 4.3.2 too many connections"), "{line}");
    assert!(others[0].ask("QUIT").starts_with("221"));
    until("there is room again", || {
        let mut line = String::new();
        let stream = TcpStream::connect(("127.0.0.1", place.port)).unwrap();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.starts_with("220").then_some(())
    });
    // A stop does not wait for who says nothing.
    daemon.stop();
    assert!(others[1].reply().starts_with("421 4.3.2 smsd is stopping"));
}

/// A mail way out that leads to our own mail intake would send each SMS to itself, for ever, and call it sent.
#[test]
fn no_sms_goes_round_in_a_circle() {
    let place = Place::new("");
    let port = place.port;
    place.site.configure(
        "delay: 0.2\ngroup_interval: 0",
        &format!(
            "[dispatcher]\ndispatcher1: UninettMailDispatcher\n[UninettMailDispatcher]\nserver: 127.0.0.1:{port}\n\
             mailaddr: sms@gw.example\ntls: none\n[spool]\nfolder: spool\npoll_interval: 100ms\n[smtp]\nlisten: 127.0.0.1:{port}\n"
        ),
    );
    let daemon = place.start();
    place.put("alert", "To: +4790000001\n\ncore down");
    let refused = |log: &str| log.matches("554 5.4.6 this mail is smsd's own").count();
    until("our own mail is refused twice", || (refused(&daemon.log()) >= 2).then_some(()));
    let log = daemon.log();
    assert!(!log.contains("SMS accepted") && !log.contains("is queued: alert 2"), "{log}");
    daemon.stop();
}
