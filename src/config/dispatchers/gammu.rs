//! The keys of GammuDispatcher.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::super::section::Section;
use super::super::value;
use crate::dispatch::gammu::Settings;

pub(super) fn read(s: &mut Section<'_, '_>) -> Settings {
    let mut settings = Settings { config: gammurc(s), ..Settings::default() };
    settings.section = s.get("section", value::integer(0..=99));
    if let Some(command) = s.get("command", value::line) {
        // A name is looked up on the PATH; with a slash it is a path like others.
        settings.command = match command.contains('/') {
            true => s.path("command").map_or_else(|| command.into(), PathBuf::into_os_string),
            false => command.into(),
        };
    }
    settings
}

/// A gammurc that is not there would have gammu go on with none, by a device that nobody has named. Its content is
/// gammu's affair, and so is one that only the daemon's user may look at.
fn gammurc(s: &mut Section<'_, '_>) -> Option<PathBuf> {
    let path = s.path("config")?;
    let problem = match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => "is a directory",
        Err(error) if error.kind() == ErrorKind::NotFound => "is not there",
        _ => return Some(path),
    };
    if let Some(entry) = s.entry("config") {
        let hint = "gammu-config writes one; without the key gammu looks for ~/.gammurc and /etc/gammurc";
        s.fault(entry, format!("config: {path:?} {problem}, expected a gammurc"), hint.to_owned());
    }
    None
}
