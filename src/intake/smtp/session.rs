//! What is answered to a command: the state of one connection, without any I/O.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::command::{self, Address, Command};
use super::wire::Ended;
use crate::alert::Phone;
use crate::config::SmtpConfig;
use crate::intake::{RecipientError, recipients};

/// Recipients of one mail (RFC 5321 §4.5.3.1.8 asks for 100).
pub const RECIPIENTS_MAX: usize = 100;
/// Commands that were refused, after which a connection is closed.
const FAULTS_MAX: u32 = 20;
/// Commands without a mail, after which a connection is closed.
const IDLE_MAX: u32 = 1_000;

/// One connection.
#[derive(Debug, Default)]
pub struct Session {
    greeted: bool,
    envelope: Option<Envelope>,
    faults: u32,
    idle: u32,
}

/// Whom a mail is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The numbers that the addresses name.
    pub to: Vec<Phone>,
    /// An address names nobody: the subject does.
    pub by_subject: bool,
    addresses: usize,
}

/// What holds for all connections.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// `[smtp]`.
    pub config: &'a SmtpConfig,
    /// `[groups]`.
    pub groups: &'a BTreeMap<String, Vec<Phone>>,
}

/// What to say, and what to do then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The reply, without the CRLF of its last line.
    pub reply: Cow<'static, str>,
    /// What comes next.
    pub next: Next,
}

/// See [`Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another command.
    Command,
    /// The mail.
    Data,
    /// Nothing.
    Close,
}

fn say(reply: impl Into<Cow<'static, str>>) -> Answer {
    Answer { reply: reply.into(), next: Next::Command }
}

impl Session {
    /// Answers a line. `admit` says whether the client may send another mail now, or in how many seconds.
    pub fn line(
        &mut self,
        line: &Ended,
        rules: Rules<'_>,
        admit: impl FnOnce() -> Result<(), u64>,
    ) -> Answer {
        let line = match line {
            Ended::Well(line) => line,
            Ended::TooLong => return self.fault("500 5.5.2 line too long"),
            Ended::Bare => {
                let reply = "521 5.5.2 a line ends in CR LF, and neither stands alone".into();
                return Answer { reply, next: Next::Close };
            }
        };
        self.idle += 1;
        if self.idle > IDLE_MAX {
            return Answer { reply: "421 4.7.0 too many commands".into(), next: Next::Close };
        }
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(fault) => return self.fault(fault.to_string()),
        };
        match command {
            Command::Helo => {
                *self = Session { greeted: true, faults: self.faults, idle: self.idle, envelope: None };
                say("250 smsd")
            }
            Command::Ehlo => {
                *self = Session { greeted: true, faults: self.faults, idle: self.idle, envelope: None };
                let size = rules.config.max_size;
                say(format!(
                    "250-smsd\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE {size}"
                ))
            }
            Command::Mail { .. } if !self.greeted => self.fault("503 5.5.1 say EHLO first"),
            Command::Mail { .. } if self.envelope.is_some() => self.fault("503 5.5.1 one mail at a time"),
            Command::Mail { size } if size.is_some_and(|s| s > rules.config.max_size as u64) => {
                self.fault(too_big(rules.config))
            }
            Command::Mail { .. } => match admit() {
                Ok(()) => {
                    self.envelope = Some(Envelope::default());
                    say("250 2.1.0 ok")
                }
                Err(seconds) => say(format!("450 4.7.1 too many mails; come again in {seconds} s")),
            },
            Command::Rcpt(address) => self.recipient(&address, rules),
            Command::Data => match &self.envelope {
                Some(envelope) if envelope.addresses > 0 => {
                    Answer { reply: "354 end with CR LF . CR LF".into(), next: Next::Data }
                }
                Some(_) => self.fault("554 5.5.1 no valid recipients"),
                None => self.fault("503 5.5.1 say MAIL first"),
            },
            Command::Rset => {
                self.envelope = None;
                say("250 2.0.0 ok")
            }
            Command::Noop => say("250 2.0.0 ok"),
            Command::Vrfy => say("252 2.1.5 try and see"),
            Command::Quit => Answer { reply: "221 2.0.0 bye".into(), next: Next::Close },
            Command::NotOffered => self.fault("502 5.5.1 not offered"),
        }
    }

    /// Whom the mail that follows is for; the next one begins anew.
    pub fn envelope(&mut self) -> Envelope {
        self.idle = 0;
        self.envelope.take().unwrap_or_default()
    }

    fn recipient(&mut self, address: &Address, rules: Rules<'_>) -> Answer {
        let Some(envelope) = &mut self.envelope else { return self.fault("503 5.5.1 say MAIL first") };
        if envelope.addresses >= RECIPIENTS_MAX {
            return say(format!("452 4.5.3 at most {RECIPIENTS_MAX} recipients a mail"));
        }
        let domains = &rules.config.domains;
        if !domains.is_empty() && !domains.contains(&address.domain) {
            return self.fault("550 5.7.1 this is no domain of ours, and nothing is relayed");
        }
        match whom(&address.local, rules.groups) {
            Ok(phones) => {
                envelope.by_subject |= phones.is_empty();
                envelope.to.extend(phones);
                envelope.addresses += 1;
                say("250 2.1.5 ok")
            }
            Err(why) => self.fault(format!("550 5.1.1 {}", ascii(&why.to_string()))),
        }
    }

    fn fault(&mut self, reply: impl Into<Cow<'static, str>>) -> Answer {
        self.faults += 1;
        match self.faults > FAULTS_MAX {
            true => Answer { reply: "421 4.7.0 too many errors".into(), next: Next::Close },
            false => say(reply),
        }
    }
}

/// The numbers that a name before the `@` stands for; none, if the subject is to name them.
fn whom(local: &str, groups: &BTreeMap<String, Vec<Phone>>) -> Result<Vec<Phone>, RecipientError> {
    if local.starts_with(|c: char| c == '+' || c.is_ascii_digit()) || local.starts_with("group:") {
        return recipients([local], groups);
    }
    let group = groups.iter().find(|(name, _)| name.eq_ignore_ascii_case(local));
    Ok(group.map(|(_, phones)| phones.clone()).unwrap_or_default())
}

/// The refusal of a mail that is too big.
pub fn too_big(config: &SmtpConfig) -> String {
    format!("552 5.3.4 a mail may have {} bytes", config.max_size)
}

/// Words as a reply may hold them: one line of printable ASCII.
pub fn ascii(words: &str) -> String {
    let odd = |c: char| !matches!(c, ' '..='~');
    let words: String = words.chars().map(|c| if odd(c) { '?' } else { c }).take(400).collect();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client {
        session: Session,
        config: SmtpConfig,
        groups: BTreeMap<String, Vec<Phone>>,
    }

    impl Client {
        fn new() -> Client {
            let phone = |p| Phone::parse(p).unwrap();
            Client {
                session: Session::default(),
                config: SmtpConfig::new("127.0.0.1:0".parse().unwrap()),
                groups: BTreeMap::from([(
                    "NOC".to_owned(),
                    vec![phone("+4790000001"), phone("+4790000002")],
                )]),
            }
        }

        fn say(&mut self, line: &str) -> Answer {
            let rules = Rules { config: &self.config, groups: &self.groups };
            self.session.line(&Ended::Well(line.as_bytes().to_vec()), rules, || Ok(()))
        }

        #[track_caller]
        fn talk(&mut self, lines: &[(&str, &str)]) {
            for (line, want) in lines {
                let answer = self.say(line);
                assert!(answer.reply.starts_with(want), "{line}: {answer:?}");
            }
        }
    }

    #[test]
    fn a_mail_from_ehlo_to_data() {
        let mut client = Client::new();
        client.talk(&[
            ("MAIL FROM:<a@b>", "503 5.5.1"),
            ("EHLO me", "250-smsd\r\n250-PIPELINING"),
            ("RCPT TO:<112@x>", "503"),
            ("DATA", "503"),
            ("MAIL FROM:<a@b> SIZE=65537", "552 5.3.4"),
            ("MAIL FROM:<a@b> SIZE=65536", "250"),
            ("MAIL FROM:<a@b>", "503"),
            ("DATA", "554 5.5.1"),
            ("RCPT TO:<4790x@x>", "550 5.1.1 \"4790x\": 'x' is not a digit"),
            ("RCPT TO:<+4790000009@x>", "250"),
            ("RCPT TO:<noc@x>", "250"),
            ("RCPT TO:<sms@x>", "250"),
            ("VRFY x", "252"),
        ]);
        assert_eq!(client.say("DATA").next, Next::Data);
        let envelope = client.session.envelope();
        let to: Vec<&str> = envelope.to.iter().map(Phone::as_str).collect();
        assert_eq!(to, ["+4790000009", "+4790000001", "+4790000002"]);
        assert!(envelope.by_subject);
        client.talk(&[("DATA", "503"), ("RSET", "250"), ("QUIT", "221")]);
    }

    #[test]
    fn recipients_without_end_are_told_to_come_again() {
        let mut client = Client::new();
        client.talk(&[("HELO me", "250 smsd"), ("MAIL FROM:<>", "250")]);
        for n in 0..RECIPIENTS_MAX {
            client.talk(&[(&format!("RCPT TO:<+4790{n:06}@x>"), "250")]);
        }
        let answers: Vec<Answer> = (0..IDLE_MAX).map(|_| client.say("RCPT TO:<112@x>")).collect();
        assert!(answers[0].reply.starts_with("452 4.5.3"));
        assert_eq!(answers.last().unwrap().next, Next::Close);
    }

    #[test]
    fn garbage_ends_the_connection() {
        let mut client = Client::new();
        let answers: Vec<Answer> = (0..=FAULTS_MAX).map(|_| client.say("GET / HTTP/1.1")).collect();
        assert!(answers[0].reply.starts_with("500 5.5.2"));
        assert_eq!(
            (&*answers.last().unwrap().reply, answers.last().unwrap().next),
            ("421 4.7.0 too many errors", Next::Close)
        );
        let rules = Rules { config: &client.config, groups: &client.groups };
        assert_eq!(Session::default().line(&Ended::Bare, rules, || Ok(())).next, Next::Close);
    }

    #[test]
    fn domains_and_rates_are_kept() {
        let mut client = Client::new();
        client.config.domains = vec!["sms.example.org".into()];
        client.talk(&[
            ("EHLO me", "250"),
            ("MAIL FROM:<a@b>", "250"),
            ("RCPT TO:<112@example.com>", "550 5.7.1"),
            ("RCPT TO:<112>", "550 5.7.1"),
            ("RCPT TO:<112@SMS.example.org>", "250"),
            ("RSET", "250"),
        ]);
        let rules = Rules { config: &client.config, groups: &client.groups };
        let line = Ended::Well(b"MAIL FROM:<a@b>".to_vec());
        let answer = client.session.line(&line, rules, || Err(7));
        assert_eq!(
            (&*answer.reply, answer.next),
            ("450 4.7.1 too many mails; come again in 7 s", Next::Command)
        );
    }

    #[test]
    fn nothing_foreign_makes_a_reply_of_two_lines() {
        assert_eq!(ascii("a\r\n250 ok\u{202e}å"), "a??250 ok??");
    }
}
