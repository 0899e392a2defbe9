//! `[http]`: where the HTTP interface listens, and who may do what.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::section::Section;
use super::value::{self, Parsed, wrong};
use crate::alert::Phone;
use crate::intake::recipients;
use crate::web::access::{Bounds, Hash, Scope, Scopes};
use crate::web::tls;

/// `[http]`.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// `listen`: where; empty = off.
    pub listen: Vec<Listen>,
    /// `token` and `token.NAME`: who may ask.
    pub tokens: Vec<Token>,
    /// `tls_cert` and `tls_key`: every address speaks TLS, and no socket does.
    pub tls: Option<TlsFiles>,
    /// `hosts`: names by which we are asked, beside those of loopback; in lower case.
    pub hosts: Vec<String>,
}

impl HttpConfig {
    /// What is missing before other machines may reach us.
    pub fn lacks(&self) -> Option<&'static str> {
        match (self.tokens.is_empty(), self.tls.is_none()) {
            (true, true) => Some("a token, tls_cert and tls_key"),
            (true, false) => Some("a token"),
            (false, true) => Some("tls_cert and tls_key"),
            (false, false) => None,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// Sockets that systemd has opened for us: those of this `FileDescriptorName=`, or all.
    Systemd(Option<String>),
}

/// Somebody who may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What its actions are recorded under.
    pub name: String,
    /// What it may.
    pub scopes: Scopes,
    /// What it may hand in.
    pub bounds: Arc<Bounds>,
    /// Its hash. The token itself is kept nowhere.
    pub hash: Hash,
}

/// Certificate and key, PEM. They are read whenever the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that lead to its root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The word for a socket of systemd's.
const SYSTEMD: &str = "systemd";
/// The longest path that the address of a Unix socket holds, in bytes (`sun_path` of Linux with its final NUL: 108).
pub const SOCKET_PATH_MAX: usize = 107;
/// The longest name of a token, so that it fits a record with what it is used for.
pub const NAME_MAX: usize = 40;
/// Below this, in bytes, a token is one that can be guessed.
const TOKEN_MIN: usize = 16;

impl Listen {
    /// True if only this machine can reach it. Of a socket of systemd's that is known when it is there, and judged then.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) | Listen::Systemd(_) => true,
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => path.display().fmt(f),
            Listen::Systemd(None) => f.write_str(SYSTEMD),
            Listen::Systemd(Some(name)) => write!(f, "{SYSTEMD}:{name}"),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if text.starts_with('/') {
            return if text.len() <= SOCKET_PATH_MAX {
                Ok(Listen::Unix(text.into()))
            } else {
                Err(format!("the path of a socket of at most {SOCKET_PATH_MAX} bytes"))
            };
        }
        if let Some(name) = text.strip_prefix(SYSTEMD) {
            match name.strip_prefix(':') {
                None if name.is_empty() => return Ok(Listen::Systemd(None)),
                Some(name) if !name.is_empty() => return Ok(Listen::Systemd(Some(name.to_owned()))),
                _ => {}
            }
        }
        text.parse().map(Listen::Tcp).map_err(|_| {
            "an address and port such as 127.0.0.1:8465 or [::1]:8465, the absolute path of a socket, or systemd or \
             systemd:NAME"
                .to_owned()
        })
    }
}

/// A name under which a token's actions are recorded.
///
/// # Errors
/// What was expected.
pub fn token_name(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
        return Err(format!("a name of at most {NAME_MAX} small letters, digits, and _ - ."));
    }
    Ok(name.to_owned())
}

pub(super) fn read(mut s: Section<'_, '_>, groups: &BTreeMap<String, Vec<Phone>>) -> HttpConfig {
    let mut http = HttpConfig::default();
    s.set("listen", &mut http.listen, value::list(listen));
    http.tokens = tokens(&mut s, &http.listen, groups);
    s.set("hosts", &mut http.hosts, value::list(|text| value::word(&text.to_lowercase())));
    http.tls = tls_files(&mut s);
    if let (Some(open), Some(entry)) = (http.listen.iter().find(|l| !l.is_local()), s.entry("listen"))
        && let Some(lacks) = http.lacks()
    {
        let message = format!("{open} can be reached from other machines, which needs {lacks}");
        let hint = "or listen on 127.0.0.1 only; smsd token new makes a token".to_owned();
        s.fault(entry, message, hint);
    }
    s.close();
    http
}

fn listen(text: &str) -> Parsed<Listen> {
    text.parse().or_else(wrong)
}

/// `token` may do everything; `token.NAME` what it says.
fn tokens(s: &mut Section<'_, '_>, listen: &[Listen], groups: &BTreeMap<String, Vec<Phone>>) -> Vec<Token> {
    let mut tokens = Vec::new();
    if let Some(token) = s.secret("token", value::word) {
        if token.reveal().len() < TOKEN_MIN
            && let Some(entry) = s.secret_entry("token")
        {
            let hint = "smsd token new makes one".to_owned();
            let message = format!("a token of less than {TOKEN_MIN} characters can be guessed");
            match listen.iter().find(|listen| !listen.is_local()) {
                Some(open) => {
                    s.fault_at(
                        entry,
                        format!("{message}, and {open} can be reached from other machines"),
                        hint,
                    );
                }
                None => s.warning_at(entry, message, hint),
            }
        }
        let hash = Hash::of(token.reveal());
        tokens.push(Token { name: "token".to_owned(), scopes: Scopes::ALL, bounds: Arc::default(), hash });
    }
    for (name, entry) in s.prefixed("token.", Some) {
        match (token_name(name), rights(&entry.value.text)) {
            (Ok(name), Ok(rights)) => {
                let Rights { scopes, bounds, hashes } = rights;
                if let Err(why) = recipients(bounds.to.iter().map(String::as_str), groups)
                    && !bounds.to.is_empty()
                {
                    s.fault_at(entry, format!("to={why}"), None);
                }
                if !bounds.are_none() && scopes.has(Scope::Operate) {
                    let message = "what is bounded may only send and read; operate may send tests to anybody";
                    s.fault_at(entry, message, None);
                }
                let bounds = Arc::new(bounds);
                tokens.extend(hashes.into_iter().map(|hash| Token {
                    name: name.clone(),
                    scopes,
                    bounds: Arc::clone(&bounds),
                    hash,
                }));
            }
            (Err(expected), _) => s.fault_at(entry, format!("expected {expected} after \"token.\""), None),
            // What is there may be the token itself.
            (_, Err(expected)) => {
                let message = format!("expected {expected} (what was found may be secret)");
                s.fault_at(entry, message, "smsd token new makes a token and this line".to_owned());
            }
        }
    }
    tokens
}

/// What a line says of a token, in the words of the line.
#[derive(Debug)]
pub struct Rights {
    /// What it may.
    pub scopes: Scopes,
    /// What it may hand in.
    pub bounds: Bounds,
    /// Of the token; while it is changed, of the old and the new one.
    pub hashes: Vec<Hash>,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let webhooks: Vec<String> = self.bounds.webhooks.iter().map(|name| format!("send:{name}")).collect();
        let send = if webhooks.is_empty() { "send".to_owned() } else { webhooks.join(", ") };
        let scopes =
            self.scopes.iter().map(|scope| if scope == Scope::Send { &*send } else { scope.as_str() });
        write!(f, "{}{}", scopes.collect::<Vec<_>>().join(", "), self.bounds)?;
        self.hashes.iter().try_for_each(|hash| write!(f, " sha256:{}", hash.to_hex()))
    }
}

const RIGHTS: &str = "scopes (send, read, operate) and sha256:HEX";
const BOUNDS: &str = "severity=3, to=group:NAME, rate=30/m or until=2027-06-30 beside the scopes";

/// The words say what was expected.
fn rights(text: &str) -> Result<Rights, String> {
    let mut rights = Rights { scopes: Scopes::NONE, bounds: Bounds::default(), hashes: Vec::new() };
    let mut scopes = Vec::new();
    for word in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
        if let Some(hash) = word.strip_prefix("sha256:") {
            rights.hashes.push(Hash::from_hex(hash).ok_or(RIGHTS)?);
        } else if let Some(webhook) = word.strip_prefix("send:") {
            rights.bounds.webhooks.insert(webhook.to_owned());
            scopes.push(Scope::Send);
        } else if let Some((key, value)) = word.split_once('=') {
            bound(&mut rights.bounds, key, value)?;
        } else {
            scopes.push(word.parse().map_err(|_| RIGHTS)?);
        }
    }
    rights.scopes = scopes.into_iter().collect();
    match rights.scopes == Scopes::NONE || rights.hashes.is_empty() {
        true => Err(RIGHTS.to_owned()),
        false => Ok(rights),
    }
}

/// One of a token's bounds.
///
/// # Errors
/// What was expected.
pub fn bound(bounds: &mut Bounds, key: &str, value: &str) -> Result<(), String> {
    match key {
        "severity" => {
            let severity = value.parse().ok().filter(|n| (1..=5).contains(n));
            bounds.severity = Some(severity.ok_or("severity=N with N from 1 to 5")?);
        }
        "to" => bounds.to.push(value.to_owned()),
        "rate" => bounds.rate = Some(value::rate(value).map_err(|wrong| format!("rate={}", wrong.expected))?),
        "until" => {
            bounds.until = Some(value.parse().map_err(|_| "until= and a day such as 2027-06-30".to_owned())?);
        }
        _ => return Err(BOUNDS.to_owned()),
    }
    Ok(())
}

/// Both or none; what can not be read now may be readable for the daemon, which says so if not.
fn tls_files(s: &mut Section<'_, '_>) -> Option<TlsFiles> {
    let (cert, key) = (s.path("tls_cert"), s.secret_path("tls_key"));
    match (s.entry("tls_cert"), s.entry("tls_key")) {
        (Some(entry), None) => {
            s.fault_at(entry, "tls_cert: there is no tls_key", None);
            None
        }
        (None, Some(entry)) => {
            s.fault_at(entry, "tls_key: there is no tls_cert", None);
            None
        }
        (Some(entry), Some(key_entry)) => {
            let files = TlsFiles { cert: cert?, key: key? };
            match tls::server(&files) {
                Ok(_) => {}
                Err(e) if e.is_denied() => s.warning_at(entry, format!("{e}"), None),
                Err(e) => s.fault_at(if e.is_of_key() { key_entry } else { entry }, format!("{e}"), None),
            }
            Some(files)
        }
        (None, None) => None,
    }
}
