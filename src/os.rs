//! What the operating system owes a daemon: a pid file that is a lock, a user that is not root, a place in the
//! background, a clock that runs through suspend, descriptors enough, and children that can not hurt it.
//!
//! Everything here happens in [`crate::cli`] before a runtime or a thread exists, except the clock, the children and what the service
//! manager is told.
//! Signals are the daemon's own.

pub mod child;
pub mod clock;
pub mod daemonize;
pub mod descriptors;
pub mod inherited;
pub mod notify;
pub mod orphans;
pub mod pidfile;
pub mod privileges;

pub use clock::BootTime;
pub use daemonize::daemonize;
pub use inherited::Inherited;
pub use notify::Notify;
pub use pidfile::{PidFile, PidFileError};
pub use privileges::{User, UserError};
