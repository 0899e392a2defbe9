//! The commands.

pub mod compose;
