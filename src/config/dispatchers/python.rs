//! The keys of PythonDispatcher. Those that nobody else knows are its class's.

use super::super::ini::Entry;
use super::super::secret::Secret;
use super::super::section::Section;
use super::super::value::{self, Parsed, clipped, wrong};
use crate::dispatch::python::Settings;

pub(super) fn read(s: &mut Section<'_, '_>, named_by: &Entry) -> Option<Settings> {
    let python = s.get("python", value::path).unwrap_or_else(|| "python3".into());
    // A bare name is looked up in PATH.
    let python = if python.components().count() > 1 { s.directory().join(python) } else { python };
    let home = s.directory();
    let path = s.get("path", value::list(|folder| Ok(home.join(value::path(folder)?)))).unwrap_or_default();
    let class = match s.entry("class") {
        Some(_) => s.get("class", identifier)?,
        // As NAV finds it: the class is named like the section, the module like the class.
        None => identifier(&s.name).ok().or_else(|| {
            let message = format!("[{}] has no class", clipped(&s.name));
            s.fault_section(named_by, message, "such as class: MyDispatcher".to_owned());
            None
        })?,
    };
    let module = match s.entry("module") {
        Some(_) => s.get("module", module)?,
        None => format!("nav.smsd.{}", class.to_lowercase()),
    };
    Some(Settings { python, module, class, path, common: Default::default(), own: Default::default() })
}

/// All keys of the section: NAV's dispatchers are given them as they stand. Comes when smsd has taken its own.
pub(super) fn hand_on(s: &mut Section<'_, '_>, settings: &mut Settings) {
    for (key, entry, own) in s.every() {
        let (key, value) = (key.to_owned(), entry.value.text.trim().to_owned());
        if own {
            settings.own.insert(key, Secret::new(value));
        } else {
            settings.common.insert(key, value);
        }
    }
}

fn identifier(text: &str) -> Parsed<String> {
    let begins = |c: char| c.is_alphabetic() || c == '_';
    if !text.starts_with(begins) || !text.chars().all(|c| begins(c) || c.is_numeric()) {
        return wrong("the name of a class such as MyDispatcher");
    }
    Ok(text.to_owned())
}

fn module(text: &str) -> Parsed<String> {
    if text.split('.').any(|part| identifier(part).is_err()) {
        return wrong("the name of a module such as nav.smsd.mydispatcher");
    }
    Ok(text.to_owned())
}
