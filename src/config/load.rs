//! From files to a [`Config`].

use std::path::Path;

use super::fault::Collector;
use super::source::Source;
use super::{Config, Env, Fault, Faults, QueueKind, Severity, dispatchers, nav, smsd_conf};

/// Reads the configuration: `explicit` (`--config`), else what the environment names, else the first smsd.conf
/// in NAV's directories and `/etc/smsd`; with none, [`Config::embedded`].
///
/// # Errors
/// All that is wrong with it, warnings among them, if any of it stops the start.
pub fn load(explicit: Option<&Path>, env: &Env) -> Result<Loaded, Faults> {
    let mut faults = Collector::default();
    let config = match explicit.map(Path::to_owned).or_else(|| env.find()) {
        // Absolute, since a daemon that rereads it has changed its directory.
        Some(path) => read(&std::path::absolute(&path).unwrap_or(path), env, &mut faults),
        None => {
            faults.push(Severity::Warning, |s| {
                Fault::new(s, "no smsd.conf found: nothing leaves this machine").hint(
                    "the DebugDispatcher takes every SMS; see --help for where smsd.conf is looked for"
                        .to_owned(),
                )
            });
            Some(Config::embedded())
        }
    };
    let fatal = faults.is_fatal();
    match (config, faults.finish()) {
        (Some(config), warnings) if !fatal => Ok(Loaded { config, warnings }),
        (_, faults) => Err(Faults(faults)),
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What a person should know all the same; none of it is a [`Severity::Fault`].
    pub warnings: Vec<Fault>,
}

/// Reads smsd.conf and NAV's files beside it. `None` if it can not be read at all.
fn read(path: &Path, env: &Env, faults: &mut Collector) -> Option<Config> {
    let source = Source::open(path, faults)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let db_conf = dir.join("db.conf");
    let mut config = smsd_conf::read(&source, env, db_conf.exists(), faults);
    config.files.push(path.to_owned());
    config.secret_keys.extend(nav::SECRET_KEYS.map(|(file, key)| (file.to_owned(), key.to_owned())));

    let mut navs_folder = dir.to_owned();
    if let QueueKind::NavDb(target) = &mut config.queue.kind
        && target.url.is_none()
    {
        // Someone who says NAVDBQueue means NAV's database, wherever NAV's own programs find it.
        let elsewhere = || env.nav_dirs().into_iter().map(|d| d.join("db.conf")).find(|f| f.exists());
        match Some(db_conf).filter(|f| f.exists()).or_else(elsewhere) {
            Some(file) => {
                navs_folder = file.parent().map(Path::to_owned).unwrap_or_default();
                if let Some(source) = companion(&file, faults) {
                    *target = nav::db_conf(&source, faults);
                    config.files.push(file);
                }
            }
            None => faults.push(Severity::Warning, |s| {
                Fault::new(
                    s,
                    "NAVDBQueue has no db.conf and no url: the PG* variables say where NAV's database is",
                )
                .file(path)
            }),
        }
    }
    let nav_conf = dir.join("nav.conf");
    if nav_conf.exists()
        && let Some(source) = companion(&nav_conf, faults)
    {
        config.nav = nav::nav_conf(&source, faults);
        config.files.push(nav_conf);
    }
    if let QueueKind::NavDb(target) = &mut config.queue.kind {
        target.time_zone = time_zone(config.nav.time_zone.as_deref(), dir, &navs_folder, faults);
    }
    dispatchers::mail::fill_in(&mut config);
    if let Err(why) = config.admin_mail() {
        faults.push(Severity::Warning, |s| {
            Fault::new(s, format!("nav.conf, {why}; no mail goes to the admin"))
                .hint("mailaddr and fromaddr in [main] come before it".to_owned())
        });
    }
    Some(config)
}

/// The zone of NAV's local times: what nav.conf says, beside smsd.conf (`said`) or else beside db.conf, or
/// NAV's default where it says nothing. `None` where nothing of NAV's stands: the database's own zone counts.
fn time_zone(said: Option<&str>, dir: &Path, navs_folder: &Path, faults: &mut Collector) -> Option<String> {
    if let Some(zone) = said {
        return Some(zone.to_owned());
    }
    let elsewhere = navs_folder.join("nav.conf");
    if navs_folder != dir && elsewhere.exists() {
        let found = companion(&elsewhere, faults).and_then(|source| nav::nav_conf(&source, faults).time_zone);
        return Some(found.unwrap_or_else(|| nav::DEFAULT_TIME_ZONE.to_owned()));
    }
    let of_nav = dir.join("nav.conf").exists() || navs_folder.join("db.conf").exists();
    of_nav.then(|| nav::DEFAULT_TIME_ZONE.to_owned())
}

/// Opens one of NAV's flat files, and looks whether it shows its secrets.
fn companion(path: &Path, faults: &mut Collector) -> Option<Source> {
    let source = Source::open(path, faults)?;
    if let Some(span) = nav::secret_line(&source) {
        source.check_mode(span, faults);
    }
    Some(source)
}
