//! Templates by which an operator says what a foreign body means: whom it is for, what the SMS says.
//!
//! The language is minijinja's, with undefined names refused. What comes out is plain text and nothing else: it is a
//! number that is judged as one, or the text of an alert, which is cleaned when the SMS is composed. So nothing is
//! escaped here, unlike in the templates of a gateway.
//!
//! A template is the operator's and the values are a stranger's: how much work a rendering may be, and how much may come
//! out, is bounded. Deliberately absent: includes, macros and inheritance.

use std::collections::BTreeMap;
use std::io;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value as Json;

/// Bytes that a rendering makes at most: more than a dozen parts of an SMS. What is behind them is cut.
pub const MADE_MAX: usize = 4 * 1024;
/// Bytes of a template at most.
const SOURCE_MAX: usize = 64 * 1024;
/// Instructions of a rendering at most.
const FUEL: u64 = 100_000;
/// Instructions of all renderings of one body.
pub const STEPS: u64 = 10 * FUEL;
/// Up to here a floating number tells each whole one from the next (2^53).
const WHOLE: f64 = 9_007_199_254_740_992.0;
/// The one template of an engine.
const NAME: &str = "template";
/// What stands for the rest of what was cut.
const DOTS: &str = "...";

/// A template, parsed.
#[derive(Clone)]
pub struct Template {
    engine: Environment<'static>,
    names: Vec<String>,
}

/// Why a template can not be used, or could not be rendered. The words may quote the template, and no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", .line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub struct TemplateError {
    /// The line of the template, from 1, if that is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// It will be wrong whatever the values are.
    pub always: bool,
}

/// What a template is given. Cheap to clone.
pub type Values = BTreeMap<String, Value>;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Its syntax, or its size.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        if source.len() > SOURCE_MAX {
            let problem = format!("it is longer than {SOURCE_MAX} bytes");
            return Err(TemplateError { line: None, problem, always: true });
        }
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_fuel(Some(FUEL));
        engine.add_template_owned(NAME, source.to_owned())?;
        let globals: Vec<String> = engine.globals().map(|(name, _)| name.to_owned()).collect();
        let mut names: Vec<String> =
            engine.get_template(NAME)?.undeclared_variables(true).into_iter().collect();
        names.retain(|name| !globals.contains(name));
        names.sort();
        Ok(Template { engine, names })
    }

    /// The names that it asks for, as far as it can be read off, sorted: `alert.labels.instance`, `body`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The text with these values in their places, without the white space around it.
    ///
    /// # Errors
    /// A name or a filter that is not there, and work without end.
    pub fn render(&self, values: &Values) -> Result<String, TemplateError> {
        self.render_within(values.clone().into(), &mut STEPS.clone())
    }

    /// The same with what the caller has made of its values, for who renders often: each takes its steps of what is left.
    ///
    /// # Errors
    /// As [`Template::render`]; also if nothing is left.
    pub fn render_within(&self, values: Value, steps: &mut u64) -> Result<String, TemplateError> {
        if *steps == 0 {
            return Err(Error::from(ErrorKind::OutOfFuel).into());
        }
        let mut made = Bounded::default();
        let rendered = self.engine.get_template(NAME)?.render_captured_to(values, &mut made);
        let taken = rendered.as_ref().ok().and_then(|done| done.state().fuel_levels());
        *steps = steps.saturating_sub(taken.map_or(FUEL, |(taken, _)| taken));
        if !made.full {
            rendered?;
        }
        let text = String::from_utf8_lossy(&made.bytes);
        // NUL is in no text that a database takes.
        let mut text = text.trim().replace('\0', "");
        if made.full {
            cut(&mut text, MADE_MAX);
        }
        Ok(text)
    }

    /// What would be wrong whatever the values are: a filter that is not there. `values` is what it could be given.
    ///
    /// # Errors
    /// The same as [`Template::render`], if it is [`TemplateError::always`] so.
    pub fn try_on(&self, values: &Values) -> Result<(), TemplateError> {
        self.render(values).map(drop).or_else(|error| if error.always { Err(error) } else { Ok(()) })
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("names", &self.names).finish_non_exhaustive()
    }
}

impl From<Error> for TemplateError {
    fn from(error: Error) -> TemplateError {
        let problem = match (error.kind(), error.detail()) {
            (ErrorKind::UndefinedError, _) => {
                "what it asks for is not there; |default(\"\") says what stands in its place".to_owned()
            }
            (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
            (kind, None) => kind.to_string(),
            (_, Some(detail)) => detail.to_owned(),
        };
        let by_values = matches!(
            error.kind(),
            ErrorKind::UndefinedError
                | ErrorKind::InvalidOperation
                | ErrorKind::NonPrimitive
                | ErrorKind::NonKey
                | ErrorKind::CannotUnpack
                | ErrorKind::OutOfFuel
        );
        TemplateError { line: error.line(), problem, always: !by_values }
    }
}

/// A value of JSON as templates see it.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), ..) => Value::from(n),
            (_, Some(n), _) => Value::from(n),
            // What spreadsheets and languages without whole numbers make of one: `4790000001.0`.
            (.., Some(n)) if n.fract() == 0.0 && n.abs() <= WHOLE => Value::from(n as i64),
            (.., Some(n)) => Value::from(n),
            _ => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(map) => {
            Value::from(map.iter().map(|(key, json)| (key.clone(), value(json))).collect::<Values>())
        }
    }
}

/// Cuts to so many bytes, with dots at the end.
pub(super) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max.saturating_sub(DOTS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(DOTS);
    }
}

/// Takes what is made, until it is enough.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One character more than is kept shows that there is more.
        let room = (MADE_MAX + 4).saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
        if bytes.len() > room {
            self.full = true;
            return Err(io::Error::other("enough"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str, body: Json) -> Result<String, TemplateError> {
        Template::parse(template)?.render(&Values::from([("body".to_owned(), value(&body))]))
    }

    #[test]
    fn values_come_out_as_they_are() {
        let body = json!({"a": "<&\"'>", "n": 7, "f": 1.5, "yes": true, "list": ["x", {"y": null}], "nul": "a\0b",
            "float": 4_790_000_001.0, "exponent": 4.790000001e9, "half": 0.5});
        for (template, want) in [
            ("{{ body.a }}", "<&\"'>"),
            (" {{ body.n }}{{ body.f }} \n", "71.5"),
            ("{% if body.yes %}{{ body.list[0] }}{% endif %}", "x"),
            ("{{ body.missing|default('-') }}", "-"),
            ("{{ body.nul }}", "ab"),
            ("{{ body.float }} {{ body.exponent }} {{ body.half }}", "4790000001 4790000001 0.5"),
        ] {
            assert_eq!(rendered(template, body.clone()).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn what_can_not_be_rendered_is_told() {
        for (template, want, always) in [
            ("{{ body.missing }}", "is not there", false),
            ("a\n{{ body.a.b.c }}", "line 2", false),
            ("{{ body", "unexpected end", true),
            ("{{ body|nothing }}", "nothing", true),
            ("{% include 'x' %}", "unknown statement", true),
            ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "steps", false),
        ] {
            let error = rendered(template, json!({"a": {}})).unwrap_err();
            assert!(error.to_string().contains(want), "{template}: {error}");
            assert_eq!(error.always, always, "{template}");
        }
    }

    #[test]
    fn what_comes_out_is_bounded() {
        let long = rendered("{% for x in body %}{{ x }}æ{% endfor %}", json!(vec!["y"; 10_000])).unwrap();
        assert!(long.ends_with("æ...") || long.ends_with("y..."), "{}", &long[long.len() - 8..]);
        assert!((MADE_MAX - 2..=MADE_MAX).contains(&long.len()), "{}", long.len());
        let exact = rendered("{{ body }}", json!("x".repeat(MADE_MAX))).unwrap();
        assert_eq!(exact.len(), MADE_MAX);
    }

    #[test]
    fn a_trial_forgives_what_values_may_mend() {
        let trial = |template: &str| Template::parse(template)?.try_on(&Values::new());
        assert_eq!(trial("{{ body.x }}"), Ok(()));
        assert!(trial("{{ 1|nothing }}").is_err());
        let names = Template::parse("{{ alert.labels.x }}{{ range(3) }}{% set y = 1 %}{{ y }}").unwrap();
        assert_eq!(names.names(), ["alert.labels.x"]);
    }
}
