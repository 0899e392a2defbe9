//! The record of the storm guard in a file: two slots, written in turns, so that one of them is always whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::fcntl::OFlag;

use super::{Keep, Record};

/// Bytes of a slot; a record takes at most 240.
const SLOT: usize = 256;

/// A file in the state directory. It is made at the first save.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: Option<File>,
    /// How many records were written: the next goes to the slot that is older.
    written: u64,
}

impl RecordFile {
    /// At this path; nothing is read or made yet.
    pub fn at(path: PathBuf) -> RecordFile {
        RecordFile { path, file: None, written: 0 }
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        options
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = match Self::options().open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        (&file).take(2 * SLOT as u64).read_to_end(&mut bytes)?;
        self.file = Some(file);
        Ok(Some(bytes))
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        // A file that was removed is made again: what is written to one without a name nobody reads.
        let file = match self.file.take().filter(|_| self.path.exists()) {
            Some(file) => file,
            None => Self::options().create(true).truncate(false).open(&self.path)?,
        };
        let number = self.written + 1;
        let mut slot = record.to_line(number).into_bytes();
        slot.resize(SLOT, 0);
        let at = if number.is_multiple_of(2) { SLOT } else { 0 };
        let file = self.file.insert(file);
        file.write_all_at(&slot, at as u64)?;
        self.written = number;
        Ok(())
    }
}

impl Keep for RecordFile {
    fn load(&mut self) -> Result<Option<Record>, String> {
        let path = self.path.display().to_string();
        let bytes = match self.read() {
            Ok(Some(bytes)) if !bytes.is_empty() => bytes,
            Ok(_) => return Ok(None),
            Err(e) => return Err(format!("{path}: {e}")),
        };
        let slots = bytes.chunks(SLOT).filter_map(|slot| Record::of_line(&String::from_utf8_lossy(slot)));
        let (number, record) = slots
            .max_by_key(|(number, _)| *number)
            .ok_or_else(|| format!("{path}: no whole record in it"))?;
        self.written = number;
        Ok(Some(record))
    }

    fn save(&mut self, record: &Record) -> Result<(), String> {
        self.write(record).map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn record(n: u128) -> Record {
        let begun = (!n.is_multiple_of(3)).then(|| Uuid::from_u128(n));
        Record {
            queue: Uuid::from_u128(9),
            begun,
            seen: begun,
            log: None,
            whole: Timestamp::from_second(n as i64).unwrap(),
        }
    }

    #[test]
    fn the_last_record_is_read_back_whatever_befell_the_slot_before() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("guard");
        assert_eq!(RecordFile::at(path.clone()).load(), Ok(None));
        let mut file = RecordFile::at(path.clone());
        for n in 1..8 {
            file.save(&record(n)).unwrap();
            assert_eq!(RecordFile::at(path.clone()).load(), Ok(Some(record(n))));
            // The next record is torn at any byte: this one is still there.
            let before = std::fs::read(&path).unwrap();
            let next = if n % 2 == 1 { SLOT } else { 0 };
            for cut in 0..SLOT {
                let mut torn = before.clone();
                torn.resize(2 * SLOT, 0);
                torn[next + cut..next + SLOT].fill(b'x');
                std::fs::write(&path, &torn).unwrap();
                let read = RecordFile::at(path.clone()).load().unwrap();
                assert!(read == Some(record(n)), "{n} {cut}: {read:?}");
            }
            std::fs::write(&path, &before).unwrap();
        }
        // Another process goes on where this one stopped.
        let mut next = RecordFile::at(path.clone());
        assert_eq!(next.load(), Ok(Some(record(7))));
        next.save(&record(8)).unwrap();
        assert_eq!(RecordFile::at(path).load(), Ok(Some(record(8))));
    }

    #[test]
    fn what_can_not_be_read_or_written_is_said() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("guard");
        for odd in ["rubbish", "\0\0\0\n\n", &"x".repeat(5000)] {
            std::fs::write(&path, odd).unwrap();
            let said = RecordFile::at(path.clone()).load().unwrap_err();
            assert!(said.contains("no whole record"), "{said}");
        }
        let mut file = RecordFile::at(path.clone());
        let _ = file.load();
        file.save(&record(1)).unwrap();
        assert_eq!(RecordFile::at(path.clone()).load(), Ok(Some(record(1))), "it is replaced");
        std::fs::remove_file(&path).unwrap();
        file.save(&record(2)).unwrap();
        assert_eq!(RecordFile::at(path).load(), Ok(Some(record(2))), "it is made again");
        let nowhere = dir.path().join("none/guard");
        assert!(RecordFile::at(nowhere).save(&record(1)).unwrap_err().contains("none/guard"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(RecordFile::at(link).save(&record(1)).is_err(), "it follows no link");
    }
}
