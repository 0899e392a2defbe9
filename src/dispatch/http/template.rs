//! Templates whose values can not leave their place.
//!
//! The language is minijinja's, with undefined names refused. What the operator wrote goes out byte for byte. What
//! is put in with `{{ … }}` is escaped for the very spot where it lands: rendering marks each value, and a second
//! pass reads the result as its consumer will (am I inside a JSON string, an XML attribute, a query?) and escapes it
//! for that. So a template needs no filter to be safe, and none makes it unsafe. Where a value can not stand at all,
//! such as in an XML tag, the template is refused.
//!
//! Beside minijinja's own there are the filter `utf16_hex` (UTF-16 in big-endian order, as hexadecimal digits) and the
//! test `ascii`, for gateways that want to be told how a text is coded.
//!
//! Deliberately absent: includes, macros and inheritance; the filter `safe`.

use std::collections::BTreeMap;

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use crate::dispatch::url_template;

/// What is being written, and so how values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Path and query of a URL: percent-encoded (RFC 3986 §2.1).
    Target,
    /// The value of a header field: as it is; what can not stand there is refused.
    Header,
    /// `application/x-www-form-urlencoded`: percent-encoded. Line ends are for the reader of the template.
    Form,
    /// JSON (RFC 8259): inside a string as a piece of it, else as a value of its own.
    Json,
    /// XML 1.0: in text and in attributes. What XML can not hold (most control characters) becomes U+FFFD.
    Xml,
    /// `text/plain`: as it is. There is nothing that it could leave.
    Plain,
}

/// A template, parsed.
#[derive(Clone)]
pub struct Template {
    context: Context,
    engine: Environment<'static>,
    source: String,
    names: Vec<String>,
}

/// Why a template can not be used. The words may quote the template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TemplateError {
    /// The line of the template, from 1, if that is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Its syntax, or a control character that is no tab and no line end.
    pub fn parse(source: &str, context: Context) -> Result<Template, TemplateError> {
        if let Some(at) = source.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            let line = source.get(..at).unwrap_or_default().matches('\n').count() + 1;
            return Err(TemplateError {
                line: Some(line),
                problem: "a control character stands in it".into(),
            });
        }
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = engine.syntax().to_builder().keep_trailing_newline(true).build()?;
        engine.set_syntax(syntax);
        engine.set_auto_escape_callback(|_| AutoEscape::Custom("where it lands".into()));
        engine.set_formatter(mark);
        engine.remove_filter("safe");
        engine.add_filter("utf16_hex", utf16_hex);
        engine.add_test("ascii", |text: &str| text.is_ascii());
        engine.add_template_owned(NAME, source.to_owned())?;
        let globals: Vec<String> = engine.globals().map(|(name, _)| name.to_owned()).collect();
        let mut names: Vec<String> =
            engine.get_template(NAME)?.undeclared_variables(true).into_iter().map(root).collect();
        names.retain(|name| !globals.contains(name));
        names.sort();
        names.dedup();
        Ok(Template { context, engine, source: source.to_owned(), names })
    }

    /// The names that it asks for, sorted: `text`, `var.account`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What is being written.
    pub fn context(&self) -> Context {
        self.context
    }

    /// The text with these values in their places.
    ///
    /// # Errors
    /// A name or a filter that is not there, and a value where none can stand.
    pub fn render(&self, values: &Values) -> Result<String, TemplateError> {
        let marked = self.engine.get_template(NAME)?.render(values.nested())?;
        let mut writer =
            Writer { context: self.context, out: String::with_capacity(marked.len()), at: Spot::Text };
        for (n, piece) in marked.split(START).enumerate() {
            let (value, literal) = match piece.split_once(END) {
                Some((value, literal)) if n > 0 => (Some(value), literal),
                _ => (None, piece),
            };
            if let Some(value) = value.and_then(|value| serde_json::from_str(value).ok()) {
                writer.value(&value).map_err(|problem| TemplateError {
                    line: Some(writer.out.matches('\n').count() + 1),
                    problem: problem.into(),
                })?;
            }
            writer.literal(literal);
        }
        Ok(writer.out)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        (self.context, &self.source) == (other.context, &other.source)
    }
}

impl std::fmt::Debug for Template {
    /// Without its words: they may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("context", &self.context).field("names", &self.names).finish()
    }
}

/// What is put into templates: a name such as `text`, or `var.account`, and its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// Sets a name to a value.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Is the name there?
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// As the engine wants them: what begins with `var.` in a map of its own.
    fn nested(&self) -> Value {
        let mut flat = self.0.clone();
        let own = flat.extract_if("var.".to_owned().., |name, _| name.starts_with("var."));
        let own: BTreeMap<String, Value> =
            own.map(|(name, value)| (name.trim_start_matches("var.").to_owned(), value)).collect();
        flat.insert("var".to_owned(), own.into());
        flat.into()
    }
}

impl From<Error> for TemplateError {
    fn from(error: Error) -> TemplateError {
        let problem = match (error.kind(), error.detail()) {
            (ErrorKind::UndefinedError, None) => "a name in it is not defined".to_owned(),
            (kind, None) => kind.to_string(),
            (_, Some(detail)) => detail.to_owned(),
        };
        TemplateError { line: error.line(), problem }
    }
}

/// The one template of an engine.
const NAME: &str = "template";

/// Begins a value that has been marked. No template has it, and in a marked value it is escaped.
const START: char = '\u{1}';
/// Ends one.
const END: char = '\u{2}';

/// `var.account.x` is a piece of `var.account`, `text.x` one of `text`.
fn root(name: String) -> String {
    let parts = if name.starts_with("var.") { 2 } else { 1 };
    name.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// Writes a value as JSON between two marks; JSON has no control character.
fn mark(out: &mut Output, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_safe() {
        let problem =
            "what a block or `escape` has made of a value can not be put out; put out the value itself";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let json = match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Bool => serde_json::Value::Bool(value.is_true()),
        ValueKind::None => {
            return Err(Error::new(ErrorKind::InvalidOperation, "it puts out a value that is not set"));
        }
        ValueKind::Number => {
            i64::try_from(value.clone()).map_or_else(|_| value.to_string().into(), Into::into)
        }
        _ => value.to_string().into(),
    };
    out.write_str(&format!("{START}{json}{END}")).map_err(Error::from)
}

fn utf16_hex(text: &str) -> String {
    hex::encode(text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>())
}

/// Where the writer stands.
#[derive(Clone, Copy, PartialEq)]
enum Spot {
    /// Outside of anything: between JSON values, in XML text.
    Text,
    /// In a JSON string; true behind a backslash.
    String(bool),
    /// In an XML tag, outside of its attributes' values.
    Tag,
    /// In an attribute's value that ends with this.
    Attribute(char),
    /// In XML that is neither text nor tag, and ends with this.
    Until(&'static str),
}

/// Writes literals and values one after the other and knows where it stands.
struct Writer {
    context: Context,
    out: String,
    at: Spot,
}

impl Writer {
    fn literal(&mut self, literal: &str) {
        match self.context {
            Context::Json => literal.chars().for_each(|c| self.json(c)),
            Context::Xml => literal.chars().for_each(|c| self.xml(c)),
            Context::Form => self.out.extend(literal.split('\n')),
            Context::Target | Context::Header | Context::Plain => self.out.push_str(literal),
        }
    }

    fn json(&mut self, c: char) {
        self.out.push(c);
        self.at = match (self.at, c) {
            (Spot::String(false), '"') => Spot::Text,
            (Spot::String(false), '\\') => Spot::String(true),
            (Spot::String(_), _) => Spot::String(false),
            (_, '"') => Spot::String(false),
            (at, _) => at,
        };
    }

    fn xml(&mut self, c: char) {
        self.out.push(c);
        self.at = match (self.at, c) {
            (Spot::Text, '<') => Spot::Tag,
            (Spot::Tag, '>') | (Spot::Attribute('>'), '>') => Spot::Text,
            (Spot::Tag, '"' | '\'') => Spot::Attribute(c),
            (Spot::Tag, _) if self.out.ends_with("<?") => Spot::Until("?>"),
            (Spot::Tag, _) if self.out.ends_with("<!--") => Spot::Until("-->"),
            (Spot::Tag, _) if self.out.ends_with("<![CDATA[") => Spot::Until("]]>"),
            (Spot::Attribute(end), _) if c == end => Spot::Tag,
            (Spot::Until(end), _) if self.out.ends_with(end) => Spot::Text,
            (at, _) => at,
        };
    }

    fn value(&mut self, value: &serde_json::Value) -> Result<(), &'static str> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match (self.context, self.at) {
            (Context::Target, _) => url_template::place(&mut self.out, &text),
            (Context::Form, _) => self.out.extend(url_template::escape(&text)),
            (Context::Json, Spot::String(true)) => return Err("a value stands behind a backslash"),
            (Context::Json, Spot::String(_)) => {
                let json = serde_json::Value::from(text).to_string();
                self.out.push_str(json.get(1..json.len() - 1).unwrap_or_default());
            }
            (Context::Json, _) => self.out.push_str(&value.to_string()),
            (Context::Xml, Spot::Text | Spot::Attribute(_)) => text.chars().for_each(|c| self.xml_escape(c)),
            (Context::Xml, Spot::Tag) => {
                return Err("a value stands in a tag; put it into text or \"quotes\"");
            }
            (Context::Xml, _) => return Err("a value stands in a comment, in CDATA or in <? … ?>"),
            (Context::Header, _) if text.contains(|c: char| !matches!(c, ' '..='~')) => {
                return Err("a value for a header has other characters than those of ASCII");
            }
            (Context::Header | Context::Plain, _) => self.out.push_str(&text),
        }
        Ok(())
    }

    /// XML 1.0 §2.2 (which characters there are), §2.11 and §3.3.3 (which white space a parser changes).
    fn xml_escape(&mut self, c: char) {
        match c {
            '&' => self.out.push_str("&amp;"),
            '<' => self.out.push_str("&lt;"),
            '>' => self.out.push_str("&gt;"),
            '"' => self.out.push_str("&quot;"),
            '\'' => self.out.push_str("&apos;"),
            '\t' | '\n' | '\r' => self.out.push_str(&format!("&#{};", u32::from(c))),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                self.out.push(char::REPLACEMENT_CHARACTER)
            }
            c => self.out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Values {
        let mut values = Values::default();
        values.set("text", text);
        values.set("n", 7_u64);
        values.set("yes", true);
        values.set("none", ());
        values.set("var.a", text);
        values
    }

    fn rendered(template: &str, context: Context, text: &str) -> Result<String, TemplateError> {
        Template::parse(template, context)?.render(&values(text))
    }

    #[test]
    fn what_was_written_stays_and_values_know_where_they_land() {
        for (context, template, want) in [
            (
                Context::Json,
                r#"{"a": {{ n }}, "b": {{ yes }}, "c": "{{ n }}{{ yes }}"}"#,
                r#"{"a": 7, "b": true, "c": "7true"}"#,
            ),
            (Context::Json, r#"["\"{{ text }}", {{ text }}, {{ var.a }}]"#, r#"["\"a\"b", "a\"b", "a\"b"]"#),
            (Context::Json, r#"{% for x in [1, 2] %}{{ x }},{% endfor %}{{ text ~ "<" }}"#, r#"1,2,"a\"b<""#),
            (Context::Json, "{% if text is ascii %}{{ text|upper }}{% endif %}\n", "\"A\\\"B\"\n"),
            (
                Context::Xml,
                "<a b='{{ text }}' c=\"{{ n }}\">{{ text }}<!-- ' --></a>",
                "<a b='a&quot;b' c=\"7\">a&quot;b<!-- ' --></a>",
            ),
            (Context::Xml, "<?x '?><![CDATA[ < ]]>{{ text }}", "<?x '?><![CDATA[ < ]]>a&quot;b"),
            (Context::Form, "a=%zz&b={{ text }}\n&c={{ yes }}", "a=%zz&b=a%22b&c=true"),
            (Context::Target, "/{{ n }}?{{ text }}", "/7?a%22b"),
            (Context::Header, "Key {{ text }}", "Key a\"b"),
            (Context::Plain, "{{ text }}{# why #}", "a\"b"),
            (Context::Plain, "{{ text|utf16_hex }}", "006100220062"),
        ] {
            assert_eq!(rendered(template, context, "a\"b").as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn what_can_not_be_put_out_is_refused() {
        for (context, template, want) in [
            (Context::Json, "{{ text", "unexpected end"),
            (Context::Json, "{{ missing }}", "not defined"),
            (Context::Json, "{% if missing %}x{% endif %}", "not defined"),
            (Context::Json, "{{ none }}", "not set"),
            (Context::Json, "{{ text|safe }}", "filter safe is unknown"),
            (Context::Json, "{{ text|escape }}", "`escape`"),
            (Context::Json, "{% set x %}{{ text }}{% endset %}{{ x }}", "a block"),
            (Context::Json, "{% include 'x' %}", "unknown statement include"),
            (Context::Json, "\"\\{{ text }}\"", "backslash"),
            (Context::Json, "a\u{1}b", "control character"),
            (Context::Xml, "<a {{ text }}>", "in a tag"),
            (Context::Xml, "<{{ text }}>", "in a tag"),
            (Context::Xml, "<!-- {{ text }} -->", "in a comment"),
            (Context::Xml, "<![CDATA[{{ text }}]]>", "in CDATA"),
            (Context::Header, "{{ 'å' }}", "ASCII"),
        ] {
            let error = rendered(template, context, "x").unwrap_err();
            assert!(error.problem.contains(want), "{template}: {error:?}");
        }
        let error = Template::parse("\n\n{{ x y }}", Context::Json).unwrap_err();
        assert_eq!(error.line, Some(3));
        let names =
            Template::parse("{{ text.x }}{{ var.a.b }}{{ range(3) }}{% set q = 1 %}{{ q }}", Context::Plain);
        assert_eq!(names.unwrap().names(), ["text", "var.a"]);
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in "([\"\\\\<>&'{}%#\r\n\u{1}\u{2}]|\\PC|[a-z0-9]){0,20}") {
            let json = rendered(r#"{"a": "-{{ text }}-", "b": [{{ text }}]}"#, Context::Json, &text).unwrap();
            let found: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(found, serde_json::json!({"a": format!("-{text}-"), "b": [text]}));

            let xml = rendered("<a b=\"{{ text }}\">{{ text }}</a>", Context::Xml, &text).unwrap();
            prop_assert_eq!(xml.matches(['<', '>']).count(), 4, "{}", xml);
            prop_assert_eq!(xml.matches(['"', '\'']).count(), 2, "{}", xml);

            let form = rendered("a={{ text }}&b=1", Context::Form, &text).unwrap();
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs, [("a".to_owned(), text.clone()), ("b".to_owned(), "1".to_owned())]);
        }

        #[test]
        fn no_template_breaks_it(template in "(\\{\\{|\\}\\}|\\{%|%\\}|[ a-z\"'<>|.~=]|text|if|endif|set|for x in|autoescape false){0,25}") {
            for context in [Context::Json, Context::Xml, Context::Form, Context::Target, Context::Header, Context::Plain] {
                let _ = rendered(&template, context, "x");
            }
        }
    }
}
