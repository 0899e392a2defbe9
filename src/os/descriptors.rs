//! How many files and connections the system lets us have open at once.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the daemon needs beside its dispatchers' connections: its streams, log, pid file and wake-ups, the queue's
/// files or connections, and what is open for a moment.
pub const OURS: u64 = 26;

/// Takes as many as we may have ever, and returns how many that is. The limit that holds at first is one for programs
/// that can not deal with many, which we can.
///
/// # Errors
/// The system does not say.
pub fn take_all() -> io::Result<u64> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now < most && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok() {
        return Ok(most);
    }
    Ok(now)
}

/// How many we may have open at once.
///
/// # Errors
/// The system does not say.
pub fn allowed() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// How many submits at once each of so many dispatchers may make, if there are `limit` descriptors.
pub fn share(limit: u64, dispatchers: usize) -> usize {
    let rest = usize::try_from(limit.saturating_sub(OURS)).unwrap_or(usize::MAX);
    (rest / dispatchers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_shared() {
        assert_eq!(share(OURS + 6, 1), 6);
        assert_eq!(share(OURS + 6, 4), 1);
        assert_eq!((share(0, 3), share(OURS, 0)), (1, 1), "one at least");
        assert!(share(u64::MAX, 1) > 1_000_000_000);
    }
}
