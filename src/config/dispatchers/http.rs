//! The keys of HttpDispatcher.

mod values;

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use super::super::Secret;
use super::super::ini::Entry;
use super::super::section::{SECRET_FORMS, Section, bare};
use super::super::smsd_conf::HOUR;
use super::super::value::{self, clipped, wrong};
use crate::dispatch::http::presets::{self, Preset};
use crate::dispatch::http::rules::{Reference, Rule, RuleError, Rules, Verdict};
use crate::dispatch::http::template::{Context, Template, Values};
use crate::dispatch::http::{Auth, NAMES, Parts, Request, SETTABLE, Settings};
use crate::dispatch::http_way::{self, Identity, Way};
use values::{WantedAuth, auth, base_url, content_type, header_name, inferred, one_url, proxy, small_file};

pub(super) fn read(s: &mut Section<'_, '_>, named_by: &Entry) -> Option<Settings> {
    let faults = s.reader.faults.fatal();
    let preset = preset(s);
    let mut keys =
        Keys { named_by, preset, given: Vec::new(), values: Values::default(), secrets: Vec::new() };
    keys.constants(s);

    let method =
        s.get("method", value::one_of(&[("GET", Wanted::Get), ("POST", Wanted::Post), ("PUT", Wanted::Put)]));
    let url = keys.url(s);
    let body = keys.body(s);
    let headers = keys.headers(s);
    let auth = keys.auth(s);
    let (key_header, remembers) = idempotency(s);
    let rules = rules(s);
    let reference = s.entry("reference").and_then(|entry| {
        let parsed = Reference::parse(entry.value.text.trim());
        parsed.map_err(|wrong| wrong_rule(s, entry, wrong)).ok()
    });
    let way = way(s);
    if s.reader.faults.fatal() > faults {
        return None;
    }
    let method = match (method, &body) {
        (Some(Wanted::Get), Some(_)) => {
            keys.fault(s, "method", "method: GET has no body; expected POST or PUT".to_owned(), None);
            return None;
        }
        (Some(Wanted::Get), None) | (None, None) => Method::GET,
        (Some(Wanted::Put), _) => Method::PUT,
        (Some(Wanted::Post), _) | (None, Some(_)) => Method::POST,
    };
    let (auth, used) = auth?;
    let constants = keys.values.clone();
    let parts = Parts {
        method,
        url: url?,
        headers,
        body,
        auth,
        key_header: key_header.header(),
        constants,
        secrets: keys.secrets.clone(),
    };
    // Names first: a template that lacks one would fail for that reason below.
    let names = parts.names();
    keys.check_names(s, &names, &used);
    key_header.check(s, &keys, &names);
    if s.reader.faults.fatal() > faults {
        return None;
    }
    match Request::new(parts) {
        Ok(request) => Some(Settings { request, rules, reference, way, remembers }),
        Err(error) => {
            let line = error.line.map_or_else(String::new, |line| format!(", line {line}"));
            let unset =
                keys.preset.map(|p| p.optional.iter().filter(|name| !keys.given.contains(&name.to_string())));
            let unset: Vec<&str> = unset.into_iter().flatten().copied().collect();
            let hint = (!unset.is_empty()).then(|| format!("not set: {}", unset.join(", ")));
            let message = format!("{}{line}: {}", error.key, error.problem);
            keys.fault_in_line(s, &error.key, error.line, message, hint);
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Get,
    Post,
    Put,
}

/// Lays the keys of a preset under those of the section.
fn preset(s: &mut Section<'_, '_>) -> Option<&'static Preset> {
    let entry = s.entry("preset")?;
    let name = entry.value.text.trim();
    let Some(preset) = presets::named(name) else {
        let known = presets::all().iter().map(|preset| preset.name);
        let near = value::nearest(name, known).map(|near| format!("did you mean {near:?}?"));
        let hint = near.unwrap_or_else(|| "see smsd dispatcher presets".to_owned());
        s.fault(entry, format!("preset: found \"{}\", expected a preset", clipped(name)), hint);
        return None;
    };
    s.lay_under(&preset.entries);
    Some(preset)
}

/// What the keys come to, while they are read.
struct Keys<'k> {
    named_by: &'k Entry,
    preset: Option<&'static Preset>,
    /// The names of `values` that the configuration gives.
    given: Vec<String>,
    values: Values,
    secrets: Vec<Secret<String>>,
}

impl Keys<'_> {
    /// `username`, `password`, `token`, `sender` and `var.NAME`: what templates may ask for.
    fn constants(&mut self, s: &mut Section<'_, '_>) {
        if let Some(sender) = s.get("sender", value::line) {
            self.give("sender", sender, None);
        }
        s.are_secret("var.");
        let own = s.prefixed("var.", |name| (!name.is_empty()).then(|| name.to_owned()));
        let mut names: Vec<String> = Vec::new();
        for (name, _) in own {
            names.push(format!("var.{}", bare(&name)));
        }
        names.sort();
        names.dedup();
        names.extend(["username", "password", "token"].map(str::to_owned));
        for name in names {
            let plain =
                name.trim_start_matches("var.").chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !plain {
                let message = format!("{}: expected letters, digits and _ behind var.", clipped(&name));
                self.fault(s, &name, message, None);
            } else if let Some(secret) = s.secret(&name, value::line) {
                let value = secret.reveal().clone();
                self.give(&name, value, Some(secret));
            }
        }
        for name in self.preset.iter().flat_map(|preset| &preset.optional) {
            if !self.values.has(name) {
                self.values.set(name, ());
            }
        }
    }

    fn give(&mut self, name: &str, value: String, secret: Option<Secret<String>>) {
        self.values.set(name, value);
        self.given.push(name.to_owned());
        self.secrets.extend(secret);
    }

    /// `url`, and `base_url` before it.
    fn url(&mut self, s: &mut Section<'_, '_>) -> Option<Secret<String>> {
        // Not shown if it is wrong: it may be so for a password in it.
        let base = s.entry("base_url").and_then(|entry| {
            let parsed = base_url(entry.value.text.trim());
            parsed
                .map_err(|wrong| s.fault_at(entry, format!("base_url: expected {}", wrong.expected), None))
                .ok()
        });
        let url = s.secret("url", one_url);
        match (s.entry("base_url").is_some(), s.has_secret("url")) {
            // The fault is told: the url would have been the preset's.
            (_, false) if s.entry("preset").is_some() && self.preset.is_none() => None,
            (_, false) => {
                let hint = "such as url: https://gateway.example/send?to={{ phone }}&text={{ text }}";
                self.fault_section(s, "no url", hint.to_owned());
                None
            }
            (true, true) => {
                let (base, url) = (base?, url?);
                if !url.reveal().starts_with('/') {
                    if s.has_own("base_url") {
                        let message = "base_url: url has a host of its own; expected a path, such as /send";
                        self.fault(s, "base_url", message.to_owned(), None);
                        return None;
                    }
                    return Some(url);
                }
                Some(Secret::new(format!("{}{}", base.trim_end_matches('/'), url.reveal())))
            }
            (false, true) => {
                let url = url?;
                if url.reveal().starts_with('/') {
                    let hint = "where the gateway is, such as base_url: http://192.0.2.1:8080";
                    self.fault_section(s, "no base_url", hint.to_owned());
                    return None;
                }
                Some(url)
            }
        }
    }

    /// `body` or `body_file`, and `content_type`.
    fn body(&mut self, s: &mut Section<'_, '_>) -> Option<(HeaderValue, Template)> {
        let inline = s.entry("body");
        let file = s.entry("body_file");
        let given = s.get("content_type", content_type);
        if let (Some(_), Some(file)) = (inline, file) {
            s.fault_at(file, "body and body_file are both set, expected one", None);
            return None;
        }
        let (key, source) = match (inline, file) {
            (Some(entry), _) => ("body", entry.value.text.trim().to_owned()),
            (None, Some(_)) => {
                let path = s.path("body_file")?;
                match small_file(&path)
                    .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is no UTF-8".into()))
                {
                    Ok(text) => ("body_file", text),
                    Err(why) => {
                        self.fault(s, "body_file", format!("body_file: can not read {path:?}: {why}"), None);
                        return None;
                    }
                }
            }
            (None, None) => {
                if s.has_own("content_type") {
                    self.fault(s, "content_type", "content_type: there is no body".to_owned(), None);
                }
                return None;
            }
        };
        let (header, context) = given.unwrap_or_else(|| inferred(&source));
        let template = self.template(s, key, &source, context)?;
        Some((header, template))
    }

    /// `header.NAME`.
    fn headers(&mut self, s: &mut Section<'_, '_>) -> Vec<(HeaderName, Template)> {
        let mut headers = Vec::new();
        for (name, entry) in s.prefixed("header.", |name| (!name.is_empty()).then_some(name)) {
            let ours = ["host", "content-length", "transfer-encoding", "connection", "proxy-authorization"];
            let instead = if name == "content-type" { Some("content_type".to_owned()) } else { None };
            match name.parse::<HeaderName>() {
                Ok(_) if ours.contains(&name) => {
                    s.fault_at(entry, format!("{}: smsd sets this header itself", entry.key), None);
                }
                Ok(_) if instead.is_some() => {
                    s.fault_at(entry, format!("{}: expected the key content_type instead", entry.key), None);
                }
                Ok(header) => {
                    let source = entry.value.text.trim();
                    headers
                        .extend(self.template(s, &entry.key, source, Context::Header).map(|t| (header, t)));
                }
                Err(_) => {
                    s.fault_at(entry, format!("{}: expected the name of a header", clipped(&entry.key)), None)
                }
            }
        }
        headers
    }

    fn template(
        &self,
        s: &mut Section<'_, '_>,
        key: &str,
        source: &str,
        context: Context,
    ) -> Option<Template> {
        let parsed = Template::parse(source, context);
        let told = parsed.map_err(|error| {
            let line = error.line.map_or_else(String::new, |line| format!(", line {line}"));
            self.fault_in_line(s, key, error.line, format!("{key}{line}: {}", error.problem), None);
        });
        told.ok()
    }

    /// `auth`, with the names that it uses up.
    fn auth(&mut self, s: &mut Section<'_, '_>) -> Option<(Auth, Vec<&'static str>)> {
        let Some(wanted) = s.entry("auth") else { return Some((Auth::None, Vec::new())) };
        let wanted = s.parse(wanted, auth)?;
        let needs: Vec<&'static str> = match wanted {
            WantedAuth::None => Vec::new(),
            WantedAuth::Basic => vec!["username", "password"],
            _ => vec!["token"],
        };
        let mut values = Vec::new();
        for name in &needs {
            match self.given.iter().find(|given| given == name) {
                Some(_) => values.push(s.secret(name, value::line)?),
                None if s.has_secret(name) => return None,
                None => {
                    self.fault_section(s, &format!("no {name}"), self.who_needs("auth"));
                    return None;
                }
            }
        }
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or_else(|| Secret::new(String::new()));
        let auth = match wanted {
            WantedAuth::None => Auth::None,
            WantedAuth::Basic => Auth::Basic(next().reveal().clone(), next()),
            WantedAuth::Bearer => {
                Auth::Header(hyper::header::AUTHORIZATION, Secret::new(format!("Bearer {}", next().reveal())))
            }
            WantedAuth::Header(name) => Auth::Header(name, next()),
            WantedAuth::Query(name) => Auth::Query(name, next()),
        };
        Some((auth, needs))
    }

    /// Every name that a template asks for must be there, and every name that is there must be asked for.
    fn check_names(&self, s: &mut Section<'_, '_>, names: &[(String, String)], used: &[&str]) {
        let mut told: Vec<&str> = Vec::new();
        for (key, name) in names {
            if NAMES.contains(&name.as_str()) || self.values.has(name) || told.contains(&name.as_str()) {
                continue;
            }
            told.push(name);
            let settable = name.starts_with("var.") || SETTABLE.contains(&name.as_str());
            if settable && !s.has_secret(name) {
                self.fault_section(s, &format!("no {name}"), self.who_needs(key));
            } else if !settable {
                let known = NAMES.into_iter().chain(SETTABLE).chain(self.given.iter().map(String::as_str));
                let near = value::nearest(name, known).map(|near| format!("did you mean {near:?}?"));
                let hint =
                    near.unwrap_or_else(|| format!("there are {}, and keys var.NAME", NAMES.join(", ")));
                self.fault_in_line(
                    s,
                    key,
                    None,
                    format!("{key}: {:?} is no name of a template", clipped(name)),
                    hint,
                );
            }
        }
        for name in &self.given {
            let asked = names.iter().any(|(_, asked)| asked == name) || used.contains(&name.as_str());
            if !asked && own(s, name).is_some() {
                let hint = format!("put {{{{ {name} }}}} into url, body or a header, or remove the key");
                self.fault(s, name, format!("{name}: nothing uses it"), hint);
            }
        }
    }

    fn who_needs(&self, key: &str) -> String {
        match self.preset {
            Some(preset) => format!("preset {} needs it; see {}", preset.name, preset.documentation),
            None => format!("its {key} needs it"),
        }
    }

    fn fault_section(&self, s: &mut Section<'_, '_>, lacks: &str, hint: String) {
        let message = format!("[{}] has {lacks}", clipped(&s.name));
        s.fault_section(self.named_by, message, hint);
    }

    /// A fault of a key in whichever form it stands; its value is not shown.
    fn fault(&self, s: &mut Section<'_, '_>, key: &str, message: String, hint: impl Into<Option<String>>) {
        self.fault_in_line(s, key, None, message, hint);
    }

    /// The same in a line of its value. What a preset says is the section's fault, where its keys do not agree with
    /// those of the operator.
    fn fault_in_line(
        &self,
        s: &mut Section<'_, '_>,
        key: &str,
        line: Option<usize>,
        message: String,
        hint: impl Into<Option<String>>,
    ) {
        match own(s, key) {
            Some(entry) => s.fault_in_line(entry, line, message, hint),
            None => s.fault_section(self.named_by, format!("[{}] {message}", clipped(&s.name)), hint),
        }
    }
}

/// The section's own entry for a key, in whichever form it stands.
fn own<'a>(s: &mut Section<'_, 'a>, key: &str) -> Option<&'a Entry> {
    let form = SECRET_FORMS.map(|form| format!("{key}{form}")).into_iter().find(|form| s.has_own(form))?;
    s.entry(&form)
}

/// `reject` and its like.
fn rules(s: &mut Section<'_, '_>) -> Rules {
    let mut rules = Rules::default();
    for (key, verdict) in Verdict::ALL {
        let Some(entry) = s.entry(key) else { continue };
        match Rule::parse_all(entry.value.text.trim()) {
            Ok(list) => rules.set(verdict, list),
            Err(wrong) => wrong_rule(s, entry, wrong),
        }
    }
    rules
}

fn wrong_rule(s: &mut Section<'_, '_>, entry: &Entry, wrong: RuleError) {
    let RuleError { part, expected } = wrong;
    let text = entry.value.text.trim();
    let found = clipped(text.get(part.clone()).unwrap_or_default());
    let found = if found.is_empty() { "nothing".to_owned() } else { format!("\"{found}\"") };
    let line = text.get(..part.start).unwrap_or_default().matches('\n').count();
    s.fault_in_line(
        entry,
        Some(line + 1),
        format!("{}: found {found}, expected {expected}", entry.key),
        None,
    );
}

/// `idempotency` and `idempotency_window`.
enum Idempotency {
    None,
    Header(HeaderName),
    Field,
}

impl Idempotency {
    fn header(&self) -> Option<HeaderName> {
        match self {
            Idempotency::Header(name) => Some(name.clone()),
            Idempotency::None | Idempotency::Field => None,
        }
    }

    /// A resend must be the same request, and a field must be there.
    fn check(&self, s: &mut Section<'_, '_>, keys: &Keys<'_>, names: &[(String, String)]) {
        if s.entry("idempotency").is_none() {
            return;
        }
        let mut fault = |message: &str, hint: &str| {
            keys.fault(s, "idempotency", format!("idempotency: {message}"), hint.to_owned());
        };
        let asked = |name: &str| names.iter().any(|(_, asked)| asked == name);
        if matches!(self, Idempotency::Field) && !asked("key") {
            fault("no template has {{ key }}", "put it into the body");
        }
        if asked("attempt") {
            fault(
                "a template has {{ attempt }}, which is another one in a resend",
                "write {{ key }} instead",
            );
        }
    }
}

fn idempotency(s: &mut Section<'_, '_>) -> (Idempotency, Duration) {
    let found = s.get("idempotency", |text| match text.split_once(' ') {
        None if text == "field" => Ok(Idempotency::Field),
        Some(("header", name)) => header_name(name).map(Idempotency::Header),
        _ => wrong("field, or header and its name, such as header Idempotency-Key"),
    });
    let window = s.get("idempotency_window", value::duration(Duration::from_secs(1)..=365 * 24 * HOUR));
    if let (Some(window), Some(entry)) = (window, s.entry("idempotency_window")) {
        // What is wrong with these is told where they are read.
        let seconds = |entry: Option<&Entry>| {
            value::duration(Duration::ZERO..=24 * HOUR)(entry?.value.text.trim()).ok()
        };
        let grace = seconds(s.entry("grace")).unwrap_or(Duration::from_secs(30));
        let timeout = seconds(s.entry("timeout")).unwrap_or_default();
        if found.is_none() {
            s.fault_at(entry, "idempotency_window: there is no idempotency", None);
        } else if window < grace + timeout {
            let all = value::show(grace + timeout);
            let message =
                format!("idempotency_window: a resend comes {all} later, when the key is forgotten");
            s.fault_at(entry, message, "shorten grace or timeout".to_owned());
        }
    }
    (found.unwrap_or(Idempotency::None), window.unwrap_or_default())
}

/// `tls_ca`, `tls_cert`, `tls_key`, `proxy`.
fn way(s: &mut Section<'_, '_>) -> Way {
    let mut way =
        Way { proxy: s.secret("proxy", proxy).map(|proxy| proxy.reveal().clone()), ..Way::default() };
    let mut files = ["tls_ca", "tls_cert", "tls_key"].map(|key| {
        let path = if key == "tls_key" { s.secret_path(key) } else { s.path(key) }?;
        let entry = s.entry(key)?;
        let read = small_file(&path);
        read.map_err(|why| s.fault_at(entry, format!("{key}: can not read {path:?}: {why}"), None))
            .ok()
            .map(|f| (entry, f))
    });
    if let Some((entry, pem)) = files[0].take() {
        match http_way::roots(&pem) {
            Ok(roots) => way.roots = Some(roots),
            Err(why) => s.fault_at(entry, format!("tls_ca: {why}"), None),
        }
    }
    match (files[1].take(), files[2].take()) {
        (Some((certificate, pem)), Some((key, key_pem))) => match Identity::new(&pem, &key_pem) {
            Ok(identity) => way.identity = Some(identity),
            Err((true, why)) => s.fault_at(key, format!("tls_key: {why}"), None),
            Err((false, why)) => s.fault_at(certificate, format!("tls_cert: {why}"), None),
        },
        (Some((entry, _)), None) if s.entry("tls_key").is_none() => {
            s.fault_at(entry, "tls_cert: there is no tls_key", None);
        }
        (None, Some((entry, _))) if s.entry("tls_cert").is_none() => {
            s.fault_at(entry, "tls_key: there is no tls_cert", None);
        }
        _ => {}
    }
    way
}
