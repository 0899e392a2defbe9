//! One mail over SMTP (RFC 5321), with an exact answer to "how far did it come?".
//!
//! A mail is taken when the server says so after the final dot, and in doubt from the moment when that dot may have gone
//! out until then; before it, it certainly was not taken. General clients do not say which it was, and gather an answer
//! without an end as long as there is memory. So the session is ours: one command at a time, every answer bounded, every
//! failure with the [`Phase`] in which it came. TLS is rustls'.
//!
//! Deliberately absent: pipelining and kept connections (a mail each; a relay is near), HELO, SMTPUTF8, CRAM-MD5, and any
//! way in which a session that was to be encrypted goes on without (RFC 3207 §4.1): no STARTTLS, no mail.

pub mod meaning;

use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::http_client::CONNECT_TIMEOUT;
use super::reach::Addresses;

/// Bytes of one answer that are read; its lines may have 512 (RFC 5321 §4.5.3.1.5), and few have more than one.
const ANSWER_MAX: usize = 16 * 1024;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    None,
    /// By STARTTLS (RFC 3207), without which nothing is sent.
    StartTls,
    /// From the first byte on (RFC 8314 §3.3).
    Smtps,
}

/// A server, and how to talk to it.
pub struct Server {
    /// Its name or address; a certificate must have it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// What a certificate must come from.
    pub roots: Arc<RootCertStore>,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Where it was found.
    pub addresses: Addresses,
}

/// Where in a session something happened: what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connection, or its TLS.
    Connect,
    /// The greeting.
    Greeting,
    /// The answer to EHLO.
    Hello,
    /// The answer to STARTTLS.
    StartTls,
    /// The answer to AUTH.
    Login,
    /// The answer to MAIL.
    Sender,
    /// The answer to RCPT.
    Recipient,
    /// The answer to DATA, or the writing of the mail up to its dot.
    Data,
    /// The answer to the final dot, which went out or may have.
    Dot,
}

impl Phase {
    /// What was waited for, in words.
    pub fn words(self) -> &'static str {
        match self {
            Phase::Connect => "connecting",
            Phase::Greeting => "greeting",
            Phase::Hello => "EHLO",
            Phase::StartTls => "STARTTLS",
            Phase::Login => "AUTH",
            Phase::Sender => "MAIL",
            Phase::Recipient => "RCPT",
            Phase::Data => "DATA",
            Phase::Dot => "the mail",
        }
    }
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The enhanced status code (RFC 3463) at its beginning: `5.7.1`.
    pub enhanced: Option<(u8, u16, u16)>,
    /// Its lines without their codes, with spaces between. Foreign.
    pub text: String,
}

impl Reply {
    /// True for 200 to 299.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The enhanced code if there is one, else the code.
    pub fn shown_code(&self) -> String {
        match self.enhanced {
            Some((class, subject, detail)) => format!("{class}.{subject}.{detail}"),
            None => self.code.to_string(),
        }
    }
}

/// Why a session did not come to its end. The words may be foreign: quote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server said no.
    #[error("{}: {} {}", .0.words(), .1.code, .1.text)]
    Refused(Phase, Reply),
    /// It does not offer what the configuration demands; said in words.
    #[error("{0}")]
    Lacking(&'static str),
    /// No answer, or none that is one.
    #[error("{}: {}", .0.words(), .1)]
    Broken(Phase, String),
}

/// What is sent.
pub struct Envelope<'a> {
    /// The sender's address.
    pub from: &'a str,
    /// The recipient's address.
    pub to: &'a str,
}

/// A session that is ready for a mail: greeted, encrypted and logged in, as the server's settings demand.
pub struct Session {
    stream: BufReader<Box<dyn Stream>>,
    deadline: Instant,
    extensions: Vec<String>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Session {
    /// Connects, and does what comes before a mail. The deadline is that of the whole session.
    ///
    /// # Errors
    /// [`Failure`]: nothing of a mail has gone out.
    pub async fn open(server: &Server, deadline: Instant) -> Result<Session, Failure> {
        let broken = |why: String| Failure::Broken(Phase::Connect, why);
        let slow = |_| broken("it took too long".into());
        let connected = server.addresses.connect(&server.host, server.port, CONNECT_TIMEOUT);
        let tcp = timeout_at(deadline, connected).await.map_err(slow)?.map_err(broken)?;
        let within = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let own_name = own_name(&tcp);
        let stream: Box<dyn Stream> = match server.tls {
            Tls::Smtps => timeout_at(within, encrypted(server, tcp)).await.map_err(slow)??,
            Tls::None | Tls::StartTls => Box::new(tcp),
        };
        let mut session = Session::over(stream, &own_name, deadline).await?;
        if server.tls == Tls::StartTls {
            session = session.start_tls(server).await?;
            session.hello(&own_name).await?;
        }
        if let Some((user, password)) = &server.login {
            session.log_in(user, password).await?;
        }
        Ok(session)
    }

    /// Greets and is greeted over a connection that is there; `own_name` is what EHLO says.
    ///
    /// # Errors
    /// [`Failure`]: nothing of a mail has gone out.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        own_name: &str,
        deadline: Instant,
    ) -> Result<Session, Failure> {
        let stream = BufReader::new(Box::new(stream) as Box<dyn Stream>);
        let mut session = Session { stream, deadline, extensions: Vec::new() };
        session.expect(Phase::Greeting, Reply::is_positive).await?;
        session.hello(own_name).await?;
        Ok(session)
    }

    /// True if the server offers an extension, such as `8BITMIME`.
    pub fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|line| line.split(' ').next() == Some(extension))
    }

    /// Hands over a mail: lines that end in CRLF, without the doubled dots of the protocol. Returns what the server
    /// said after the final dot.
    ///
    /// # Errors
    /// [`Failure`]; the mail may have been taken only if it is [`Failure::Broken`] in [`Phase::Dot`].
    pub async fn send(mut self, envelope: Envelope<'_>, mail: &[u8]) -> Result<Reply, Failure> {
        let eight = if mail.is_ascii() { "" } else { " BODY=8BITMIME" };
        self.say(Phase::Sender, &format!("MAIL FROM:<{}>{eight}", envelope.from)).await?;
        self.expect(Phase::Sender, Reply::is_positive).await?;
        self.say(Phase::Recipient, &format!("RCPT TO:<{}>", envelope.to)).await?;
        self.expect(Phase::Recipient, Reply::is_positive).await?;
        self.say(Phase::Data, "DATA").await?;
        self.expect(Phase::Data, |reply| reply.code == 354).await?;
        self.write(Phase::Data, &stuffed(mail)).await?;
        self.write(Phase::Dot, b".\r\n").await?;
        let reply = self.expect(Phase::Dot, Reply::is_positive).await?;
        self.quit().await;
        Ok(reply)
    }

    /// Says goodbye; what the server says to that changes nothing, and is not waited for.
    pub async fn quit(mut self) {
        // The mail is in the server's hands; so is how the connection ends.
        let _ = self.say(Phase::Dot, "QUIT").await;
    }

    async fn hello(&mut self, own_name: &str) -> Result<(), Failure> {
        self.say(Phase::Hello, &format!("EHLO {own_name}")).await?;
        let lines = self.lines(Phase::Hello).await?;
        let reply = reply_of(&lines);
        if !reply.is_positive() {
            return Err(Failure::Refused(Phase::Hello, reply));
        }
        self.extensions = lines.into_iter().skip(1).map(|(_, line)| line.to_ascii_uppercase()).collect();
        Ok(())
    }

    async fn start_tls(mut self, server: &Server) -> Result<Session, Failure> {
        if !self.offers("STARTTLS") {
            return Err(Failure::Lacking("the server does not offer STARTTLS, which tls: demands"));
        }
        self.say(Phase::StartTls, "STARTTLS").await?;
        self.expect(Phase::StartTls, Reply::is_positive).await?;
        // What came before the encryption is not the server's word (RFC 3207 §6).
        if !self.stream.buffer().is_empty() {
            return Err(Failure::Broken(Phase::StartTls, "something was said before the encryption".into()));
        }
        let within = self.deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let encrypted = timeout_at(within, encrypted(server, self.stream.into_inner())).await;
        let slow = |_| Failure::Broken(Phase::Connect, "TLS took too long".into());
        let stream = BufReader::new(encrypted.map_err(slow)??);
        Ok(Session { stream, deadline: self.deadline, extensions: Vec::new() })
    }

    /// PLAIN (RFC 4616) if it is offered, else LOGIN.
    async fn log_in(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        let offered = |mechanism: &str| {
            let of = |line: &String| line.split([' ', '=']).any(|word| word == mechanism);
            self.extensions.iter().filter(|line| line.starts_with("AUTH")).any(of)
        };
        if offered("PLAIN") {
            let login = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
            self.say(Phase::Login, &format!("AUTH PLAIN {login}")).await?;
        } else if offered("LOGIN") {
            self.say(Phase::Login, "AUTH LOGIN").await?;
            self.expect(Phase::Login, |reply| reply.code == 334).await?;
            self.say(Phase::Login, &BASE64_STANDARD.encode(user)).await?;
            self.expect(Phase::Login, |reply| reply.code == 334).await?;
            self.say(Phase::Login, &BASE64_STANDARD.encode(password)).await?;
        } else {
            return Err(Failure::Lacking(
                "the server offers neither AUTH PLAIN nor AUTH LOGIN, and username is set",
            ));
        }
        self.expect(Phase::Login, Reply::is_positive).await.map(drop)
    }

    async fn say(&mut self, phase: Phase, command: &str) -> Result<(), Failure> {
        self.write(phase, format!("{command}\r\n").as_bytes()).await
    }

    async fn write(&mut self, phase: Phase, bytes: &[u8]) -> Result<(), Failure> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout_at(self.deadline, write).await {
            Ok(written) => written.map_err(|e| Failure::Broken(phase, e.to_string())),
            Err(_) => Err(Failure::Broken(phase, "writing took too long".into())),
        }
    }

    async fn expect(&mut self, phase: Phase, good: impl Fn(&Reply) -> bool) -> Result<Reply, Failure> {
        let reply = reply_of(&self.lines(phase).await?);
        if good(&reply) { Ok(reply) } else { Err(Failure::Refused(phase, reply)) }
    }

    /// The lines of one answer, each with its code.
    async fn lines(&mut self, phase: Phase) -> Result<Vec<(u16, String)>, Failure> {
        let broken = |why: &str| Failure::Broken(phase, why.to_owned());
        let mut lines: Vec<(u16, String)> = Vec::new();
        let mut room = ANSWER_MAX;
        loop {
            let line = match timeout_at(self.deadline, self.line(&mut room)).await {
                Ok(line) => line.map_err(|why| Failure::Broken(phase, why))?,
                Err(_) => return Err(broken("no answer in time")),
            };
            let code =
                line.get(..3).and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code));
            let (Some(code), more @ (None | Some(b'-' | b' '))) = (code, line.as_bytes().get(3)) else {
                return Err(Failure::Broken(phase, format!("no answer of SMTP: {line}")));
            };
            if lines.first().is_some_and(|(first, _)| *first != code) {
                return Err(broken("an answer with two codes"));
            }
            lines.push((code, line.get(4..).unwrap_or_default().trim().to_owned()));
            if more != Some(&b'-') {
                return Ok(lines);
            }
        }
    }

    async fn line(&mut self, room: &mut usize) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            let buffer = self.stream.fill_buf().await.map_err(|e| e.to_string())?;
            if buffer.is_empty() {
                return Err("the connection was closed".into());
            }
            let end = buffer.iter().position(|b| *b == b'\n');
            let taken = end.map_or(buffer.len(), |at| at + 1);
            *room = room
                .checked_sub(taken)
                .ok_or_else(|| format!("an answer of more than {ANSWER_MAX} bytes"))?;
            line.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            self.stream.consume(taken);
            if end.is_some() {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

async fn encrypted(server: &Server, stream: impl Stream + 'static) -> Result<Box<dyn Stream>, Failure> {
    let broken = |why: String| Failure::Broken(Phase::Connect, format!("TLS: {why}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| broken(e.to_string()))?;
    let config = config.with_root_certificates(server.roots.clone()).with_no_client_auth();
    let name = ServerName::try_from(server.host.clone()).map_err(|e| broken(e.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|e| broken(e.to_string()))?))
}

/// This machine as EHLO names it: by its name, or by its address in brackets (RFC 5321 §4.1.3).
fn own_name(tcp: &TcpStream) -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !name.is_empty() && name.chars().all(sound) {
        return name;
    }
    match tcp.local_addr().map(|addr| addr.ip()) {
        Ok(std::net::IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        Ok(std::net::IpAddr::V4(ip)) => format!("[{ip}]"),
        Err(_) => "localhost".into(),
    }
}

fn reply_of(lines: &[(u16, String)]) -> Reply {
    let code = lines.first().map_or(0, |(code, _)| *code);
    let enhanced = lines.first().and_then(|(_, line)| enhanced(line.split(' ').next()?));
    let text: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    Reply { code, enhanced, text: text.join(" ") }
}

/// `5.7.1`.
fn enhanced(word: &str) -> Option<(u8, u16, u16)> {
    let mut parts = word.split('.');
    let mut part = || parts.next().filter(|p| p.len() <= 3 && p.bytes().all(|b| b.is_ascii_digit()));
    let (class, subject, detail) = (part()?.parse().ok()?, part()?.parse().ok()?, part()?.parse().ok()?);
    (parts.next().is_none() && matches!(class, 2 | 4 | 5)).then_some((class, subject, detail))
}

/// A mail as it goes over the wire: a dot at the beginning of a line is doubled (RFC 5321 §4.5.2), and the last line
/// has an end.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(mail.len() + 64);
    for line in mail.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_at_the_beginning_of_lines_only() {
        for (mail, wire) in [
            (".\r\n", "..\r\n"),
            ("a\r\n.\r\n..b\r\n.c.\r\n", "a\r\n..\r\n...b\r\n..c.\r\n"),
            ("a.\r\n", "a.\r\n"),
            ("a", "a\r\n"),
            ("", "\r\n"),
        ] {
            assert_eq!(String::from_utf8(stuffed(mail.as_bytes())).unwrap(), wire, "{mail:?}");
        }
    }

    #[test]
    fn enhanced_codes_are_read() {
        for (word, want) in [
            ("5.7.1", Some((5, 7, 1))),
            ("4.2.0", Some((4, 2, 0))),
            ("2.0.999", Some((2, 0, 999))),
            ("5.7", None),
            ("5.7.1.2", None),
            ("3.1.1", None),
            ("5.1000.1", None),
            ("5..1", None),
            ("5.7.1:", None),
            ("", None),
        ] {
            assert_eq!(enhanced(word), want, "{word}");
        }
    }
}
