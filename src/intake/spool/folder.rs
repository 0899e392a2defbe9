//! The folders: what lies in `outgoing/`, and how a file leaves it.
//!
//! Whoever may write into `outgoing/` may put anything there: links, pipes, directories, a million of them. Only plain
//! files of one name are opened, never through a link and never waiting; a file is read from the descriptor that was
//! judged. A file leaves `outgoing/` by one rename, which overwrites nothing; if it proves to be another file
//! than the one that was read, it goes back. What is written about it comes after that: a crash in between costs words,
//! never a file. All calls block, and none waits for another program.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use sha2::{Digest, Sha256};

use super::letter;

/// The longest file that is read, in bytes: a text and its header.
pub(super) const FILE_MAX: u64 = 64 * 1024;
/// For how long a file must not change before it is taken (smstools: a second, too).
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// Files that are watched at once; the others have their turn when these are gone.
const WATCHED_MAX: usize = 20_000;
/// Files of one look at most.
const BATCH: usize = 256;
/// Names with a number behind them that are tried, so that what lies there is readable as long as it is little.
const NUMBERS: u32 = 10;

/// The folders, and what was seen in them.
pub(super) struct Folder {
    outgoing: PathBuf,
    sent: PathBuf,
    failed: PathBuf,
    group_write: bool,
    watched: HashMap<OsString, Watched>,
    /// What can not be taken, and was said.
    odd: HashSet<OsString>,
}

#[derive(Clone, Copy)]
struct Watched {
    state: State,
    since: Instant,
}

/// What changes when a file does. `ctime` can be set by nobody, and changes with every write, rename and link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl State {
    fn of(m: &Metadata) -> State {
        State {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            mtime: (m.mtime(), m.mtime_nsec()),
            ctime: (m.ctime(), m.ctime_nsec()),
        }
    }

    /// The same file with the same content; its name may be another.
    fn is(&self, other: &State) -> bool {
        (self.device, self.inode, self.size, self.mtime)
            == (other.device, other.inode, other.size, other.mtime)
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its name in `outgoing/`.
    pub(super) name: OsString,
    /// What it holds; `None` if that is more than [`FILE_MAX`].
    pub(super) content: Option<Vec<u8>>,
    /// What tells it from every other file that was or will be here.
    pub(super) key: String,
    pub(super) state: State,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Complete files, the oldest first.
    pub(super) files: Vec<Found>,
    /// What is no message file and was not said before: what it is, and of what name.
    pub(super) odd: Vec<String>,
    /// There is more that is ready.
    pub(super) more: bool,
}

/// Where a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// It is queued.
    Sent,
    /// It is not, or not for all.
    Failed,
}

impl Folder {
    pub(super) fn new(folder: &Path, group_write: bool) -> Folder {
        Folder {
            outgoing: folder.join("outgoing"),
            sent: folder.join("sent"),
            failed: folder.join("failed"),
            group_write,
            watched: HashMap::new(),
            odd: HashSet::new(),
        }
    }

    /// Makes the folders that are missing; one that stands above them must be there.
    pub(super) fn set_up(&self) -> io::Result<()> {
        for dir in
            [self.outgoing.parent().unwrap_or(&self.outgoing), &self.outgoing, &self.sent, &self.failed]
        {
            match fs::DirBuilder::new().mode(0o750).create(dir) {
                Ok(()) if dir == self.outgoing && self.group_write => {
                    fs::set_permissions(dir, Permissions::from_mode(0o2770)).map_err(|e| at(dir, e))?;
                }
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(at(dir, e)),
            }
        }
        Ok(())
    }

    /// Looks for files that have not changed for [`QUIET`] until `now`, and reads them. `taken`: files that are
    /// already seen to, by name; they are not read again.
    pub(super) fn look(&mut self, now: Instant, taken: &HashMap<OsString, State>) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut present = HashMap::new();
        let mut locked = HashSet::new();
        let mut odd = HashSet::new();
        for entry in fs::read_dir(&self.outgoing).map_err(|e| at(&self.outgoing, e))? {
            let name = entry.map_err(|e| at(&self.outgoing, e))?.file_name();
            if let Some(base) = name.as_bytes().strip_suffix(b".LOCK") {
                locked.insert(OsStr::from_bytes(base).to_owned());
                continue;
            }
            // As in smstools: what begins with a dot is being written.
            if name.as_bytes().starts_with(b".") || present.len() >= WATCHED_MAX {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(self.outgoing.join(&name)) else { continue };
            match oddity(&metadata) {
                Some(what) => self.remark(&name, what, &mut odd, &mut seen),
                // A file that is still empty is being written.
                None if metadata.size() == 0 => {}
                None => {
                    present.insert(name, State::of(&metadata));
                }
            }
        }
        self.watched.retain(|name, _| present.contains_key(name));
        let mut ready = Vec::new();
        for (name, state) in present {
            let watched = self.watched.entry(name.clone()).or_insert(Watched { state, since: now });
            if watched.state != state {
                *watched = Watched { state, since: now };
            }
            if now.duration_since(watched.since) >= QUIET && !locked.contains(&name) {
                ready.push((state.mtime, name, state));
            }
        }
        ready.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        ready.retain(|(_, name, state)| taken.get(name) != Some(state));
        for (_, name, state) in ready {
            if seen.files.len() == BATCH {
                seen.more = true;
                break;
            }
            match self.read(&name, state) {
                Ok(Some(found)) => seen.files.push(found),
                Ok(None) => {}
                Err(e) => self.remark(&name, &format!("can not be read: {e}"), &mut odd, &mut seen),
            }
        }
        self.odd = odd;
        Ok(seen)
    }

    fn remark(&self, name: &OsStr, what: &str, odd: &mut HashSet<OsString>, seen: &mut Seen) {
        if odd.len() < ODD_MAX && odd.insert(name.to_owned()) && !self.odd.contains(name) {
            seen.odd.push(format!("{:?} {what}", shown(name)));
        }
    }

    /// Reads a file; `None` if it is no longer what was seen.
    fn read(&self, name: &OsStr, state: State) -> io::Result<Option<Found>> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(self.outgoing.join(name));
        let file = match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if State::of(&file.metadata()?) != state {
            return Ok(None);
        }
        let mut content = Vec::new();
        (&file).take(FILE_MAX + 1).read_to_end(&mut content)?;
        if State::of(&file.metadata()?) != state {
            return Ok(None);
        }
        let State { device, inode, size, ctime, .. } = state;
        let digest = hex::encode(Sha256::digest(&content));
        // Rename, chmod and link change the ctime: whoever puts the same words there again gets another key, even if the
        // inode's number is used again.
        let key = format!("spool:{device:x}:{inode:x}:{size:x}:{:x}.{:09}:{digest}", ctime.0, ctime.1);
        let content = (content.len() as u64 <= FILE_MAX).then_some(content);
        Ok(Some(Found { name: name.to_owned(), content, key, state }))
    }

    /// Takes a file out of `outgoing/`, and writes the lines behind its header.
    ///
    /// # Errors
    /// The file is where it was, if it could not be moved. Words that could not be written into it are no error of
    /// the move, and come back with its success.
    pub(super) fn put_away(
        &self,
        found: &Found,
        shelf: Shelf,
        lines: &[String],
    ) -> io::Result<Result<(), io::Error>> {
        let dir = match shelf {
            Shelf::Sent => &self.sent,
            Shelf::Failed => &self.failed,
        };
        let from = self.outgoing.join(&found.name);
        let Some(to) = rename_to_free(&from, dir, &found.name)? else { return Ok(Ok(())) };
        // The name may have got another file since that one was read, and the file more letters.
        let moved = State::of(&fs::symlink_metadata(&to).map_err(|e| at(&to, e))?);
        if !moved.is(&found.state) {
            rename_to_free(&to, &self.outgoing, &found.name)?;
            return Ok(Ok(()));
        }
        sync(dir).and_then(|()| sync(&self.outgoing))?;
        Ok(match &found.content {
            Some(content) => write_over(&to, dir, &with_lines(content, lines)),
            None => Ok(()),
        })
    }
}

/// Odd things that are remembered, so that each is said once; beyond that they are not said at all.
const ODD_MAX: usize = 1_000;

/// Why something can be no message file.
fn oddity(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        Some("is a symbolic link and is not followed")
    } else if kind.is_dir() {
        Some("is a directory")
    } else if !kind.is_file() {
        Some("is no file")
    } else if metadata.nlink() > 1 {
        Some("has other names (hard links)")
    } else {
        None
    }
}

/// Moves a file into a directory under its own name, or one with something behind it if that is taken: a number, and when
/// those are, too, the time and something random, so that a script that always writes the same name never comes to an end
/// of them. `None` if the file is gone.
fn rename_to_free(from: &Path, dir: &Path, name: &OsStr) -> io::Result<Option<PathBuf>> {
    let behind = (1..NUMBERS).map(|n| format!(".{n}"));
    let unique =
        std::iter::repeat_with(|| format!("{}.{}", Timestamp::now().strftime(".%Y%m%dT%H%M%SZ"), random()));
    // Room for what stands behind it within the 255 bytes of a name.
    let short = name.as_bytes().get(..200).unwrap_or(name.as_bytes());
    let others = behind.chain(unique.take(3)).map(|behind| {
        let mut to = OsStr::from_bytes(short).to_owned();
        to.push(behind);
        to
    });
    for to in std::iter::once(name.to_owned()).chain(others) {
        let to = dir.join(to);
        match renameat2(AT_FDCWD, from, AT_FDCWD, &to, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(Some(to)),
            Err(nix::Error::EEXIST) => {}
            // A file system without that kind of rename (NFS): looking first must do.
            Err(nix::Error::EINVAL) => match fs::symlink_metadata(&to) {
                Ok(_) => {}
                Err(_) => return fs::rename(from, &to).map(|()| Some(to.clone())).map_err(|e| at(&to, e)),
            },
            Err(nix::Error::ENOENT) if fs::symlink_metadata(from).is_err() => return Ok(None),
            Err(e) => return Err(at(&to, e.into())),
        }
    }
    Err(io::Error::other(format!("{} has no name left for {:?}", dir.display(), shown(name))))
}

/// Eight hexadecimal digits.
fn random() -> String {
    let digits = uuid::Uuid::now_v7().simple().to_string();
    // The last of them.
    digits.get(24..).unwrap_or_default().to_owned()
}

/// Replaces a file's content in one step.
fn write_over(path: &Path, dir: &Path, content: &[u8]) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.mode() & 0o666;
    let temporary = dir.join(format!(".smsd-{}", uuid::Uuid::now_v7()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode | 0o600))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync(dir)
    };
    write().map_err(|e| {
        // What was begun is of no use; if it is not there either, all the better.
        let _ = fs::remove_file(&temporary);
        at(path, e)
    })
}

/// The content with more lines at the end of its header.
fn with_lines(content: &[u8], lines: &[String]) -> Vec<u8> {
    let (head, body) = letter::split(content);
    let crlf = head.ends_with(b"\r\n");
    let mut all = head.to_vec();
    if !all.is_empty() && !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    for line in lines {
        all.extend_from_slice(line.as_bytes());
        all.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
    }
    if let Some(body) = body {
        all.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
        all.extend_from_slice(body);
    }
    all
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| at(dir, e))
}

/// A name as a log may hold it.
pub(super) fn shown(name: &OsStr) -> String {
    let mut name = name.to_string_lossy().into_owned();
    crate::telemetry::clip(&mut name, 100);
    name
}

fn at(path: &Path, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        folder: Folder,
        now: Instant,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::new(dir.path(), false);
            folder.set_up().unwrap();
            Place { dir, folder, now: Instant::now() }
        }

        fn put(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.path("outgoing").join(name);
            fs::write(&path, content).unwrap();
            path
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn look(&mut self) -> Seen {
            self.folder.look(self.now, &HashMap::new()).unwrap()
        }

        /// A look, and one after [`QUIET`].
        fn ready(&mut self) -> Seen {
            let odd = self.look().odd;
            self.now += QUIET;
            let mut seen = self.look();
            seen.odd.splice(0..0, odd);
            seen
        }

        fn names(&self, folder: &str) -> Vec<String> {
            let read = fs::read_dir(self.path(folder)).unwrap();
            let mut names: Vec<_> = read.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_file_is_taken_when_it_has_not_changed_for_a_second() {
        let mut place = Place::new();
        let path = place.put("a", b"To: 112\n\nhal");
        assert!(place.look().files.is_empty());
        place.now += QUIET / 2;
        File::options().append(true).open(&path).unwrap().write_all(b"f").unwrap();
        assert!(place.look().files.is_empty());
        place.now += QUIET * 9 / 10;
        assert!(place.look().files.is_empty());
        place.now += QUIET / 5;
        assert_eq!(place.look().files[0].content.as_deref(), Some(&b"To: 112\n\nhalf"[..]));
    }

    #[test]
    fn what_is_no_message_file_is_left_and_said_once() {
        let mut place = Place::new();
        place.put("good", b"To: 112\n\nx");
        place.put(".hidden", b"To: 112\n\nx");
        place.put("locked", b"To: 112\n\nx");
        place.put("locked.LOCK", b"");
        place.put("empty", b"");
        let elsewhere = place.path("secret");
        fs::write(&elsewhere, b"To: 112\n\nsecret").unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.path("outgoing/link")).unwrap();
        fs::hard_link(&elsewhere, place.path("outgoing/hard")).unwrap();
        fs::create_dir(place.path("outgoing/dir")).unwrap();
        nix::unistd::mkfifo(&place.path("outgoing/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::net::UnixListener::bind(place.path("outgoing/socket")).unwrap();
        let seen = place.ready();
        assert_eq!(seen.files.iter().map(|f| shown(&f.name)).collect::<Vec<_>>(), ["good"]);
        assert_eq!(seen.odd.len(), 5, "{:?}", seen.odd);
        assert!(place.look().odd.is_empty());
        fs::remove_file(place.path("outgoing/locked.LOCK")).unwrap();
        assert_eq!(place.look().files.len(), 2);
    }

    #[test]
    fn a_file_leaves_by_rename_with_lines_in_its_header() {
        let mut place = Place::new();
        place.put("a", b"To: 112\r\n\r\nx\r\n");
        fs::write(place.path("sent/a"), b"older").unwrap();
        let found = place.ready().files.remove(0);
        let lines = ["Alerts: 7".to_owned()];
        place.folder.put_away(&found, Shelf::Sent, &lines).unwrap().unwrap();
        assert_eq!(fs::read(place.path("sent/a.1")).unwrap(), b"To: 112\r\nAlerts: 7\r\n\r\nx\r\n");
        assert_eq!(fs::read(place.path("sent/a")).unwrap(), b"older");
        assert_eq!((place.names("outgoing"), place.names("sent").len()), (vec![], 2));
    }

    #[test]
    fn a_file_that_takes_the_place_of_the_one_that_was_read_stays() {
        let mut place = Place::new();
        place.put("a", b"To: 112\n\nfirst");
        let found = place.ready().files.remove(0);
        let other = place.path("other");
        fs::write(&other, b"To: 112\n\nother").unwrap();
        fs::rename(&other, place.path("outgoing/a")).unwrap();
        place.folder.put_away(&found, Shelf::Sent, &[]).unwrap().unwrap();
        assert_eq!(place.names("sent"), Vec::<String>::new());
        assert_eq!(fs::read(place.path("outgoing/a")).unwrap(), b"To: 112\n\nother");
    }

    #[test]
    fn the_same_words_again_are_another_file() {
        let mut place = Place::new();
        let mut keys = HashSet::new();
        for _ in 0..20 {
            let path = place.put("a", b"To: 112\n\nx");
            let set = File::options().write(true).open(&path).unwrap();
            set.set_modified(std::time::UNIX_EPOCH).unwrap();
            let found = place.ready().files.remove(0);
            assert_eq!(place.look().files[0].key, found.key, "unchanged, it keeps its key");
            place.folder.put_away(&found, Shelf::Sent, &[]).unwrap().unwrap();
            keys.insert(found.key);
        }
        assert_eq!(keys.len(), 20);
        assert!(keys.iter().all(|key| key.len() <= 255), "{keys:?}");
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_whole() {
        let mut place = Place::new();
        place.put("a", &[b'x'; FILE_MAX as usize + 1]);
        let found = place.ready().files.remove(0);
        assert_eq!(found.content, None);
        place.folder.put_away(&found, Shelf::Failed, &["Fail_reason: x".into()]).unwrap().unwrap();
        assert_eq!(place.names("failed"), ["a"]);
    }
}
