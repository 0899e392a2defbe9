//! SMTP's commands (RFC 5321 §4.1.1), as far as a mailbox that only takes needs them.

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `HELO`.
    Helo,
    /// `EHLO`.
    Ehlo,
    /// `MAIL FROM:<…>` with the size that `SIZE=` announces. Who sends it is of no account here.
    Mail {
        /// Bytes, as far as a client knows.
        size: Option<u64>,
    },
    /// `RCPT TO:<…>`.
    Rcpt(Address),
    /// `DATA`.
    Data,
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
    /// `VRFY`.
    Vrfy,
    /// `EXPN`, `HELP`, `AUTH`, `STARTTLS`, `BDAT` and the like: known, and not to be had.
    NotOffered,
}

/// A recipient: what stands before the `@`, without quotes, and what stands behind it in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// May be anything in ASCII.
    pub local: String,
    /// Empty, if there is none (`postmaster`).
    pub domain: String,
}

/// What a line lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No command.
    #[error("500 5.5.2 command not recognised")]
    Unknown,
    /// A command with the wrong words behind it.
    #[error("501 5.5.4 what follows the command is not understood")]
    Arguments,
    /// An address in letters outside ASCII, or none.
    #[error("553 5.1.3 this is no mail address in ASCII")]
    Address,
    /// A parameter of `MAIL` or `RCPT` that we do not offer.
    #[error("555 5.5.4 parameter not recognised")]
    Parameter,
}

/// Reads a line without its CRLF.
///
/// # Errors
/// See [`Fault`]; its words are the reply.
pub fn parse(line: &[u8]) -> Result<Command, Fault> {
    let line = std::str::from_utf8(line).map_err(|_| Fault::Unknown)?;
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Fault::Unknown);
    }
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    let bare = |command| if rest.is_empty() { Ok(command) } else { Err(Fault::Arguments) };
    match verb.to_ascii_uppercase().as_str() {
        "HELO" if !rest.is_empty() => Ok(Command::Helo),
        "EHLO" if !rest.is_empty() => Ok(Command::Ehlo),
        "HELO" | "EHLO" => Err(Fault::Arguments),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => bare(Command::Data),
        "RSET" => bare(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => bare(Command::Quit),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" | "HELP" | "AUTH" | "STARTTLS" | "BDAT" | "ETRN" | "TURN" => Ok(Command::NotOffered),
        _ => Err(Fault::Unknown),
    }
}

fn mail(rest: &str) -> Result<Command, Fault> {
    let (path, parameters) = path(rest, "FROM:")?;
    if !path.is_empty() {
        address(path)?;
    }
    let mut size = None;
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_uppercase().as_str() {
            "SIZE" => size = Some(value.parse().map_err(|_| Fault::Arguments)?),
            "BODY" if ["7BIT", "8BITMIME"].iter().any(|b| value.eq_ignore_ascii_case(b)) => {}
            // Who claims to have been logged in elsewhere (RFC 4954 §5) is none of our business.
            "AUTH" => {}
            _ => return Err(Fault::Parameter),
        }
    }
    Ok(Command::Mail { size })
}

fn rcpt(rest: &str) -> Result<Command, Fault> {
    let (path, parameters) = path(rest, "TO:")?;
    if !parameters.trim().is_empty() {
        return Err(Fault::Parameter);
    }
    address(path).map(Command::Rcpt)
}

/// What stands in the angle brackets behind the word, and what behind them. A space before the bracket is against the
/// letter of RFC 5321, and common.
fn path<'a>(rest: &'a str, word: &str) -> Result<(&'a str, &'a str), Fault> {
    let head = rest.get(..word.len()).ok_or(Fault::Arguments)?;
    if !head.eq_ignore_ascii_case(word) {
        return Err(Fault::Arguments);
    }
    let path = rest.get(word.len()..).unwrap_or_default().trim_start();
    let path = path.strip_prefix('<').ok_or(Fault::Arguments)?;
    // A bracket within quotes is part of the address.
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in path.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let after = path.get(at + 1..).unwrap_or_default();
                if !after.is_empty() && !after.starts_with([' ', '\t']) {
                    return Err(Fault::Arguments);
                }
                return Ok((path.get(..at).unwrap_or_default(), after));
            }
            _ => {}
        }
    }
    Err(Fault::Arguments)
}

fn address(path: &str) -> Result<Address, Fault> {
    if !path.is_ascii() || path.len() > 320 {
        return Err(Fault::Address);
    }
    // A route is to be ignored (RFC 5321 appendix C).
    let path = match path.strip_prefix('@') {
        Some(route) => route.split_once(':').ok_or(Fault::Address)?.1,
        None => path,
    };
    let (local, domain) = match path.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let (local, domain) = path.rsplit_once('@').unwrap_or((path, ""));
            if path.ends_with('@') || local.contains(['"', ' ', '\t', '<', '>', ',', ';', '\\']) {
                return Err(Fault::Address);
            }
            (local.to_owned(), domain)
        }
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    if local.is_empty() || !domain.chars().all(sound) {
        return Err(Fault::Address);
    }
    Ok(Address { local, domain: domain.to_ascii_lowercase() })
}

/// What stands before the closing quote, and the domain behind it.
fn unquote(quoted: &str) -> Result<(String, &str), Fault> {
    let mut local = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = quoted.get(at + 1..).unwrap_or_default();
                return match rest.strip_prefix('@') {
                    Some(domain) if !domain.is_empty() => Ok((local, domain)),
                    None if rest.is_empty() => Ok((local, "")),
                    _ => Err(Fault::Address),
                };
            }
            '\\' => local.extend(chars.next().map(|(_, c)| c)),
            c => local.push(c),
        }
    }
    Err(Fault::Address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_any_case() {
        for (line, want) in [
            ("ehlo nav.example.org", Ok(Command::Ehlo)),
            ("HELO [127.0.0.1]", Ok(Command::Helo)),
            ("MAIL FROM:<nav@example.org> SIZE=123 BODY=8BITMIME", Ok(Command::Mail { size: Some(123) })),
            ("mail from: <> AUTH=<>", Ok(Command::Mail { size: None })),
            ("DATA", Ok(Command::Data)),
            ("rset ", Ok(Command::Rset)),
            ("NOOP anything", Ok(Command::Noop)),
            ("QUIT", Ok(Command::Quit)),
            ("VRFY +47", Ok(Command::Vrfy)),
            ("STARTTLS", Ok(Command::NotOffered)),
            ("EHLO", Err(Fault::Arguments)),
            ("DATA now", Err(Fault::Arguments)),
            ("MAIL FROM:nav@example.org", Err(Fault::Arguments)),
            ("MAIL FROM:<nav@example.org>SIZE=1", Err(Fault::Arguments)),
            ("MAIL FROM:<a@b> SIZE=x", Err(Fault::Arguments)),
            ("MAIL FROM:<a@b> SMTPUTF8", Err(Fault::Parameter)),
            ("MAIL FROM:<å@b>", Err(Fault::Address)),
            ("RCPT TO:<a@b> NOTIFY=NEVER", Err(Fault::Parameter)),
            ("RCPT TO:<>", Err(Fault::Address)),
            ("RCPT", Err(Fault::Arguments)),
            ("GET / HTTP/1.1", Err(Fault::Unknown)),
            ("NOOP\0", Err(Fault::Unknown)),
            ("", Err(Fault::Unknown)),
        ] {
            assert_eq!(parse(line.as_bytes()), want, "{line}");
        }
        assert_eq!(parse(b"NOOP \xff"), Err(Fault::Unknown));
    }

    #[test]
    fn recipients_in_all_their_forms() {
        for (path, local, domain) in [
            ("+4790000001@SMS.example.org", "+4790000001", "sms.example.org"),
            ("sms@[127.0.0.1]", "sms", "[127.0.0.1]"),
            ("sms@[IPv6:::1]", "sms", "[ipv6:::1]"),
            ("postmaster", "postmaster", ""),
            ("\"+47 90 00\"@x", "+47 90 00", "x"),
            ("\"a\\\"b@c>d\"@x", "a\"b@c>d", "x"),
            ("@relay.example:noc@x", "noc", "x"),
        ] {
            let want = Address { local: local.into(), domain: domain.into() };
            assert_eq!(parse(format!("RCPT TO:<{path}>").as_bytes()), Ok(Command::Rcpt(want)), "{path}");
        }
        for path in ["a b@x", "a@", "@x", "\"a@x", "\"a\"b@x", "a@x y", "a,b@x", "\"\"@x", "a@x\"", "<a@x"] {
            let parsed = parse(format!("RCPT TO:<{path}>").as_bytes());
            assert!(parsed.is_err(), "{path}: {parsed:?}");
        }
    }
}
