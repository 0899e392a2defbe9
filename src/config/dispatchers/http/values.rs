//! From the text of these keys to their types.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hyper::header::{HeaderName, HeaderValue};

use super::super::super::value::{self, Parsed, Wrong, wrong};
use crate::dispatch::http::template::Context;
use crate::dispatch::http_way::Proxy;

/// `auth`.
pub(super) enum WantedAuth {
    None,
    Basic,
    Bearer,
    Header(HeaderName),
    Query(String),
}

pub(super) fn auth(text: &str) -> Parsed<WantedAuth> {
    match text.split_once(' ').map_or((text, ""), |(kind, name)| (kind, name.trim())) {
        ("none", "") => Ok(WantedAuth::None),
        ("basic", "") => Ok(WantedAuth::Basic),
        ("bearer", "") => Ok(WantedAuth::Bearer),
        ("header", name) => header_name(name).map(WantedAuth::Header),
        ("query", name) if value::word(name).is_ok() => Ok(WantedAuth::Query(name.to_owned())),
        _ => wrong("none, basic, bearer, header NAME or query NAME"),
    }
}

pub(super) fn header_name(name: &str) -> Parsed<HeaderName> {
    name.trim().parse().or_else(|_| wrong("the name of a header"))
}

/// A line end in it is for the reader of the configuration.
pub(super) fn one_url(text: &str) -> Parsed<String> {
    let url = text.replace('\n', "");
    if url.is_empty() || url.contains(char::is_control) {
        return wrong("a URL");
    }
    Ok(url)
}

pub(super) fn base_url(text: &str) -> Parsed<String> {
    let url = url::Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    match url {
        Some(url) if url.query().is_none() && url.fragment().is_none() && !text.contains('@') => {
            Ok(text.to_owned())
        }
        _ => wrong("http:// or https:// and a host, such as http://192.0.2.1:8080, without user and query"),
    }
}

pub(super) fn proxy(text: &str) -> Parsed<Proxy> {
    let expected = "the URL of a proxy, such as http://proxy.example:3128".to_owned();
    Proxy::parse(text).map_err(|why| Wrong { expected, part: None, hint: Some(why) })
}

/// A `Content-Type`, and how values are escaped in it.
pub(super) fn content_type(text: &str) -> Parsed<(HeaderValue, Context)> {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let context = match essence.as_str() {
        "application/x-www-form-urlencoded" => Context::Form,
        "text/plain" => Context::Plain,
        "application/xml" | "text/xml" => Context::Xml,
        "application/json" => Context::Json,
        other if other.ends_with("+json") => Context::Json,
        other if other.ends_with("+xml") => Context::Xml,
        _ => return wrong("a type of JSON, XML, application/x-www-form-urlencoded or text/plain"),
    };
    match HeaderValue::from_str(text) {
        Ok(header) => Ok((header, context)),
        Err(_) => wrong("a content type in ASCII"),
    }
}

/// What a body looks like.
pub(super) fn inferred(source: &str) -> (HeaderValue, Context) {
    let (name, context) = match source.trim_start().chars().next() {
        Some('{') if !source.trim_start().starts_with("{{") && !source.trim_start().starts_with("{%") => {
            ("application/json", Context::Json)
        }
        Some('[') => ("application/json", Context::Json),
        Some('<') => ("application/xml; charset=utf-8", Context::Xml),
        _ => ("application/x-www-form-urlencoded", Context::Form),
    };
    (HeaderValue::from_static(name), context)
}

/// A file that belongs to the configuration.
pub(super) fn small_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(n) if n as u64 > FILE_MAX => Err(format!("it holds more than {FILE_MAX} bytes")),
        Ok(_) => Ok(bytes),
        Err(e) => Err(e.to_string()),
    }
}

/// Bytes of such a file at most: an authority's bundle is the longest.
const FILE_MAX: u64 = 1 << 20;
