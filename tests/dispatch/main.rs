//! The dispatchers: one contract, run over every implementation, and what each has beside it.

// clippy knows tests by their attribute, and so takes what they share for the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod boost;
mod contract;
mod debug;
mod exec;
mod gammu;
mod http;
mod http_get;
mod kannel;
mod mail;
#[path = "../support/peers.rs"]
mod peers;
mod presets;
mod python;
mod tls;
mod way;
