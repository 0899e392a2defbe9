//! SOAP 1.1 calls in RPC style with section 5 encoding: the envelope that goes out, and what an answer says.
//!
//! The envelope is the one that SOAPpy, which NAV used, makes of a call: the schema namespaces of 1999, every argument a
//! string, no namespace on the method unless one is configured. A serializer writes it, so no text becomes markup.
//!
//! An answer is hostile: at most 64 KiB of it come here, a document type is refused (and with it every entity of its
//! own), depth and number of elements are bounded, and names are compared without their namespaces, since services
//! differ in nothing more. Deliberately absent: WSDL, headers, SOAP 1.2 calls (faults in its form are understood),
//! attachments.

use std::io;

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};

/// SOAP 1.1 §3.
const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// SOAP 1.1 §5.
const ENCODING: &str = "http://schemas.xmlsoap.org/soap/encoding/";

/// Elements inside each other, at most.
const DEPTH_MAX: usize = 32;

/// Elements of an answer, at most.
const ELEMENTS_MAX: usize = 1000;

/// A call of `method` with named string arguments, as the bytes of an XML document in UTF-8.
///
/// Characters that XML 1.0 (§2.2) can not carry are left out, as control characters are left out of every SMS before it
/// comes to a dispatcher.
///
/// # Errors
/// None in practice: writing to memory does not fail.
pub fn call<'a>(
    method: &str,
    namespace: Option<&str>,
    arguments: impl Iterator<Item = (&'a str, &'a str)>,
) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut envelope = BytesStart::new("SOAP-ENV:Envelope");
    envelope.extend_attributes([
        ("SOAP-ENV:encodingStyle", ENCODING),
        ("xmlns:SOAP-ENV", ENVELOPE),
        ("xmlns:SOAP-ENC", ENCODING),
        ("xmlns:xsd", "http://www.w3.org/1999/XMLSchema"),
        ("xmlns:xsi", "http://www.w3.org/1999/XMLSchema-instance"),
    ]);
    let body = BytesStart::new("SOAP-ENV:Body");
    let mut called =
        BytesStart::new(if namespace.is_some() { format!("ns1:{method}") } else { method.into() });
    called.extend_attributes(namespace.map(|namespace| ("xmlns:ns1", namespace)));
    called.push_attribute(("SOAP-ENC:root", "1"));

    let around = [envelope, body, called];
    for start in &around {
        writer.write_event(Event::Start(start.borrow()))?;
    }
    for (name, value) in arguments {
        let argument = writer.create_element(name).with_attribute(("xsi:type", "xsd:string"));
        let value: String = value.chars().filter(|c| is_xml(*c)).collect();
        argument.write_text_content(BytesText::new(&value))?;
    }
    for start in around.iter().rev() {
        writer.write_event(Event::End(start.to_end()))?;
    }
    Ok(writer.into_inner())
}

/// XML 1.0 §2.2.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..) && !matches!(c, '\u{FFFE}' | '\u{FFFF}')
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The method came to its end.
    Result {
        /// Its result is true; see [`read`].
        truth: bool,
        /// The text of the element that was asked for, if it is there and not empty.
        reference: Option<String>,
    },
    /// It did not.
    Fault {
        /// `faultcode` without its prefix: `Client`, `Server.userException`; may be empty. Foreign.
        code: String,
        /// `faultstring`: for people, may be empty. Foreign.
        words: String,
    },
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not well-formed, cut off, or with an entity that XML itself does not have.
    #[error("no whole XML document")]
    Xml,
    /// It has a document type, which SOAP forbids (SOAP 1.1 §3).
    #[error("XML with a document type")]
    DocumentType,
    /// Beyond what a service has reason to write.
    #[error("XML with more than {DEPTH_MAX} levels or {ELEMENTS_MAX} elements")]
    Large,
    /// No envelope with a body in which something stands.
    #[error("no SOAP envelope")]
    Envelope,
}

/// Reads an answer. `reference` names the element whose text is wanted besides.
///
/// The result is the first element within the response, wherever a `href` says that it stands (SOAP 1.1 §5.4.1). It is
/// true as in NAV, where Python judges it: neither missing nor nil nor empty, neither a number that is 0 nor `false`, which
/// services send without saying that it is no string. One that has elements of its own is true.
///
/// # Errors
/// [`Unreadable`] for whatever is no SOAP answer.
pub fn read(answer: &[u8], reference: Option<&str>) -> Result<Reply, Unreadable> {
    let root = Element::document(&String::from_utf8_lossy(answer))?;
    let body = Some(&root).filter(|root| root.name == "Envelope").and_then(|root| root.child("Body"));
    let body = body.ok_or(Unreadable::Envelope)?;
    let response = body.children.first().ok_or(Unreadable::Envelope)?;
    if response.name == "Fault" {
        // The second forms are those of SOAP 1.2 §5.4.
        let text = |path: &[&str]| response.at(path).map(|found| found.text.trim()).unwrap_or_default();
        let either = |old, new| Some(text(&[old])).filter(|t| !t.is_empty()).unwrap_or_else(|| text(new));
        let code = either("faultcode", &["Code", "Value"]);
        return Ok(Reply::Fault {
            code: local(code).to_owned(),
            words: either("faultstring", &["Reason", "Text"]).to_owned(),
        });
    }
    let truth = response.children.first().is_some_and(|result| result.pointed_at(body).is_true());
    let reference =
        reference.and_then(|name| body.find(name)).map(|found| found.pointed_at(body).text.trim());
    Ok(Reply::Result { truth, reference: reference.filter(|text| !text.is_empty()).map(str::to_owned) })
}

#[derive(Default)]
struct Element {
    /// Without its prefix.
    name: String,
    text: String,
    nil: bool,
    id: Option<String>,
    href: Option<String>,
    children: Vec<Element>,
}

impl Element {
    /// The root of a document.
    fn document(text: &str) -> Result<Element, Unreadable> {
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        let mut open = vec![Element::default()];
        let mut elements = 0;
        loop {
            let event = reader.read_event().map_err(|_| Unreadable::Xml)?;
            let Some(innermost) = open.last_mut() else { return Err(Unreadable::Xml) };
            match event {
                Event::Start(start) => {
                    elements += 1;
                    if elements > ELEMENTS_MAX || open.len() > DEPTH_MAX {
                        return Err(Unreadable::Large);
                    }
                    open.push(Element::begun(&start)?);
                }
                Event::Empty(start) => {
                    elements += 1;
                    if elements > ELEMENTS_MAX {
                        return Err(Unreadable::Large);
                    }
                    innermost.children.push(Element::begun(&start)?);
                }
                Event::End(_) => {
                    let ended = open.pop().ok_or(Unreadable::Xml)?;
                    open.last_mut().ok_or(Unreadable::Xml)?.children.push(ended);
                }
                Event::Text(text) => innermost.text.push_str(&text.xml10_content()),
                Event::CData(text) => innermost.text.push_str(&text.xml10_content()),
                Event::GeneralRef(entity) => match entity.resolve_char_ref().map_err(|_| Unreadable::Xml)? {
                    Some(c) => innermost.text.push(c),
                    None => innermost.text.push_str(resolve_xml_entity(&entity).ok_or(Unreadable::Xml)?),
                },
                Event::DocType(_) => return Err(Unreadable::DocumentType),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        match (open.pop(), open.pop()) {
            (Some(mut document), None) if document.children.len() == 1 => {
                document.children.pop().ok_or(Unreadable::Xml)
            }
            _ => Err(Unreadable::Xml),
        }
    }

    fn begun(start: &BytesStart<'_>) -> Result<Element, Unreadable> {
        let mut element = Element { name: local(start.name().as_ref()).to_owned(), ..Element::default() };
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| Unreadable::Xml)?;
            let value = attribute.value.trim();
            match local(attribute.key.as_ref()) {
                "nil" | "null" => element.nil = matches!(value, "true" | "1"),
                "id" => element.id = Some(value.to_owned()),
                "href" => element.href = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(element)
    }

    fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The first element of that name inside this one, in the order of the document.
    fn find(&self, name: &str) -> Option<&Element> {
        self.children.iter().find_map(|child| if child.name == name { Some(child) } else { child.find(name) })
    }

    /// What stands for this element elsewhere in the body; itself, if it stands for itself.
    fn pointed_at<'a>(&'a self, body: &'a Element) -> &'a Element {
        let id = self.href.as_deref().and_then(|href| href.strip_prefix('#'));
        id.and_then(|id| body.children.iter().find(|e| e.id.as_deref() == Some(id))).unwrap_or(self)
    }

    fn is_true(&self) -> bool {
        let text = self.text.trim();
        let none = self.nil || text.is_empty() || text.eq_ignore_ascii_case("false");
        !self.children.is_empty() || !(none || text.parse::<f64>() == Ok(0.0))
    }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(inner: &str) -> String {
        format!("<s:Envelope xmlns:s=\"x\"><s:Header><a/></s:Header><s:Body>{inner}</s:Body></s:Envelope>")
    }

    fn result(inner: &str) -> Result<Reply, Unreadable> {
        read(
            response(&format!("<n:sendMessageResponse>{inner}</n:sendMessageResponse>")).as_bytes(),
            Some("id"),
        )
    }

    fn truth(truth: bool) -> Result<Reply, Unreadable> {
        Ok(Reply::Result { truth, reference: None })
    }

    #[test]
    fn a_result_is_true_or_false_as_it_stands() {
        for (text, want) in [
            ("true", true),
            ("True", true),
            ("1", true),
            ("-1", true),
            ("0.5", true),
            ("4711", true),
            ("OK", true),
            (" sent ", true),
            ("<a>false</a>", true),
            ("<![CDATA[yes]]>", true),
            ("&#49;", true),
            ("false", false),
            ("FALSE", false),
            (" 0 ", false),
            ("0.0", false),
            ("-0", false),
            ("", false),
            ("\n", false),
            ("<![CDATA[0]]>", false),
            ("&#48;", false),
        ] {
            assert_eq!(result(&format!("<r xsi:type=\"xsd:string\">{text}</r>")), truth(want), "{text}");
        }
        assert_eq!(result("<r xsi:nil=\"true\">1</r>"), truth(false));
        assert_eq!(result("<r xsi:nil=\"false\">1</r>"), truth(true));
        assert_eq!(result("<r/>"), truth(false));
        assert_eq!(result(""), truth(false), "a method without a result");
        assert_eq!(result("<a>0</a><b>1</b>"), truth(false), "the first is the result");
    }

    #[test]
    fn results_elsewhere_in_the_body_are_found() {
        let body = |value: &str| {
            let refer = "<r:sendMessageResponse><sendMessageReturn href=\"#id0\"/></r:sendMessageResponse>";
            response(&format!("{refer}<multiRef id=\"id0\" xsi:type=\"xsd:boolean\">{value}</multiRef>"))
        };
        assert_eq!(read(body("true").as_bytes(), None), truth(true));
        assert_eq!(read(body("false").as_bytes(), None), truth(false));
        assert_eq!(result("<r href=\"#nowhere\"/>"), truth(false));
    }

    #[test]
    fn the_reference_is_the_text_of_its_element() {
        let with = |reference: &str| Ok(Reply::Result { truth: true, reference: Some(reference.into()) });
        assert_eq!(result("<r><x:id> 47&amp;11 </x:id><id>2</id></r>"), with("47&11"));
        assert_eq!(result("<r>1</r><id>a</id>"), with("a"));
        assert_eq!(result("<r>1</r><id/>"), truth(true));
    }

    #[test]
    fn faults_are_told_in_both_forms() {
        let fault = |inner: &str| read(response(&format!("<s:Fault>{inner}</s:Fault>")).as_bytes(), None);
        let want = |code: &str, words: &str| Ok(Reply::Fault { code: code.into(), words: words.into() });
        assert_eq!(
            fault("<faultcode>s:Server.userException</faultcode><faultstring>a &lt; b</faultstring>"),
            want("Server.userException", "a < b")
        );
        assert_eq!(
            fault("<s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text>no</s:Text></s:Reason>"),
            want("Sender", "no")
        );
        assert_eq!(fault(""), want("", ""));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let deep = |n: usize| response(&format!("{}{}", "<a>".repeat(n), "</a>".repeat(n)));
        let wide = response(&"<a/>".repeat(2000));
        let bomb =
            "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]>".to_owned() + &response("<r>&b;</r>");
        let attributes = response(&format!("<r{}/>", " a=\"1\"".repeat(8000)));
        for (answer, want) in [
            ("", Unreadable::Xml),
            ("OK", Unreadable::Xml),
            ("{\"ok\": true}", Unreadable::Xml),
            ("<html><p>no</html>", Unreadable::Xml),
            ("<html><p>no</p></html>", Unreadable::Envelope),
            ("<Envelope/>", Unreadable::Envelope),
            ("<Envelope><Body> </Body></Envelope>", Unreadable::Envelope),
            ("<Envelope><Body><a>", Unreadable::Xml),
            ("<Envelope><Body><a>1</a></Body></Envelope><Envelope/>", Unreadable::Xml),
            (&response("<r>&x;</r>"), Unreadable::Xml),
            (&response("<r>&#0;</r>"), Unreadable::Xml),
            (&response("<r>&#xffffffffff;</r>"), Unreadable::Xml),
            (&bomb, Unreadable::DocumentType),
            (&deep(DEPTH_MAX), Unreadable::Large),
            (&deep(10_000), Unreadable::Large),
            (&wide, Unreadable::Large),
        ] {
            assert_eq!(read(answer.as_bytes(), None), Err(want), "{answer:.200}");
        }
        assert_eq!(read(attributes.as_bytes(), None), truth(false));
        assert_eq!(read(deep(DEPTH_MAX - 2).as_bytes(), None), truth(true), "this depth is still read");
    }

    proptest! {
        #[test]
        fn any_text_is_one_argument(text in any::<String>(), other in "\\PC*") {
            let call = call("m", Some(&other), [("a", text.as_str()), ("b", "2")].into_iter()).unwrap();
            let root = Element::document(std::str::from_utf8(&call).unwrap()).unwrap();
            let method = &root.children[0].children[0];
            let carried: String = text.chars().filter(|c| is_xml(*c)).collect();
            prop_assert_eq!(method.children.len(), 2);
            prop_assert_eq!(&method.children[0].text, &carried);
            prop_assert!(method.children[0].children.is_empty());
            prop_assert_eq!(&method.children[1].text, "2");
        }

        #[test]
        fn no_answer_breaks_the_reader(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "<", ">", "/", "a", "s:Envelope", "Body", "Fault", "<a>", "</a>", "&", "#1;", "\"", "=", "<!", "<?",
                "--", "[", "]]>", "<![CDATA[", " ", "\0", "é",
            ]), 0..60)
        ) {
            let _ = read(pieces.concat().as_bytes(), Some("a"));
            let _ = read(response(&pieces.concat()).as_bytes(), Some("a"));
        }
    }
}
