//! URL templates: no number and no text changes what a request means beyond its own places.

use smsd::alert::Phone;
use smsd::dispatch::url_template::{PHONE, SMS, UrlTemplate, escape};

/// The input: the URL on a line, then the text.
pub(crate) fn run(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let (url, text) = input.split_once('\n').unwrap_or((&input, &input));
    let escaped: String = escape(text).collect();
    assert!(escaped.bytes().all(|b| b.is_ascii_alphanumeric() || b"%-._~".contains(&b)), "{escaped}");

    let phone = Phone::parse("+4799999999").expect("a number");
    let Ok(template) = UrlTemplate::parse(url) else { return };
    let target = template.target(&phone, text);
    let harmless = template.target(&phone, "x");
    assert!(target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic()), "{target}");
    for delimiter in "/?#&=;:@+,!$'()*[]".chars() {
        let count = |target: &str| target.matches(delimiter).count();
        assert_eq!(count(&target), count(&harmless), "{delimiter} in {target}");
    }
    if target.len() < 60_000 {
        let sent: hyper::Uri = target.parse().expect("a target that hyper sends");
        assert_eq!(sent.to_string(), target, "byte for byte");
        // No SMS is empty.
        assert!(text.is_empty() || shape(&target) == shape(&harmless), "{target}");
    }
    // What people see holds no query and no password, and what is hidden elsewhere holds every value of both.
    let (_, shown) = template.shown.split_once("://").expect("a scheme");
    assert!(!shown.contains(['?', '@']), "{shown}");
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    for value in values.filter(|v| !v.is_empty() && !v.contains(PHONE) && !v.contains(SMS)) {
        assert!(template.secrets.iter().any(|secret| secret == value), "{value}");
    }
}

/// What a server makes of a target: the number of its path's segments and of its parameters.
fn shape(target: &str) -> (usize, usize) {
    let url = url::Url::parse(&format!("http://gateway{target}")).expect("a target that servers read");
    let query = url.query().map_or(0, |query| query.split('&').count());
    (url.path_segments().map_or(0, Iterator::count), query)
}
