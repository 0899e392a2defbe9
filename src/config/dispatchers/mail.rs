//! The keys of UninettMailDispatcher, and what it takes from elsewhere.

use super::super::ini::Entry;
use super::super::section::Section;
use super::super::value::{self, Parsed, clipped, wrong};
use super::super::{Config, DispatcherKind, MailConfig, NavConf};
use crate::dispatch::mail::{SUBJECT, Settings, address};
use crate::dispatch::smtp::Tls;
use crate::dispatch::url_template::PHONE;

pub(super) fn read(s: &mut Section<'_, '_>, named_by: &Entry) -> Option<Settings> {
    let mailaddr = s.get("mailaddr", mailaddr);
    let subject = s.get("subject", value::line).unwrap_or_else(|| SUBJECT.to_owned());
    let words = [("none", Tls::None), ("starttls", Tls::StartTls), ("smtps", Tls::Smtps)];
    let settings = Settings {
        mailaddr: mailaddr.clone().unwrap_or_default(),
        subject,
        server: s.get("server", server),
        tls: s.get("tls", value::one_of(&words)),
        tls_ca: s.path("tls_ca"),
        username: s.get("username", value::line),
        password: s.secret("password", value::line),
        fromaddr: s.get("fromaddr", from),
    };
    if s.entry("mailaddr").is_none() {
        let hint = "the mail address of the gateway".to_owned();
        s.fault_section(named_by, format!("[{}] has no mailaddr", clipped(&s.name)), hint);
    }
    let mailaddr = mailaddr?;
    if !settings.subject.contains(PHONE) && !mailaddr.contains(PHONE) {
        let message = format!("[{}] has {PHONE} neither in subject nor in mailaddr", clipped(&s.name));
        s.fault_section(named_by, message, "the gateway would not know whom the SMS is for".to_owned());
        return None;
    }
    if s.has_secret("password") != s.entry("username").is_some() {
        let message =
            format!("[{}] has one of username and password, expected both or none", clipped(&s.name));
        s.fault_section(named_by, message, None);
        return None;
    }
    Some(settings)
}

/// Fills in what NAV's files and `[main]` say, where the sections say nothing. User, password, port and encryption of
/// nav.conf are those of its own server, and go to no other.
pub(in super::super) fn fill_in(config: &mut Config) {
    let (mail, nav) = (&config.main.mail, &config.nav);
    for dispatcher in &mut config.dispatchers {
        if let DispatcherKind::Mail(settings) = &mut dispatcher.kind {
            complete(settings, mail, nav);
        }
    }
}

fn complete(settings: &mut Settings, mail: &MailConfig, nav: &NavConf) {
    let from = || mail.from.clone().or_else(|| nav.default_from_email.clone());
    settings.fromaddr = settings.fromaddr.take().or_else(from);
    if settings.server.is_some() {
        return;
    }
    let Some(host) = &nav.email_host else {
        settings.server = mail.server.as_deref().and_then(|text| server(text).ok());
        return;
    };
    settings.server = Some((host.clone(), nav.email_port));
    if settings.tls.is_none() && nav.email_use_tls {
        settings.tls = Some(Tls::StartTls);
    }
    if settings.username.is_none() {
        settings.username.clone_from(&nav.email_host_user);
        settings.password.clone_from(&nav.email_host_password);
    }
}

/// Can a class be given to this code?
pub(super) fn is_code(code: &str) -> bool {
    let number = |part: &str, longest| part.len() <= longest && part.parse::<u16>().is_ok();
    match code.split('.').collect::<Vec<_>>()[..] {
        [code] => value::integer(200..=599)(code).is_ok(),
        [class, subject, detail] => matches!(class, "4" | "5") && number(subject, 3) && number(detail, 3),
        _ => false,
    }
}

/// The gateway's address.
fn mailaddr(text: &str) -> Parsed<String> {
    let example = text.replace(PHONE, "4799999999");
    if address(&example) == Some(&example) {
        return Ok(text.to_owned());
    }
    wrong("a mail address such as sms@example.org")
}

/// An address, or a name with one.
pub(in super::super) fn from(text: &str) -> Parsed<String> {
    if address(text).is_some() {
        Ok(text.to_owned())
    } else {
        wrong("a mail address such as nav@example.org")
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`.
pub(in super::super) fn server(text: &str) -> Parsed<(String, Option<u16>)> {
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match text.rsplit_once(':').filter(|_| !bare_v6 && !text.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = port.map(value::integer(1..=u16::MAX)).transpose();
    match port {
        Ok(port) if !host.is_empty() && host.chars().all(sound) => Ok((host.to_owned(), port)),
        _ => wrong("a host, and a port if it is not the usual one, such as mail.example.org:587"),
    }
}
