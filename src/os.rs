//! What the operating system owes a daemon: a pid file that is a lock, a user that is not root, a place in the
//! background, a clock that runs through suspend, descriptors enough, and children that can not hurt it.
//!
//! Everything here happens in [`crate::cli`] before a runtime or a thread exists, except the clock and the children.
//! Signals are the daemon's own. Absent on purpose: systemd (a foreground daemon is all that it needs).

pub mod child;
pub mod clock;
pub mod daemonize;
pub mod descriptors;
pub mod pidfile;
pub mod privileges;

pub use clock::BootTime;
pub use daemonize::daemonize;
pub use pidfile::{PidFile, PidFileError};
pub use privileges::{User, UserError};
