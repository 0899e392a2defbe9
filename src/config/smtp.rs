//! `[smtp]`: where mails are taken, and from whom.

use std::net::{IpAddr, SocketAddr};

use super::section::Section;
use super::value::{self, Parsed, wrong};
use crate::alert::Severity;

/// Its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct SmtpConfig {
    /// `listen`.
    pub listen: SocketAddr,
    /// `allow`: who may connect besides this machine.
    pub allow: Vec<Network>,
    /// `domains` of the recipients, in lower case; empty: all.
    pub domains: Vec<String>,
    /// `max_size` of a mail, in bytes.
    pub max_size: usize,
    /// `rate`: mails per second that one address may send.
    pub rate: f64,
    /// `max_connections` at once.
    pub max_connections: usize,
    /// `severity` of all that comes in.
    pub severity: Severity,
    /// `text`: what of a mail is the alert's text.
    pub text: TextOf,
    /// `account`, which NAV's queue wants.
    pub account: Option<i32>,
}

/// What of a mail is the alert's text. A subject that names the number (`sms NUMBER`) is never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextOf {
    /// The body; the subject, if the body is empty.
    Body,
    /// The subject; the body, if there is none.
    Subject,
    /// `Subject: body`.
    Both,
}

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// True if the address is in it. An IPv4 address in IPv6's clothes is an IPv4 address.
    pub fn has(&self, peer: IpAddr) -> bool {
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(peer)) => {
                same(u128::from(ours.to_bits()) << 96, u128::from(peer.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(peer)) => same(ours.to_bits(), peer.to_bits(), self.bits),
            _ => false,
        }
    }
}

fn same(a: u128, b: u128, bits: u8) -> bool {
    (a ^ b).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

impl SmtpConfig {
    /// One with all other keys at their defaults.
    pub fn new(listen: SocketAddr) -> SmtpConfig {
        SmtpConfig {
            listen,
            allow: Vec::new(),
            domains: Vec::new(),
            max_size: 64 * 1024,
            rate: 1000.0 / 60.0,
            max_connections: 64,
            severity: Severity(None),
            text: TextOf::Body,
            account: None,
        }
    }
}

/// No address to listen on, no intake.
pub(super) fn read(mut s: Section<'_, '_>) -> Option<SmtpConfig> {
    let listen = s.get("listen", address);
    let mut smtp = SmtpConfig::new(listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))));
    s.set("allow", &mut smtp.allow, value::list(network));
    s.set("domains", &mut smtp.domains, value::list(domain));
    s.set("max_size", &mut smtp.max_size, value::integer(1024..=1024 * 1024));
    s.set("rate", &mut smtp.rate, value::rate);
    s.set("max_connections", &mut smtp.max_connections, value::integer(1..=1024));
    smtp.severity = Severity(s.get("severity", value::integer(1..=5)));
    let words = [("body", TextOf::Body), ("subject", TextOf::Subject), ("both", TextOf::Both)];
    s.set("text", &mut smtp.text, value::one_of(&words));
    smtp.account = s.get("account", value::integer(0..=i32::MAX));
    if let Some(entry) = s.entry("listen")
        && !smtp.listen.ip().is_loopback()
        && s.entry("allow").is_none()
    {
        let hint = "such as allow: 192.0.2.0/24; whoever may connect can send SMS".to_owned();
        s.fault(entry, "listen: other machines can reach this address, and no `allow` says which may", hint);
    }
    s.close();
    listen.map(|_| smtp)
}

fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse().or_else(|_| wrong("an address and a port, such as 127.0.0.1:2525 or [::1]:2525"))
}

fn domain(text: &str) -> Parsed<String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || text.len() > 253 || !text.chars().all(sound) {
        return wrong("the domain of a mail address, such as sms.example.org");
    }
    Ok(text.to_ascii_lowercase())
}

fn network(text: &str) -> Parsed<Network> {
    let parse = || {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |b| value::integer(0..=most)(b).ok())?;
        Some(Network { address, bits })
    };
    parse().map_or_else(|| wrong("an address or a network, such as 192.0.2.7 or 192.0.2.0/24"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_alike() {
        for (net, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("0.0.0.0/0", "198.51.100.1", "::1"),
            ("::/0", "::1", "198.51.100.1"),
        ] {
            let net = network(net).unwrap();
            assert!(net.has(inside.parse().unwrap()), "{net:?} {inside}");
            assert!(!net.has(outside.parse().unwrap()), "{net:?} {outside}");
        }
        for bad in ["", "x", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1", "192.0.2/24"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }
}
