//! What the process was started with, held apart so that tests need no global state.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// The environment that the configuration is found and completed from.
#[derive(Clone)]
pub struct Env {
    vars: BTreeMap<OsString, OsString>,
    /// `~`.
    pub home: Option<PathBuf>,
    /// `/`: where `etc/nav`, `var/lib` and `run` are looked for.
    pub system: PathBuf,
    /// The effective user is root.
    pub root: bool,
}

impl Env {
    /// This process.
    pub fn from_process() -> Env {
        let vars: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let user = nix::unistd::geteuid();
        let home = vars.get(OsStr::new("HOME")).filter(|h| !h.is_empty()).map(PathBuf::from);
        let home = home.or_else(|| nix::unistd::User::from_uid(user).ok().flatten().map(|u| u.dir));
        Env { vars, home, system: PathBuf::from("/"), root: user.is_root() }
    }

    /// No variables, no home, no rights; system directories are looked for under `system`.
    pub fn empty(system: &Path) -> Env {
        Env { vars: BTreeMap::new(), home: None, system: system.to_owned(), root: false }
    }

    /// The same with a variable.
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Env {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// A variable; `None` if it is not set, or not UTF-8.
    pub fn var(&self, name: &str) -> Option<String> {
        self.vars.get(OsStr::new(name))?.to_str().map(str::to_owned)
    }

    /// A variable that names a path; `None` if it is not set, or empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.vars.get(OsStr::new(name)).filter(|v| !v.is_empty()).map(PathBuf::from)
    }

    /// NAV's directories for configuration, in the order in which NAV looks.
    pub(super) fn nav_dirs(&self) -> Vec<PathBuf> {
        let in_home = |dir: &str| self.home.as_ref().map(|h| h.join(dir));
        [
            self.path("NAV_CONFIG_DIR"),
            in_home(".local/etc/nav"),
            in_home(".local/etc"),
            in_home(".config/nav"),
            Some(self.system.join("etc/nav")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The smsd.conf that counts, if there is one. With none found, one that may be there counts, in a folder that we may
    /// not look into: that it can not be read is then told, and nothing is taken for sent by a DebugDispatcher.
    pub(super) fn find(&self) -> Option<PathBuf> {
        self.path("SMSD_CONFIG").or_else(|| {
            let mut dirs = self.nav_dirs();
            dirs.push(self.system.join("etc/smsd"));
            let mut hidden = None;
            for file in dirs.into_iter().map(|dir| dir.join("smsd.conf")) {
                match file.try_exists() {
                    Ok(true) => return Some(file),
                    Ok(false) => {}
                    Err(e) if e.kind() == io::ErrorKind::NotADirectory => {}
                    Err(_) => hidden = hidden.or(Some(file)),
                }
            }
            hidden
        })
    }
}

/// Names only: secrets stand in the environment.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("vars", &self.vars.keys())
            .field("home", &self.home)
            .field("system", &self.system)
            .field("root", &self.root)
            .finish()
    }
}
