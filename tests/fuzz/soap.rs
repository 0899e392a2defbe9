//! SOAP: whatever comes back is read or refused within bounds, and no text leaves its element in what goes out.

use smsd::dispatch::soap::{self, Reply, Unreadable};

/// The input: the name of the reference's element on a line, then the answer, which is also a text.
pub(crate) fn run(data: &[u8]) {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (name, rest) = data.split_at(at);
    let name = String::from_utf8_lossy(name);
    let body = rest.get(1..).unwrap_or_default();

    for reference in [None, Some(&*name).filter(|name| !name.is_empty())] {
        match soap::read(body, reference) {
            Ok(Reply::Result { reference: found, .. }) => {
                assert!(found.is_none() || reference.is_some());
                assert!(found.is_none_or(|found| !found.is_empty()));
            }
            Ok(Reply::Fault { code, words }) => assert!(code.len() + words.len() <= body.len() * 3),
            Err(Unreadable::Xml | Unreadable::DocumentType | Unreadable::Large | Unreadable::Envelope) => {}
        }
    }
    // A document type is refused, wherever it stands before the root.
    let bomb = [b"<!DOCTYPE x [<!ENTITY a 'b'>]>", body].concat();
    assert!(soap::read(&bomb, None).is_err());

    let text = String::from_utf8_lossy(body);
    let call = |text: &str| soap::call("sendMessage", None, [("v1", text)].into_iter()).expect("a call");
    let (made, plain) = (call(&text), call(""));
    let made = String::from_utf8(made).expect("UTF-8");
    let marks = |document: &str| (document.matches('<').count(), document.matches("&").count());
    let (elements, escapes) = marks(&made);
    let empty = String::from_utf8(plain).expect("UTF-8");
    // An empty element may be written shorter.
    assert!(elements.abs_diff(marks(&empty).0) <= 1, "{made}");
    let special = text.chars().filter(|c| matches!(c, '<' | '>' | '&' | '"' | '\'')).count();
    assert!(escapes <= special + 2 * text.matches('\r').count(), "{made}");
    // What was written can be read: our own call is an envelope with a body in which something stands.
    assert!(soap::read(made.as_bytes(), None).is_ok(), "{made}");
}
