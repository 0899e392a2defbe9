//! What an answer of a gateway means: a class for whatever comes back, and no secret in the words.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use jiff::Timestamp;
use smsd::config::Secret;
use smsd::dispatch::http_client::Answer;
use smsd::dispatch::http_get::{HttpGetDispatcher, Settings, success_rule};
use smsd::dispatch::status::{self, HttpStatuses, Status};
use smsd::dispatch::{Class, Limits};

const PASSWORD: &str = "hunter2hunter2";

/// The input, a line each: status code, an override (`503 ERR`), `Retry-After`, the rule `success` (may be
/// empty), the SMS; what follows is the body.
pub(crate) fn run(data: &[u8]) {
    let mut lines = data.splitn(6, |b| *b == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (code, by_operator, retry_after, success) = (line(), line(), line(), line());
    let (sms, body) = (line(), line());
    let text = String::from_utf8_lossy;

    let (key, word) = text(by_operator)
        .split_once(' ')
        .map_or_else(Default::default, |(key, word)| (key.to_owned(), Status::from_word(word)));
    let overrides: BTreeMap<String, Status> = word.map(|status| (key, status)).into_iter().collect();
    let statuses = HttpStatuses::new(&overrides);
    let plain = overrides.keys().all(|key| key.len() == 3 && (100..=999).contains(&key.parse().unwrap_or(0)));
    assert_eq!(statuses.is_ok(), plain, "{overrides:?}");

    let now = Timestamp::UNIX_EPOCH;
    if let Some(wait) = status::parse_retry_after(&text(retry_after), now) {
        assert!(status::RETRY_AFTER_BOUNDS.contains(&wait), "{wait:?}");
    }
    let Some(code) = text(code).parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) else { return };
    let Ok(statuses) = statuses else { return };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(retry_after)
        && !retry_after.is_empty()
    {
        headers.insert(RETRY_AFTER, value);
    }
    let rule = Some(text(success)).filter(|s| !s.is_empty()).and_then(|s| success_rule(&s).ok());
    let url = format!("http://gw.example/send?user=nav&password={PASSWORD}&to=%(phone)s&text=%(sms)s");
    let settings = Settings { url: Secret::new(url), success: rule.clone() };
    let gateway =
        HttpGetDispatcher::new(settings, statuses, Limits { max_segments: None }).expect("a URL that is one");

    let by_table = overrides.get(code.as_str()).copied().unwrap_or_else(|| status::http(code.as_u16()));
    for readable in [true, false] {
        let answer = Answer { status: code, headers: headers.clone(), body: body.to_vec().into(), readable };
        let judged = gateway.judge(&answer, &text(sms));
        let matched = rule.as_ref().is_none_or(|rule| readable && rule.is_match(&text(body)));
        assert_eq!(judged.is_ok(), by_table == Status::Accepted && matched, "{judged:?}");
        match judged {
            Ok(receipt) => receipt.references.iter().for_each(|words| no_piece_of(PASSWORD, 8, words)),
            Err(error) => {
                if let Class::Throttled { retry_after } = error.class {
                    assert!((Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&retry_after));
                }
                assert!(!error.detail.contains(char::is_control), "{error:?}");
                no_piece_of(PASSWORD, 8, &error.detail);
                // Behind the URL and our own words stands what the gateway gave back.
                let quoted = error.detail.splitn(3, ": ").nth(2).unwrap_or_default();
                if text(sms).bytes().all(|b| b.is_ascii_alphanumeric()) {
                    no_piece_of(&text(sms), 12, quoted);
                }
            }
        }
    }
}

fn no_piece_of(hidden: &str, least: usize, words: &str) {
    let words = words.to_ascii_lowercase();
    for piece in hidden.as_bytes().windows(least) {
        let piece = String::from_utf8_lossy(piece).to_ascii_lowercase();
        assert!(!words.contains(&piece), "{piece:?} in {words:?}");
    }
}
