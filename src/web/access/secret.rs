//! What only one side knows: random, hashed, compared in constant time.

use std::fmt;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// The SHA-256 of a token. A token has 256 random bits, which nobody finds by trying, so that no slower hash is needed.
#[derive(Clone, Copy)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a token.
    pub fn of(token: impl AsRef<[u8]>) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_ref()).as_ref());
        Hash(hash)
    }

    /// From its 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Hash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Hash(hash))
    }

    /// Its 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// In constant time.
impl PartialEq for Hash {
    fn eq(&self, other: &Hash) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for Hash {}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

/// True if both are the same, found out in a time that says nothing of where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// 256 random bits, as 64 hexadecimal digits; `None` if the system has none to give.
pub fn random_token() -> Option<String> {
    let mut bits = [0; 32];
    SystemRandom::new().fill(&mut bits).ok()?;
    Some(hex::encode(bits))
}
