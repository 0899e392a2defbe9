//! The keys of HttpGetDispatcher.

use url::Url;

use super::super::ini::Entry;
use super::super::section::Section;
use super::super::value::{Parsed, Wrong, clipped, wrong};
use super::regex;
use crate::dispatch::http_get::Settings;
use crate::dispatch::url_template::UrlTemplate;

pub(super) fn read(s: &mut Section<'_, '_>, named_by: &Entry) -> Option<Settings> {
    let success = s.get("success", regex);
    let url = s.secret("url", gateway_url);
    if !s.has_secret("url") {
        let hint = "such as url: https://gateway.example/send?to=%(phone)s&text=%(sms)s".to_owned();
        s.fault_section(named_by, format!("[{}] has no url", clipped(&s.name)), hint);
    }
    let url = url?;
    if url.reveal().contains("%%")
        && let Some(entry) = s.entry("url")
    {
        let hint =
            "NAV wants %% for a percent sign in this URL; here % is enough, and %% stays %%".to_owned();
        s.warning_at(entry, "url: found %%", hint);
    }
    Some(Settings { url, success })
}

/// A URL for GET. It is secret: what is expected is said without a piece of it.
fn gateway_url(text: &str) -> Parsed<String> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("a URL on one line and without spaces");
    }
    if let Some(lost) = ["%(phone)s", "%(sms)s"].into_iter().find(|p| !text.contains(p)) {
        return wrong(format!("{lost} in the URL"));
    }
    let example = text.replace("%(phone)s", "4799999999").replace("%(sms)s", "test");
    let is_http = |u: &Url| matches!(u.scheme(), "http" | "https") && u.has_host();
    if !Url::parse(&example).is_ok_and(|u| is_http(&u)) {
        return wrong("an http or https URL");
    }
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(host_end);
    let fragment = rest.split_once('#').map_or("", |(_, fragment)| fragment);
    if host.contains("%(") || fragment.contains("%(") {
        return wrong("%(phone)s and %(sms)s in the path or the query of the URL");
    }
    // What is accepted here is what the dispatcher can use, such as no host with `å`.
    match UrlTemplate::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(Wrong {
            expected: "a URL in ASCII, other characters percent-encoded".to_owned(),
            part: None,
            hint: Some(why.to_string()),
        }),
    }
}
