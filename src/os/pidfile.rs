//! The pid file: how `nav start/stop/status` find the daemon, and the lock that keeps it the only one.
//!
//! The lock (flock) is held as long as the process lives, and the kernel releases it whatever kills the process.
//! After a crash the file stays and is locked anew, so that its inode, which [`PidFile::lock_identity`] names,
//! stays too; a clean exit removes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{Pid, Uid};

/// A pid file that we hold.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
    /// It stays when we go.
    kept: bool,
}

/// Who holds a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What the file says.
    pub pid: Option<u32>,
}

/// Why a pid file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another smsd lives. The caller exits 3.
    #[error("another smsd is running: pid {} ({})", pid.as_deref().unwrap_or("unknown"), path.display())]
    Held {
        /// The pid file.
        path: PathBuf,
        /// What the file says, if it is a number.
        pid: Option<String>,
    },
    /// It is a symbolic link, a device, or has a second name: someone else's file might be overwritten.
    #[error("{} is not a plain file of its own ({what}); remove it", path.display())]
    Suspect {
        /// The pid file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file or its folder can not be written.
    #[error("can not write the pid file {}: {source}", path.display())]
    Io {
        /// The pid file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PidFile {
    /// Opens (or makes) the file, locks it and writes our pid into it.
    ///
    /// # Errors
    /// [`PidFileError::Held`] if another process has the lock, or if NAV's own smsd, which takes none, is named in
    /// it and lives.
    pub fn lock(path: &Path) -> Result<PidFile, PidFileError> {
        let io = |source| PidFileError::Io { path: path.to_owned(), source };
        let mut tries = 1..=TRIES;
        loop {
            let mut file = open_plain(path)?;
            match file.try_lock() {
                Ok(()) => {}
                // It may be someone who only asks for the holder.
                Err(TryLockError::WouldBlock) if tries.next().is_some() => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(PidFileError::Held { path: path.to_owned(), pid: read_pid(&mut file) });
                }
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
            // Whoever held it before may have removed it between our open and our lock.
            if !is_still(&file, path) {
                continue;
            }
            if let Some(pid) = read_pid(&mut file).filter(|pid| is_navs_smsd(pid, &file)) {
                return Err(PidFileError::Held { path: path.to_owned(), pid: Some(pid) });
            }
            let mut pidfile = PidFile { path: path.to_owned(), file, kept: false };
            pidfile.write_pid()?;
            return Ok(pidfile);
        }
    }

    /// Who holds the file, if anyone does. Does not disturb whoever locks it meanwhile.
    pub fn holder(path: &Path) -> Option<Holder> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
        let locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let pid = read_pid(&mut file);
        let held = locked || pid.as_deref().is_some_and(|pid| is_navs_smsd(pid, &file));
        held.then(|| Holder { pid: pid.and_then(|p| p.parse().ok()) })
    }

    /// Writes the pid of this process: again after it has gone to the background.
    ///
    /// # Errors
    /// [`PidFileError::Io`], for instance on a full disk.
    pub fn write_pid(&mut self) -> Result<(), PidFileError> {
        let text = format!("{}\n", Pid::this());
        // Longer first, then cut: a reader never sees an empty file.
        let written =
            self.file.write_all_at(text.as_bytes(), 0).and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(|source| PidFileError::Io { path: self.path.clone(), source })
    }

    /// Hands the file to a user, so that the daemon can be started as that user the next time.
    ///
    /// # Errors
    /// [`PidFileError::Io`].
    pub fn give_to(&self, uid: u32, gid: u32) -> Result<(), PidFileError> {
        std::os::unix::fs::fchown(&self.file, Some(uid), Some(gid))
            .map_err(|source| PidFileError::Io { path: self.path.clone(), source })
    }

    /// A name for this lock that at most one living process can hold: boot id, device and inode
    /// (`queue::Instance::lock`). Who has it knows that earlier holders are dead.
    ///
    /// # Errors
    /// [`PidFileError::Io`] if the kernel does not say (no `/proc`).
    pub fn lock_identity(&self) -> Result<String, PidFileError> {
        let io = |source| PidFileError::Io { path: self.path.clone(), source };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(io)?;
        let meta = self.file.metadata().map_err(io)?;
        Ok(format!("{}:{:x}:{}", boot.trim(), meta.dev(), meta.ino()))
    }

    /// Ends our hold but leaves the file, empty: the next holder has the same identity, and so knows at once that
    /// we are dead.
    pub fn leave_behind(mut self) {
        self.kept = true;
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    /// A clean exit removes the file while it is still locked, or empties it where the folder is not ours to
    /// change.
    fn drop(&mut self) {
        if is_still(&self.file, &self.path) && (self.kept || std::fs::remove_file(&self.path).is_err()) {
            // Nobody is left to tell; the lock goes with the process all the same.
            let _ = self.file.set_len(0);
        }
    }
}

/// How often the lock is tried, and the time between: far longer than [`PidFile::holder`] looks.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Opens without following a link and without waiting for a pipe's other end.
fn open_plain(path: &Path) -> Result<File, PidFileError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(flags.bits())
        .open(path);
    let suspect = |what| PidFileError::Suspect { path: path.to_owned(), what };
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            return Err(suspect("a symbolic link"));
        }
        Err(source) => return Err(PidFileError::Io { path: path.to_owned(), source }),
    };
    let meta = file.metadata().map_err(|source| PidFileError::Io { path: path.to_owned(), source })?;
    match meta {
        m if !m.is_file() => Err(suspect("a device, pipe or folder")),
        m if m.nlink() > 1 => Err(suspect("it has a second name")),
        _ => Ok(file),
    }
}

/// True if the path still names the open file.
fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// The pid in the file, if it is one.
fn read_pid(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())).then(|| pid.to_owned())
}

/// True if this pid is a living Python that runs a script called `smsd`: NAV's own daemon, which locks nothing. It is root's, ours
/// or whose the file is: anybody else may call a script so.
fn is_navs_smsd(pid: &str, file: &File) -> bool {
    let process = Path::new("/proc").join(pid);
    let Ok(cmdline) = std::fs::read(process.join("cmdline")) else { return false };
    let ours = [Some(0), Some(Uid::effective().as_raw()), file.metadata().ok().map(|file| file.uid())];
    if !std::fs::metadata(&process).is_ok_and(|process| ours.contains(&Some(process.uid()))) {
        return false;
    }
    let mut names = cmdline.split(|b| *b == 0).map(|word| {
        let name = word.rsplit(|b| *b == b'/').next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    });
    names.next().is_some_and(|n| n.starts_with("python"))
        && names.find(|n| !n.starts_with('-')).is_some_and(|n| n == "smsd" || n == "smsd.py")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_file_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smsd.pid");
        std::fs::write(&path, "99999999 and more than a pid is long\n").unwrap();
        let before = std::fs::metadata(&path).unwrap().ino();

        let held = PidFile::lock(&path).unwrap();
        let me = format!("{}\n", std::process::id());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), me);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before, "a stale file keeps its inode");
        match PidFile::lock(&path).unwrap_err() {
            PidFileError::Held { pid, .. } => assert_eq!(pid.as_deref(), Some(me.trim())),
            other => panic!("{other}"),
        }
        assert_eq!(PidFile::holder(&path), Some(Holder { pid: Some(std::process::id()) }));
        drop(held);
        assert!(!path.exists());
        assert_eq!(PidFile::holder(&path), None);
        drop(PidFile::lock(&path).unwrap());
    }

    #[test]
    fn one_left_behind_keeps_its_identity_for_the_next_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smsd.pid");
        let first = PidFile::lock(&path).unwrap();
        let identity = first.lock_identity().unwrap();
        first.leave_behind();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        assert_eq!(PidFile::holder(&path), None);
        assert_eq!(PidFile::lock(&path).unwrap().lock_identity().unwrap(), identity);
    }

    #[test]
    fn the_identity_is_the_file_and_not_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let a = PidFile::lock(&dir.path().join("a")).unwrap();
        let b = PidFile::lock(&dir.path().join("b")).unwrap();
        assert_eq!(a.lock_identity().unwrap(), a.lock_identity().unwrap());
        assert_ne!(a.lock_identity().unwrap(), b.lock_identity().unwrap());
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert!(a.lock_identity().unwrap().starts_with(boot.trim()));
    }

    #[test]
    fn a_file_of_someone_else_is_neither_locked_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, link, second) =
            (dir.path().join("passwd"), dir.path().join("link"), dir.path().join("second"));
        std::fs::write(&theirs, "precious").unwrap();
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        assert!(matches!(PidFile::lock(&link), Err(PidFileError::Suspect { what: "a symbolic link", .. })));
        std::fs::hard_link(&theirs, &second).unwrap();
        assert!(matches!(PidFile::lock(&second), Err(PidFileError::Suspect { .. })));
        assert!(matches!(PidFile::lock(dir.path()), Err(PidFileError::Io { .. })));
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_was_replaced_is_left_alone_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smsd.pid");
        let held = PidFile::lock(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "4711").unwrap();
        drop(held);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4711");
    }

    #[test]
    fn navs_own_daemon_holds_it_without_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (path, script) = (dir.path().join("smsd.pid"), dir.path().join("smsd"));
        std::fs::write(&script, "import sys; print('up', flush=True); sys.stdin.read()").unwrap();
        let mut nav = Command::new("python3")
            .arg("-u")
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        nav.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        std::fs::write(&path, nav.id().to_string()).unwrap();
        let found = PidFile::lock(&path);
        drop(nav.stdin.take());
        nav.wait().unwrap();
        assert!(matches!(found, Err(PidFileError::Held { .. })), "{found:?}");
        // The same pid, dead.
        PidFile::lock(&path).unwrap();
    }
}
