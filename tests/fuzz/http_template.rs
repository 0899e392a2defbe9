//! Templates and rules of HttpDispatcher: what an operator may write is taken or refused, and whatever an alert and a
//! gateway say stays in its place.

use hyper::HeaderMap;
use hyper::http::StatusCode;
use smsd::dispatch::http::rules::{Reference, Rule, Rules, Verdict};
use smsd::dispatch::http::template::{Context, Template, Values};
use smsd::dispatch::http_client::Answer;

/// The input: a template (or rules, or where the reference stands), an empty line, then a text, which is also a body.
pub(crate) fn run(data: &[u8]) {
    let at = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0);
    let (source, rest) = data.split_at(at);
    let body = rest.get(2..).unwrap_or_default();
    let (source, text) = (String::from_utf8_lossy(source), String::from_utf8_lossy(body));

    for context in
        [Context::Target, Context::Header, Context::Form, Context::Json, Context::Xml, Context::Plain]
    {
        // Loops are the operator's own; they are read, and not run here.
        let _ = Template::parse(&source, context).map(|template| template.names().len());
    }
    stays_in_its_place(&text);

    let reference = Reference::parse(source.trim()).ok();
    for found in reference.iter().flat_map(|reference| reference.find(body)) {
        assert!(found.len() <= 3 * body.len());
    }
    let Ok(all) = Rule::parse_all(source.trim()) else { return };
    let mut rules = Rules::default();
    for (_, verdict) in Verdict::ALL {
        rules.set(verdict, all.clone());
    }
    for status in [200, 302, 404, 500] {
        let status = StatusCode::from_u16(status).expect("a status");
        let answer = Answer { status, headers: HeaderMap::new(), body: body.to_vec().into(), readable: true };
        for accepted in [true, false] {
            assert_eq!(rules.judge(&answer, accepted), rules.judge(&answer, accepted));
        }
    }
}

fn stays_in_its_place(text: &str) {
    let mut values = Values::default();
    values.set("text", text);
    let render = |source: &str, context| {
        let template = Template::parse(source, context).expect("a template");
        template.render(&values)
    };
    let json =
        render(r#"{"a": "<{{ text }}>", "b": {{ text }}, "end": 1}"#, Context::Json).expect("rendered");
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(read, serde_json::json!({"a": format!("<{text}>"), "b": text, "end": 1}));

    let form = render("to=112&text={{ text }}&end=1", Context::Form).expect("rendered");
    let read: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    assert_eq!((read.len(), read[1].1.as_str()), (3, text), "{form}");

    let xml = render("<m a='{{ text }}'><t>{{ text }}</t></m>", Context::Xml).expect("rendered");
    assert_eq!(xml.matches('<').count(), 4, "{xml}");
    let quotes = xml.matches('\'').count();
    assert_eq!(quotes, 2, "{xml}");

    if let Ok(header) = render("X {{ text }}", Context::Header) {
        assert!(!header.contains(['\r', '\n', '\0']), "{header}");
    }
}
