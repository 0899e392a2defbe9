//! A URL with places for the number and the text, parsed once.
//!
//! What the operator wrote goes out byte for byte. What an alert brings is percent-encoded until only
//! unreserved characters are left (RFC 3986 §2.3), which is right in a path and in a query alike, so that
//! no text can add a parameter, end the request line or reach another path.

use std::fmt;

use hyper::http::uri::{Authority, PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::http_gateway::{self, hidden};
use crate::alert::Phone;

/// The place of the number.
pub const PHONE: &str = "%(phone)s";
/// The place of the text.
pub const SMS: &str = "%(sms)s";

/// A URL with places. `Debug` shows what may be shown.
#[derive(Clone)]
pub struct UrlTemplate {
    /// Where to connect.
    pub origin: Origin,
    /// `Authorization`, if the URL has a user.
    pub basic: Option<String>,
    /// The URL as people may see it: scheme, host and path.
    pub shown: String,
    /// What must never show: the values of the query, user and password, as written and as meant.
    pub secrets: Vec<String>,
    parts: Vec<Part>,
}

/// Where a URL connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `https`.
    pub tls: bool,
    /// Host and port as the URL has them: the `Host` header.
    pub authority: Authority,
}

/// Why a URL can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("it begins with neither http:// nor https://")]
    Scheme,
    /// A character that no URL has, at this byte (from 1).
    #[error("{0:?} at position {1} can not stand in a URL; write it percent-encoded (%{hex:02X} for ASCII)", hex = u32::from(*.0))]
    Character(char, usize),
    /// No host, or one that is none.
    #[error("its host is none; expected a name or an address, and a port if it is not the usual one")]
    Host,
    /// An `@` in the path: most likely the end of a user and password with an unescaped `/` in it, the rest of
    /// which would be taken for a path, and shown.
    #[error("an @ stands in its path; write / in a user or password as %2F, and @ in a path as %40")]
    At,
    /// A place before the path.
    #[error("{0} stands before the path; only the path and the query may have it")]
    Early(&'static str),
    /// Longer than any server takes.
    #[error("it is too long; expected at most 65,534 bytes")]
    Long,
    /// A place is missing.
    #[error("it has no {0}, where the {1} belongs")]
    Missing(&'static str, &'static str),
}

#[derive(Clone)]
enum Part {
    Literal(String),
    Phone,
    Sms,
}

impl UrlTemplate {
    /// Reads a URL with a place for the number and one for the text.
    ///
    /// # Errors
    /// [`UrlError`] shows no more of the URL than one character.
    pub fn parse(url: &str) -> Result<UrlTemplate, UrlError> {
        let template = UrlTemplate::with_or_without_places(url)?;
        for (place, part, what) in [(PHONE, Part::Phone, "number"), (SMS, Part::Sms, "text")] {
            if !template.parts.iter().any(|p| std::mem::discriminant(p) == std::mem::discriminant(&part)) {
                return Err(UrlError::Missing(place, what));
            }
        }
        Ok(template)
    }

    /// Reads a URL where number and text go elsewhere: into a body.
    ///
    /// # Errors
    /// As [`UrlTemplate::parse`], but for [`UrlError::Missing`].
    pub fn with_or_without_places(url: &str) -> Result<UrlTemplate, UrlError> {
        let Apart { origin, shown, user, target } = apart(url, &[PHONE, SMS])?;
        check_characters(url, target)?;
        let query = target.split_once('?').map_or("", |(_, query)| query);
        Ok(UrlTemplate {
            basic: user.map(basic),
            shown,
            secrets: secrets(user.unwrap_or(""), query),
            origin,
            parts: split(target),
        })
    }

    /// The path and the query for one SMS.
    pub fn target(&self, phone: &Phone, text: &str) -> String {
        let mut target = String::with_capacity(256);
        for part in &self.parts {
            match part {
                Part::Literal(literal) => target.push_str(literal),
                Part::Phone => target.extend(escape(phone.as_str())),
                Part::Sms => place(&mut target, text),
            }
        }
        target
    }
}

/// A URL taken apart, with its places still in it.
#[derive(Debug)]
pub struct Apart<'u> {
    /// Where to connect.
    pub origin: Origin,
    /// Scheme, host and path.
    pub shown: String,
    /// `user:password` as written, if the URL has it.
    pub user: Option<&'u str>,
    /// Path and query as written.
    pub target: &'u str,
}

/// Takes a URL apart. `places` may stand in the path and the query only.
///
/// # Errors
/// [`UrlError`] of all that stands before the path, and [`UrlError::At`].
pub fn apart<'u>(url: &'u str, places: &[&'static str]) -> Result<Apart<'u>, UrlError> {
    let scheme_end = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(scheme_end);
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http://" => false,
        "https://" => true,
        _ => return Err(UrlError::Scheme),
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    for place in places {
        if authority.contains(place) {
            return Err(UrlError::Early(place));
        }
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let authority: Authority = host.parse().map_err(|_| UrlError::Host)?;
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || (!port.is_empty() && authority.port_u16().is_none()) {
        return Err(UrlError::Host);
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if path.contains('@') {
        return Err(UrlError::At);
    }
    let shown = format!("{}{authority}{path}", scheme.to_ascii_lowercase());
    Ok(Apart { origin: Origin { tls, authority }, shown, user, target })
}

/// Puts a value into a path or a query, behind what stands there already.
pub fn place(target: &mut String, value: &str) {
    let path = !target.contains('?');
    target.extend(escape(value));
    // For servers that tidy a path these are the way up, encoded or not (RFC 3986 §5.2.4).
    if path && matches!(value, "." | "..") {
        target.push_str("%20");
    }
}

/// A value as it goes out in a path or a query: all but the unreserved characters percent-encoded.
pub fn escape(value: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(value, ESCAPED)
}

impl Origin {
    /// The host without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, the scheme's own if the URL has none.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }
}

impl fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UrlTemplate").field(&self.shown).finish()
    }
}

/// All but the unreserved characters of RFC 3986 §2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The target must be one that goes out as it is written, whatever is put into its places. A fragment
/// would not go out at all.
fn check_characters(url: &str, target: &str) -> Result<(), UrlError> {
    match url.char_indices().find(|(_, c)| !is_sound(*c)) {
        Some((at, c)) => Err(UrlError::Character(c, at + 1)),
        None if rooted(target.to_string()).parse::<PathAndQuery>().is_err() => Err(UrlError::Long),
        None => Ok(()),
    }
}

/// Can this stand in a URL, and go out as it is?
pub fn is_sound(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '#' | '<' | '>' | '"' | '\\' | '^' | '`')
}

/// A URL may leave out the path; a request may not.
pub fn rooted(target: String) -> String {
    if target.starts_with('/') { target } else { format!("/{target}") }
}

fn split(target: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let target = rooted(target.to_string());
    let mut rest = target.as_str();
    while let Some(c) = rest.chars().next() {
        let place = [(PHONE, Part::Phone), (SMS, Part::Sms)].into_iter().find(|(p, _)| rest.starts_with(p));
        match place {
            Some((place, part)) => {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
                rest = rest.strip_prefix(place).unwrap_or_default();
            }
            None => {
                literal.push(c);
                rest = rest.strip_prefix(c).unwrap_or_default();
            }
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    parts
}

/// `Authorization` for a URL's user and password.
pub fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |s| percent_decode_str(s).collect::<Vec<u8>>();
    http_gateway::basic(&decoded(name), &decoded(password))
}

/// Everything in user and query that may be a secret.
pub fn secrets(user: &str, query: &str) -> Vec<String> {
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let written =
        user.split(':').chain(values).flat_map(|value| value.split(PHONE)).flat_map(|v| v.split(SMS));
    let mut all: Vec<String> = Vec::new();
    for value in written {
        all.push(value.to_string());
        all.push(percent_decode_str(value).decode_utf8_lossy().into_owned());
        all.push(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned());
    }
    if !user.is_empty() {
        all.push(basic(user).trim_start_matches("Basic ").to_string());
    }
    hidden(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URL: &str = "https://us%40er:p%2Fw@gw.example:8443/a%20b/%%/%zz/send?user=nav&pw=se%26cret&to=%(phone)s&text=%(sms)s&x={%}%(other)s";

    fn phone(raw: &str) -> Phone {
        Phone::parse(raw).unwrap()
    }

    #[test]
    fn what_the_operator_wrote_stays_byte_for_byte() {
        let template = UrlTemplate::parse(URL).unwrap();
        let target = template.target(&phone("+4799999999"), "hei & på/deg +1%");
        assert_eq!(
            target,
            "/a%20b/%%/%zz/send?user=nav&pw=se%26cret&to=%2B4799999999&text=hei%20%26%20p%C3%A5%2Fdeg%20%2B1%25&x={%}%(other)s"
        );
        assert_eq!(target.parse::<PathAndQuery>().unwrap().as_str(), target);
        assert_eq!(template.shown, "https://gw.example:8443/a%20b/%%/%zz/send");
        assert_eq!(template.basic.as_deref(), Some("Basic dXNAZXI6cC93"));
        assert_eq!((template.origin.host(), template.origin.port()), ("gw.example", 8443));
        assert!(template.origin.tls);
    }

    #[test]
    fn paths_may_be_left_out_and_ports_too() {
        for (url, target, shown, port) in [
            ("http://gw?%(phone)s=%(sms)s", "/?123=x", "http://gw", 80),
            ("HTTPS://gw/%(phone)s/%(sms)s", "/123/x", "https://gw/%(phone)s/%(sms)s", 443),
            (
                "http://[::1]:81/%(phone)s%(sms)s%(sms)s",
                "/123xx",
                "http://[::1]:81/%(phone)s%(sms)s%(sms)s",
                81,
            ),
        ] {
            let template = UrlTemplate::parse(url).unwrap();
            assert_eq!(template.target(&phone("123"), "x"), target);
            assert_eq!(template.shown, shown);
            assert_eq!(template.origin.port(), port);
        }
    }

    #[test]
    fn no_text_is_a_way_up_in_the_path() {
        let template = UrlTemplate::parse("http://gw/a/%(sms)s/.%(sms)s/%(phone)s?t=%(sms)s").unwrap();
        assert_eq!(template.target(&phone("123"), ".."), "/a/..%20/...%20/123?t=..");
        assert_eq!(template.target(&phone("123"), "."), "/a/.%20/..%20/123?t=.");
        assert_eq!(template.target(&phone("123"), "..."), "/a/.../..../123?t=...");
    }

    #[test]
    fn what_can_not_be_used_is_said() {
        for (url, want) in [
            ("", UrlError::Scheme),
            ("gw/send?%(phone)s%(sms)s", UrlError::Scheme),
            ("ftp://gw/%(phone)s%(sms)s", UrlError::Scheme),
            ("http:///%(phone)s%(sms)s", UrlError::Host),
            ("http://gw:/%(phone)s%(sms)s", UrlError::Host),
            ("http://gw:99999/%(phone)s%(sms)s", UrlError::Host),
            ("http://u:p@/%(phone)s%(sms)s", UrlError::Host),
            ("http://u:12/pw@gw/?t=%(sms)s&to=%(phone)s", UrlError::At),
            ("http://gw/a@b/%(phone)s/%(sms)s", UrlError::At),
            ("http://%(phone)s/?t=%(sms)s", UrlError::Early(PHONE)),
            ("http://u:%(sms)s@gw/%(phone)s%(sms)s", UrlError::Early(SMS)),
            ("http://gw/?to=%(phone)s", UrlError::Missing(SMS, "text")),
            ("http://gw/?t=%(sms)s&to=%(phone)", UrlError::Missing(PHONE, "number")),
            ("http://gw/?t=a b%(sms)s%(phone)s", UrlError::Character(' ', 15)),
            ("http://gw/å?t=%(sms)s%(phone)s", UrlError::Character('å', 11)),
            ("http://gw/?t=%(sms)s#%(phone)s", UrlError::Character('#', 21)),
            ("http://gw/\r\n?t=%(sms)s%(phone)s", UrlError::Character('\r', 11)),
            ("http://gw/?t=<%(sms)s%(phone)s", UrlError::Character('<', 14)),
        ] {
            assert_eq!(UrlTemplate::parse(url).unwrap_err(), want, "{url}");
        }
    }

    #[test]
    fn an_at_is_welcome_where_it_can_not_be_a_passwords_end() {
        for url in
            ["http://u:p%2Fw@gw/a%40b?t=%(sms)s&to=%(phone)s", "http://gw/?user=me@here&t=%(sms)s%(phone)s"]
        {
            let template = UrlTemplate::parse(url).unwrap();
            assert!(!template.shown.contains('@'), "{}", template.shown);
        }
    }

    #[test]
    fn secrets_are_all_values_in_every_form() {
        let template =
            UrlTemplate::parse("http://u%40:p:w@gw/p?key=a+b%21&v=pre%(sms)spost&bare&to=%(phone)s&e=")
                .unwrap();
        let mut secrets = template.secrets.clone();
        secrets.sort();
        assert_eq!(
            secrets,
            ["a b!", "a+b!", "a+b%21", "bare", "dUA6cDp3", "p", "post", "pre", "u%40", "u@", "w"]
        );
        assert_eq!(format!("{template:?}"), r#"UrlTemplate("http://gw/p")"#);
    }

    /// What a server makes of a query: an oracle that shares nothing with the code above.
    fn parameters(target: &str) -> Vec<(String, String)> {
        let url = url::Url::parse(&format!("http://gw{target}")).unwrap();
        url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
    }

    proptest! {
        #[test]
        fn a_text_is_one_parameter_and_nothing_else(text in any::<String>(), digits in "\\+[1-9][0-9]{2,14}|[0-9]{3,15}") {
            let template = UrlTemplate::parse("http://gw/s/%(sms)s?to=%(phone)s&text=%(sms)s&end=1").unwrap();
            let target = template.target(&phone(&digits), &text);
            let own = |k: &str, v: &str| (k.to_string(), v.to_string());
            prop_assert_eq!(parameters(&target), [own("to", &digits), own("text", &text), own("end", "1")]);
            prop_assert_eq!(target.matches('/').count(), 2);
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(target.len() > 60_000 || target.parse::<PathAndQuery>().unwrap().as_str() == target);
        }

        #[test]
        fn no_url_breaks_the_reader(url in any::<String>(), tail in "[ -~]{0,40}") {
            let _ = UrlTemplate::parse(&url);
            if let Ok(template) = UrlTemplate::parse(&format!("http://{tail}?%(phone)s%(sms)s")) {
                let target = template.target(&phone("123"), &url);
                prop_assert!(target.len() > 60_000 || target.parse::<PathAndQuery>().unwrap().as_str() == target, "{}", target);
            }
        }
    }
}
