//! Gateways that are known: a file of keys each, in the dialect of smsd.conf.
//!
//! A preset's keys lie under those of the section that names it: what the operator sets wins. Beside the keys of
//! `HttpDispatcher` a file has `documentation` (where its facts come from) and `optional` (names that its templates
//! can do without; they are none, then).

use std::sync::LazyLock;

use super::SETTABLE;
use super::template::{Context, Template};
use crate::config::ini::{self, Entry};

/// A gateway that is known.
pub struct Preset {
    /// The word for `preset:`.
    pub name: &'static str,
    /// Where its facts come from.
    pub documentation: &'static str,
    /// Names that its templates can do without.
    pub optional: Vec<&'static str>,
    /// Its keys.
    pub entries: Vec<&'static Entry>,
}

impl Preset {
    /// The keys that the operator must set beside it, sorted.
    pub fn needs(&self) -> Vec<String> {
        let mut needs: Vec<String> = self.names();
        let auth = self.entries.iter().find(|entry| entry.key == "auth").map(|entry| entry.value.text.trim());
        needs.extend(match auth {
            None => Vec::new(),
            Some("basic") => vec!["username".to_owned(), "password".to_owned()],
            Some(_) => vec!["token".to_owned()],
        });
        if !self.entries.iter().any(|entry| entry.key == "base_url") {
            needs.push("base_url".to_owned());
        }
        needs.retain(|name| !self.optional.contains(&name.as_str()));
        needs.sort();
        needs.dedup();
        needs
    }

    /// The names that its templates ask the configuration for.
    fn names(&self) -> Vec<String> {
        let templates = self
            .entries
            .iter()
            .filter(|entry| entry.key == "url" || entry.key == "body" || entry.key.starts_with("header."));
        let names = templates.flat_map(|entry| match Template::parse(&entry.value.text, Context::Plain) {
            Ok(template) => template.names().to_vec(),
            Err(_) => Vec::new(),
        });
        names.filter(|name| name.starts_with("var.") || SETTABLE.contains(&name.as_str())).collect()
    }
}

/// All of them, by name.
pub fn all() -> &'static [Preset] {
    static ALL: LazyLock<Vec<Preset>> =
        LazyLock::new(|| FILES.iter().map(|(name, file)| read(name, file)).collect());
    &ALL
}

/// The one of this name.
pub fn named(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

/// `presets/NAME.conf` has one section, `[NAME]`.
const FILES: [(&str, &str); 18] = [
    ("46elks", include_str!("presets/46elks.conf")),
    ("android-sms-gateway", include_str!("presets/android-sms-gateway.conf")),
    ("android-sms-gateway-cloud", include_str!("presets/android-sms-gateway-cloud.conf")),
    ("clickatell", include_str!("presets/clickatell.conf")),
    ("gammu-rest", include_str!("presets/gammu-rest.conf")),
    ("gatewayapi", include_str!("presets/gatewayapi.conf")),
    ("jasmin", include_str!("presets/jasmin.conf")),
    ("kannel", include_str!("presets/kannel.conf")),
    ("linkmobility", include_str!("presets/linkmobility.conf")),
    ("messagebird", include_str!("presets/messagebird.conf")),
    ("playsms", include_str!("presets/playsms.conf")),
    ("plivo", include_str!("presets/plivo.conf")),
    ("sinch", include_str!("presets/sinch.conf")),
    ("smseagle", include_str!("presets/smseagle.conf")),
    ("telnyx", include_str!("presets/telnyx.conf")),
    ("teltonika", include_str!("presets/teltonika.conf")),
    ("twilio", include_str!("presets/twilio.conf")),
    ("vonage", include_str!("presets/vonage.conf")),
];

fn read(name: &'static str, file: &str) -> Preset {
    // They live as long as the program: sections of the configuration borrow them.
    let entries: &'static [Entry] = ini::parse(file)
        .sections
        .into_iter()
        .next()
        .map_or(&[], |section| Box::leak(section.entries.into_boxed_slice()));
    let about =
        |key: &str| entries.iter().find(|entry| entry.key == key).map_or("", |entry| entry.value.text.trim());
    Preset {
        name,
        documentation: about("documentation"),
        optional: about("optional").split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
        entries: entries.iter().filter(|entry| !ABOUT.contains(&entry.key.as_str())).collect(),
    }
}

/// Keys of a file that are no keys of a section.
const ABOUT: [&str; 2] = ["documentation", "optional"];
