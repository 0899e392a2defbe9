//! The SMS itself.

use serde::Serialize;

/// How the network carries a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// GSM 03.38 default alphabet and its extension table, packed septets.
    Gsm7,
    /// UTF-16 big-endian.
    Ucs2,
}
