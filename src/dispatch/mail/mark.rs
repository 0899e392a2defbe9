//! By what a mail of ours is known when it comes back to our own mail intake: there it would be a new alert, sent as a mail
//! again, and so on without end.
//!
//! The mark is that of the place (this machine's name and the state directory), so that it is the same after a restart, and
//! another smsd, which may well be somebody's gateway, has another.

use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// The header that bears it.
pub const HEADER: &str = "X-Smsd";

static MARK: OnceLock<String> = OnceLock::new();

/// Whose mails are ours, said once at the start.
pub fn set(machine: &str, state_dir: &Path) {
    let mut hash = Sha256::new();
    hash.update(machine);
    hash.update([0]);
    hash.update(state_dir.as_os_str().as_encoded_bytes());
    let mark = hex::encode(hash.finalize());
    let _ = MARK.set(mark.get(..32).unwrap_or_default().to_owned());
}

/// The mark, if it was said.
pub fn get() -> Option<&'static str> {
    MARK.get().map(String::as_str)
}
