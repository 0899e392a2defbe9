//! From root to a user who may do less, for good.

use std::ffi::CString;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{self, Gid, Uid};

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct User {
    /// The login.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
}

/// Why we could not become a user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is no such user.
    #[error("there is no user {0:?} on this machine; create it, or set `username` in [main] of smsd.conf")]
    Unknown(String),
    /// The user is root itself.
    #[error("{0:?} is root, and smsd does not run as root; set `username` in [main] of smsd.conf")]
    Root(String),
    /// The system refused.
    #[error("can not become user {name:?}: {step}: {source}")]
    System {
        /// The user.
        name: String,
        /// What was refused.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The system did not take our word that we want no new privileges.
    #[error("can not forswear new privileges: {0}")]
    Forswear(#[source] io::Error),
    /// Root could be regained, so it was not given up.
    #[error("became user {0:?}, but root can be regained; this system is not safe to run on")]
    Regained(String),
}

impl User {
    /// Looks a user up by login.
    ///
    /// # Errors
    /// [`UserError::Unknown`], or [`UserError::System`] if the user database does not answer.
    pub fn find(name: &str) -> Result<User, UserError> {
        match unistd::User::from_name(name) {
            Ok(Some(u)) => Ok(User { name: u.name, uid: u.uid.as_raw(), gid: u.gid.as_raw() }),
            Ok(None) => Err(UserError::Unknown(name.to_owned())),
            Err(e) => Err(system(name, "looking it up", e)),
        }
    }

    /// Becomes this user with all its groups, for the whole process, and makes sure that there is no way back.
    /// Must be called by root, and before there are other threads.
    ///
    /// # Errors
    /// Any [`UserError`]; the process must then end, since it may be half way.
    pub fn become_it(&self) -> Result<(), UserError> {
        let fail = |step| move |e| system(&self.name, step, e);
        if self.uid == 0 {
            return Err(UserError::Root(self.name.clone()));
        }
        let login = CString::new(self.name.as_str()).map_err(|_| UserError::Unknown(self.name.clone()))?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        unistd::initgroups(&login, gid).map_err(fail("taking its groups"))?;
        unistd::setgid(gid).map_err(fail("taking its group"))?;
        unistd::setuid(uid).map_err(fail("taking its number"))?;
        if unistd::setuid(Uid::from_raw(0)).is_ok()
            || self.gid != 0 && unistd::setgid(Gid::from_raw(0)).is_ok()
        {
            return Err(UserError::Regained(self.name.clone()));
        }
        forswear()
    }

    /// Makes a folder with its parents, the last one owned by this user. What is there is left as it is.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn make_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(path)?;
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }
}

/// True if this process may become another user.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Forswears new privileges, for good: no program that we start (a gateway's helper, gammu) gains rights by being
/// set-user-id. Nor is this process's memory, in which secrets stand, left in a file or shown to others of its user.
///
/// # Errors
/// [`UserError::Forswear`].
pub fn forswear() -> Result<(), UserError> {
    // Where it is not to be had, something else keeps it.
    let _ = prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    match prctl::set_no_new_privs() {
        // Kernels before 3.5 and some sandboxes do not know it.
        Err(Errno::EINVAL | Errno::ENOSYS) => Ok(()),
        other => other.map_err(|e| UserError::Forswear(e.into())),
    }
}

fn system(name: &str, step: &'static str, e: Errno) -> UserError {
    UserError::System { name: name.to_owned(), step, source: e.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_is_named() {
        let e = User::find("no-such-user-here").unwrap_err();
        assert!(matches!(&e, UserError::Unknown(name) if name == "no-such-user-here"));
        assert!(e.to_string().contains("`username`"), "{e}");
    }

    #[test]
    fn root_is_no_user_to_become() {
        let root = User::find("root").unwrap();
        assert_eq!(root.uid, 0);
        assert!(matches!(root.become_it(), Err(UserError::Root(_))));
    }
}
