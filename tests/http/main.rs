//! The HTTP interface over real sockets, asked by hand: what it takes, whom it lets in, and what it survives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod access;
mod alerts;
mod bench;
mod document;
mod hostile;
mod schemathesis;
