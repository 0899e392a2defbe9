//! libpq's password file: `host:port:database:user:password` a line, `*` for any, `\` before `:` and `\`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::Secret;

/// Bytes of a password file at most: what is larger is another file, named by mistake.
const MAX: u64 = 1 << 20;

/// The password of the first line that fits one of the hosts. A file that others may read is not used, as
/// with libpq; that is logged, since the login that fails afterwards would not tell why.
pub(super) fn look_up(
    file: &Path,
    hosts: &[(String, u16)],
    database: &str,
    user: &str,
) -> Option<Secret<String>> {
    let metadata = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!("{} is not used: others may read it; it must have mode 0600", file.display());
        return None;
    }
    let mut content = String::new();
    fs::File::open(file).ok()?.take(MAX + 1).read_to_string(&mut content).ok()?;
    if content.len() as u64 > MAX {
        tracing::warn!("{} is not used: a password file holds at most {MAX} bytes", file.display());
        return None;
    }
    hosts.iter().find_map(|(host, port)| {
        let host = if host.starts_with('/') { "localhost" } else { host };
        let wanted = [host, &port.to_string(), database, user];
        content.lines().find_map(|line| password(line, &wanted))
    })
}

fn password(line: &str, wanted: &[&str; 4]) -> Option<Secret<String>> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(chars.next()),
            (c, Some(field)) => field.push(c),
            (_, None) => return None,
        }
    }
    let (keys, rest) = fields.split_at_checked(4)?;
    let fits = keys.iter().zip(wanted).all(|(key, wanted)| key == "*" || key == wanted);
    // A `:` in the password needs no escape.
    (fits && !rest.is_empty()).then(|| Secret::new(rest.join(":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_and_only_from_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgpass");
        fs::write(&file, "# x\nh:5432:d:u:first\n*:*:d:u:se\\:c\\\\ond:x\nlocalhost:*:*:*:socket\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let find = |host: &str, port, database, user| {
            look_up(&file, &[(host.to_owned(), port)], database, user).map(|s| s.reveal().clone())
        };
        assert_eq!(find("h", 5432, "d", "u").as_deref(), Some("first"));
        assert_eq!(find("h", 5433, "d", "u").as_deref(), Some(r"se:c\ond:x"));
        assert_eq!(find("/run/pg", 1, "x", "y").as_deref(), Some("socket"));
        assert_eq!(find("h", 5432, "d", "other"), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(find("h", 5432, "d", "u"), None);
    }

    #[test]
    fn a_file_without_end_is_not_read_into_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        let file = fs::File::create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let find = || look_up(&path, &[("h".to_owned(), 1)], "d", "u").map(|s| s.reveal().clone());
        // As large as it may be, then larger than this machine.
        let line = "*:*:*:*:";
        fs::write(&path, format!("{line}{}", "p".repeat(usize::try_from(MAX).unwrap() - line.len())))
            .unwrap();
        assert!(find().is_some_and(|p| p.len() > 1_000_000));
        file.set_len(1 << 40).unwrap();
        assert_eq!(find(), None);
    }
}
