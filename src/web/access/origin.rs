//! Whether a browser was led to ask by somebody else's page.
//!
//! A page anywhere may make a browser post to us, and a name that its owner points to 127.0.0.1 may make the browser take
//! us for that page's own server. The browser itself says on whose behalf it asks; what is no browser says nothing.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, StatusCode, header};

use crate::web::Problem;

/// Refuses what changes something and was not asked by our own pages.
pub(super) fn check(method: &Method, headers: &HeaderMap, tls: bool) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let word = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let by_site = word("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let own = |origin: &str| {
        // Whoever asks in the clear may have come by a proxy that was asked by TLS.
        let clear = origin.strip_prefix("http://").filter(|_| !tls);
        let name = clear.or_else(|| origin.strip_prefix("https://"));
        name.is_some_and(|name| !name.is_empty() && name.eq_ignore_ascii_case(host))
    };
    if by_site && word("origin").is_none_or(own) {
        return Ok(());
    }
    Err(refused("a page of another site made this browser ask; open smsd's own page and ask there"))
}

/// Refuses a name that is not ours.
pub(super) fn check_host(headers: &HeaderMap, ours: &[String]) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = name(host).to_lowercase();
    let loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    let known = loopback || name == "localhost" || ours.contains(&name);
    if known && hosts.next().is_none() {
        return Ok(());
    }
    Err(refused(
        "the Host by which you ask is no name of this machine's loopback; if it is one of smsd's, put it into hosts \
         of [http] in smsd.conf",
    ))
}

/// The host without its port and without the brackets of an IPv6 address.
fn name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn refused(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}
