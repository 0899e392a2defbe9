//! The way into the background.

use std::io;

/// Goes to the background: a new process without a terminal, in a session of its own, in `/`, with `/dev/null`
/// for its standard streams (daemon(3)).
///
/// Returns in the child; the calling process ends with exit code 0. Everything that may fail is done before,
/// so that it is seen on the terminal and in the exit code. Locks on files go along, since both
/// processes share the open file.
///
/// # Errors
/// The process stays in the foreground if it can not fork, or if it has other threads, which would be lost.
pub fn daemonize() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(io::Error::other(format!("{threads} threads run; only a process with one can go there")));
    }
    nix::unistd::daemon(false, false).map_err(io::Error::from)
}
