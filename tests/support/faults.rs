//! Faults of the machine, done to a program through its C library: a disk that is full, a clock that jumps, and a
//! journal of what a program did to the files of a folder, from which [`Disk`] makes up what a power cut leaves.
//!
//! `faults/shim.c` is put before the C library by `LD_PRELOAD`; what it does is switched in a file that both map.

#![allow(dead_code, reason = "not every test binary uses all of it")]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

const SHIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faults/shim.c");
/// Sparse: what is not written takes no room.
const JOURNAL: u64 = 1 << 30;
/// What a disk writes as a whole.
const SECTOR: u64 = 512;

// As the shim has it.
const HEAD: u64 = 4096;
const RECORD: usize = 32;
const CLOCK_AHEAD: u64 = 8;
const JOURNAL_ON: u64 = 16;
const DISK_FULL: u64 = 20;
const SLOW_SYNC: u64 = 24;
const REFUSED: u64 = 28;
const NO_DESCRIPTORS: u64 = 32;
const ROOM: u64 = 40;
const UPTIME_AHEAD: u64 = 48;

/// The switches, for all programs that run under them.
pub struct Faults {
    dir: TempDir,
    file: File,
}

impl Faults {
    pub fn new() -> Faults {
        let dir = tempfile::tempdir().unwrap();
        // Whoever a program becomes must reach what it was started with.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let compiled = Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", SHIM, "-o"])
            .arg(dir.path().join("shim.so"))
            .status();
        assert!(compiled.is_ok_and(|status| status.success()), "cc: run scripts/install-test-deps");
        let file = dir.path().join("switches");
        let file = File::options().read(true).write(true).create_new(true).open(file).unwrap();
        file.set_len(HEAD).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o666)).unwrap();
        Faults { dir, file }
    }

    /// The same, with a journal of what is done in the folder.
    pub fn with_journal() -> Faults {
        let faults = Faults::new();
        faults.file.set_len(JOURNAL).unwrap();
        faults.set_u32(JOURNAL_ON, 1);
        faults
    }

    /// The program runs under these faults; those of the disk are those of the files in `folder`.
    pub fn befall(&self, command: &mut Command, folder: Option<&Path>) {
        for (name, value) in self.env() {
            command.env(name, value);
        }
        if let Some(folder) = folder {
            command.env("FAULTS_DIR", folder);
        }
    }

    /// What a program must have in its environment.
    pub fn env(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.dir.path().join("shim.so")), ("FAULTS", self.dir.path().join("switches"))]
    }

    pub fn set_disk_full(&self, full: bool) {
        self.set_u32(DISK_FULL, full.into());
    }

    /// Files grow by what is given back from now on, and no more.
    pub fn set_disk_full_but_for_room(&self) {
        self.file.write_all_at(&0_i64.to_ne_bytes(), ROOM).unwrap();
        self.set_u32(DISK_FULL, 2);
    }

    /// How often the disk was too full.
    pub fn refused(&self) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, REFUSED).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// What is open stays open, and no more can be had.
    pub fn set_no_descriptors(&self, none: bool) {
        self.set_u32(NO_DESCRIPTORS, none.into());
    }

    /// The wall clock is so many seconds ahead.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), CLOCK_AHEAD).unwrap();
    }

    /// The clock that nobody sets is so many seconds ahead: so much sooner what the program waits for comes.
    pub fn set_uptime_ahead(&self, seconds: i64) {
        self.file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), UPTIME_AHEAD).unwrap();
    }

    /// A sync takes up to so long. Only with a journal.
    pub fn set_slow_sync(&self, most: Duration) {
        self.set_u32(SLOW_SYNC, most.as_micros().try_into().unwrap());
    }

    fn set_u32(&self, at: u64, value: u32) {
        self.file.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }

    /// What was done since the last time, in order. No program may be running.
    fn take_journal(&self) -> Vec<(u64, Deed)> {
        let mut used = [0; 8];
        self.file.read_exact_at(&mut used, 0).unwrap();
        let mut journal = vec![0; u64::from_ne_bytes(used).try_into().unwrap()];
        self.file.read_exact_at(&mut journal, HEAD).unwrap();
        let mut deeds = Vec::new();
        let mut place = 0;
        while place < journal.len() {
            let (deed, length) = Deed::read(&journal[place..]);
            deeds.push((place as u64, deed));
            place += length;
        }
        // Gives the room back too.
        self.file.set_len(HEAD).unwrap();
        self.file.set_len(JOURNAL).unwrap();
        self.file.write_all_at(&[0; 8], 0).unwrap();
        deeds
    }
}

/// What a program did to a file (by its inode), or to the folder.
#[derive(Debug)]
enum Deed {
    Create {
        file: u64,
        name: String,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Write {
        file: u64,
        at: u64,
        data: Vec<u8>,
    },
    Truncate {
        file: u64,
        length: u64,
    },
    /// What was done before that place is on the disk.
    Sync {
        file: u64,
        until: u64,
    },
    SyncFolder {
        until: u64,
    },
}

impl Deed {
    fn read(record: &[u8]) -> (Deed, usize) {
        let u32_at = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
        let (file, at, length) = (u64_at(8), u64_at(16), u64_at(24));
        let named = RECORD + u32_at(4) as usize;
        let name = String::from_utf8(record[RECORD..named].to_vec()).unwrap();
        match u32_at(0) {
            1 => (Deed::Create { file, name }, named),
            2 => (Deed::Unlink { name }, named),
            3 => {
                let (from, to) = name.split_once('/').unwrap();
                (Deed::Rename { from: from.into(), to: to.into() }, named)
            }
            4 => {
                let end = named + usize::try_from(length).unwrap();
                (Deed::Write { file, at, data: record[named..end].to_vec() }, end)
            }
            5 => (Deed::Truncate { file, length }, named),
            6 => (Deed::Sync { file, until: at }, named),
            7 => (Deed::SyncFolder { until: at }, named),
            other => panic!("a record of kind {other}"),
        }
    }
}

/// What a disk holds of a folder, as far as it has promised.
#[derive(Default)]
pub struct Disk {
    /// Which file a name is.
    names: BTreeMap<String, usize>,
    files: HashMap<usize, Vec<u8>>,
    /// Which file an inode was when the power came back.
    inodes: HashMap<u64, usize>,
    made: usize,
    /// How many deeds were not synced when the power was cut.
    pub unsynced: usize,
    /// How many of those are lost, or torn.
    pub lost: usize,
}

impl Disk {
    /// The power is cut: every file in `folder` becomes what the disk holds of it. What was synced is there; of what
    /// was done since, a random part, in whole or in sectors.
    pub fn cut(&mut self, faults: &Faults, folder: &Path, random: &mut fastrand::Rng) {
        let mut known = std::mem::take(&mut self.inodes);
        let mut pending: HashMap<usize, Vec<(u64, Deed)>> = HashMap::new();
        let mut pending_names: Vec<(u64, Deed, usize)> = Vec::new();
        for (place, deed) in faults.take_journal() {
            match deed {
                Deed::Create { file, .. } => {
                    // An inode is used again when its file is gone.
                    self.made += 1;
                    known.insert(file, self.made);
                    self.files.insert(self.made, Vec::new());
                    pending_names.push((place, deed, self.made));
                }
                Deed::Unlink { .. } | Deed::Rename { .. } => pending_names.push((place, deed, 0)),
                Deed::Write { file, .. } | Deed::Truncate { file, .. } => {
                    pending.entry(known[&file]).or_default().push((place, deed));
                }
                Deed::Sync { file, until } => {
                    let file = known[&file];
                    let deeds = pending.remove(&file).unwrap_or_default();
                    let (synced, rest) = deeds.into_iter().partition(|(place, _)| *place < until);
                    pending.insert(file, rest);
                    let synced: Vec<(u64, Deed)> = synced;
                    for (_, deed) in synced {
                        self.apply(file, &deed, |_| true);
                    }
                }
                Deed::SyncFolder { until } => {
                    let (synced, rest) = pending_names.into_iter().partition(|(place, ..)| *place < until);
                    pending_names = rest;
                    let synced: Vec<(u64, Deed, usize)> = synced;
                    for (_, deed, file) in synced {
                        self.name(deed, file);
                    }
                }
            }
        }
        // Now all is kept, now nothing; mostly something between.
        let kept = *random.choice(&[0.0, 0.0, 0.3, 0.7, 0.95, 1.0]).unwrap();
        for (_, deed, file) in pending_names {
            self.unsynced += 1;
            if random.f64() < kept {
                self.name(deed, file);
            } else {
                self.lost += 1;
            }
        }
        // In one order, so that a seed is one history.
        let mut pending: Vec<_> = pending.into_iter().collect();
        pending.sort_by_key(|(file, _)| *file);
        for (file, deeds) in pending {
            for (_, deed) in deeds {
                self.unsynced += 1;
                if random.f64() < kept {
                    self.apply(file, &deed, |_| true);
                    continue;
                }
                self.lost += 1;
                if random.bool() && kept > 0.0 {
                    self.apply(file, &deed, |_| random.bool());
                }
            }
        }
        self.files.retain(|file, _| self.names.values().any(|named| named == file));
        self.write_out(folder);
    }

    fn apply(&mut self, file: usize, deed: &Deed, mut sector_is_kept: impl FnMut(u64) -> bool) {
        let Some(content) = self.files.get_mut(&file) else { return };
        match deed {
            Deed::Truncate { length, .. } => content.resize((*length).try_into().unwrap(), 0),
            Deed::Write { at, data, .. } => {
                let end = at + data.len() as u64;
                for sector in at / SECTOR..end.div_ceil(SECTOR) {
                    if !sector_is_kept(sector) {
                        continue;
                    }
                    let (from, to) = ((sector * SECTOR).max(*at), ((sector + 1) * SECTOR).min(end));
                    let index = |n: u64| usize::try_from(n).unwrap();
                    if content.len() < index(to) {
                        content.resize(index(to), 0);
                    }
                    content[index(from)..index(to)].copy_from_slice(&data[index(from - at)..index(to - at)]);
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, deed: Deed, file: usize) {
        match deed {
            Deed::Create { name, .. } => drop(self.names.insert(name, file)),
            Deed::Unlink { name } => drop(self.names.remove(&name)),
            Deed::Rename { from, to } => {
                if let Some(file) = self.names.remove(&from) {
                    self.names.insert(to, file);
                }
            }
            _ => {}
        }
    }

    fn write_out(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let owner = fs::metadata(folder).unwrap();
        for (name, file) in &self.names {
            let path = folder.join(name);
            fs::write(&path, &self.files[file]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            self.inodes.insert(fs::metadata(&path).unwrap().ino(), *file);
        }
    }
}
