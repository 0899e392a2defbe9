//! The keys of BoostDispatcher.

use super::super::Secret;
use super::super::ini::Entry;
use super::super::section::Section;
use super::super::value::{self, Parsed, Wrong, clipped, wrong};
use crate::dispatch::boost::{self, Argument, METHOD, Settings, default_parameters};
use crate::dispatch::url_template::UrlTemplate;

pub(super) fn read(s: &mut Section<'_, '_>, named_by: &Entry) -> Option<Settings> {
    let method = s.get("method", name).unwrap_or_else(|| METHOD.to_owned());
    let namespace = s.get("namespace", value::word);
    let soapaction = s.get("soapaction", action).unwrap_or_else(|| method.clone());
    let parameters = match s.entry("parameters") {
        Some(_) => s.get("parameters", parameters),
        None => Some(default_parameters()),
    };
    let reference = s.get("reference", name);
    let url = s.secret("url", service_url);
    let username = s.get("username", value::line);
    let password = s.secret("password", value::line);
    let sender = s.get("sender", value::line);

    let parameters = parameters?;
    let wanted = |argument| parameters.iter().any(|(_, holds)| *holds == argument);
    let mut missing = Vec::new();
    for (key, is_there, is_wanted) in [
        ("url", s.has_secret("url"), true),
        ("username", s.entry("username").is_some(), wanted(Argument::Username)),
        ("password", s.has_secret("password"), wanted(Argument::Password)),
        ("sender", s.entry("sender").is_some(), wanted(Argument::Sender)),
    ] {
        if is_wanted && !is_there {
            missing.push(key);
        }
    }
    if !missing.is_empty() {
        let message =
            format!("[{}] has no {}", clipped(&s.name), value::or(&missing).replace(" or ", " and "));
        s.fault_section(named_by, message, "the service is called with them".to_owned());
        return None;
    }
    let good =
        |is_wanted, found: Option<String>| if is_wanted { found } else { Some(found.unwrap_or_default()) };
    let unused = || Secret::new(String::new());
    Some(Settings {
        url: url?,
        username: good(wanted(Argument::Username), username)?,
        password: if wanted(Argument::Password) { password? } else { password.unwrap_or_else(unused) },
        sender: good(wanted(Argument::Sender), sender)?,
        method,
        namespace,
        soapaction,
        parameters,
        reference,
    })
}

/// Can a class be given to this code, of HTTP or of a fault?
pub(super) fn is_code(code: &str) -> bool {
    if boost::is_status(code) { value::integer(100..=599)(code).is_ok() } else { name(code).is_ok() }
}

/// A URL for POST. It is secret: what is expected is said without a piece of it.
fn service_url(text: &str) -> Parsed<String> {
    match UrlTemplate::with_or_without_places(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(Wrong {
            expected: "an http or https URL in ASCII, other characters percent-encoded".to_owned(),
            part: None,
            hint: Some(why.to_string()),
        }),
    }
}

/// A name of XML without a prefix, in ASCII.
fn name(text: &str) -> Parsed<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !text.chars().all(part) {
        return wrong("a name in ASCII letters, digits, _, - and .");
    }
    Ok(text.to_owned())
}

/// What stands between the quotes of the header `SOAPAction`; may be empty.
fn action(text: &str) -> Parsed<String> {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if !inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        return wrong("a URI without quotes and spaces");
    }
    Ok(inner.to_owned())
}

/// `to=phone, body=message`.
fn parameters(text: &str) -> Parsed<Vec<(String, Argument)>> {
    let words = Argument::ALL.map(|(word, _)| word);
    let pairs = value::list(|item: &str| {
        let (left, right) = item.split_once('=').unwrap_or((item, ""));
        match (name(left.trim()), value::one_of(&Argument::ALL)(right.trim())) {
            (Ok(name), Ok(argument)) => Ok((name, argument)),
            _ => wrong(format!("NAME=WHAT with {} for WHAT", value::or(&words))),
        }
    })(text)?;
    let holds = |wanted| pairs.iter().any(|(_, argument)| *argument == wanted);
    if !holds(Argument::Phone) || !holds(Argument::Message) {
        return wrong("phone and message among the parameters");
    }
    Ok(pairs)
}
