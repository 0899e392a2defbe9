//! Connection strings and password files: settings, or a refusal that gives no password away.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use smsd::config::{PostgresTarget, Secret};
use smsd::queue::postgres::Settings;

const MARK: &str = "S3CRET";

/// The input: the connection string on a line, then the password file.
pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (url, passwords) = data.split_at(end);
    let url = String::from_utf8_lossy(url).into_owned();
    let dir = tempfile::tempdir().expect("a directory for a moment");
    let file = dir.path().join("pgpass");
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    out.as_mut().expect("a file for a moment").write_all(passwords).expect("written");

    let target = PostgresTarget { url: Some(Secret::new(url.clone())), ..PostgresTarget::default() };
    let env = |name: &str| (name == "PGPASSFILE").then(|| file.to_string_lossy().into_owned());
    let told = match Settings::from_parts(&target, &env, Some("nav".to_owned()), None) {
        Ok(settings) => {
            assert!(!settings.hosts.is_empty() && !settings.user.is_empty() && !settings.database.is_empty());
            assert!((2..=3600).contains(&settings.connect_timeout.as_secs()));
            // The same of any password: one may well be part of what stands in its place.
            if settings.password.is_some() {
                assert_eq!(format!("{:?}", settings.password), "Some(<secret>)");
            }
            settings.location()
        }
        Err(why) => why.to_string(),
    };
    if is_password(&url) {
        assert!(!told.contains(MARK), "{told}");
    }
}

/// The mark stands once, where people write the password of a URL, whatever they forgot to escape in it.
fn is_password(url: &str) -> bool {
    let login = url.strip_prefix("postgresql://nav:").and_then(|rest| rest.rsplit_once("@db.example/nav"));
    login.is_some_and(|(password, rest)| {
        rest.is_empty() && password.matches(MARK).count() == 1 && !password.contains('@')
    })
}
