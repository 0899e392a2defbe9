//! Room for the hour in which the disk is full.
//!
//! "The disk is full" is an alert that people want to get, and nothing may be sent that can not be written down first. So
//! a file beside the queue takes up some room (`queue.db-ballast`), and is removed by the first write that finds none:
//! that write and some thousand attempts after it have room. It comes back when there is enough of it.
//!
//! Deliberately absent: a ballast that grows with what waits. It bridges the time until somebody has read the SMS.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// An attempt takes one to two kilobytes of the file, and the write-ahead log that is there is used again.
const SIZE: i64 = 8 << 20;
/// It is put back only if the disk has so much room: else it would take the last.
const ROOM: u64 = 64 << 20;
/// How often it is looked for.
const LOOK: Duration = Duration::from_secs(10);

/// See the module.
pub struct Ballast {
    path: PathBuf,
    told: Mutex<Told>,
}

/// What people were told of it.
#[derive(Default)]
struct Told {
    events: Option<Box<dyn Fn(Room) + Send>>,
    gone: bool,
}

/// What is told of the room on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// The disk has none: the ballast was given up, or there is no room to make one.
    Full {
        /// The folder that has none.
        place: PathBuf,
    },
    /// There is room again, and the ballast is back.
    Again,
}

impl Ballast {
    /// That of the queue in the file at `queue`. Nothing is made before [`Ballast::keep`].
    pub(super) fn beside(queue: &Path) -> Ballast {
        let mut path = queue.as_os_str().to_owned();
        path.push("-ballast");
        Ballast { path: path.into(), told: Mutex::default() }
    }

    /// Keeps it there from now on, until the guard is dropped, and tells what becomes of it.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn keep(self: &Arc<Self>, events: impl Fn(Room) + Send + 'static) -> io::Result<Kept> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).events = Some(Box::new(events));
        let (stop, stopped) = channel();
        let ballast = Arc::clone(self);
        let keep = move || {
            loop {
                ballast.look();
                if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("queue-ballast".into()).spawn(keep)?;
        Ok(Kept { stop: Some(stop), thread: Some(thread) })
    }

    /// Gives its room back; false if there is none to give.
    pub(super) fn give_up(&self) -> bool {
        let given = fs::metadata(&self.path).is_ok_and(|found| found.len() > 0);
        let given = given && fs::remove_file(&self.path).is_ok();
        self.tell(true);
        given
    }

    /// Puts it back if it is gone and there is room.
    fn look(&self) {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() >= SIZE.unsigned_abs()) {
            return self.tell(false);
        }
        let made = has_room(&self.path) && self.make().is_ok();
        if !made {
            // What was begun is no ballast, and takes room.
            let _ = fs::remove_file(&self.path);
        }
        self.tell(!made);
    }

    fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        posix_fallocate(&file, 0, SIZE)?;
        Ok(())
    }

    /// Tells a change, once.
    fn tell(&self, gone: bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.gone == gone {
            return;
        }
        told.gone = gone;
        if let Some(events) = &told.events {
            let place = self.path.parent().unwrap_or(&self.path).to_owned();
            events(if gone { Room::Full { place } } else { Room::Again });
        }
    }
}

fn has_room(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    statvfs(directory)
        .is_ok_and(|found| found.blocks_available().saturating_mul(found.fragment_size()) >= ROOM)
}

/// Ends the watch over the ballast when it is dropped; the file stays.
pub struct Kept {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
