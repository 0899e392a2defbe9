//! The real program end to end: `smsd` as a process, PostgreSQL with NAV's tables or the embedded queue, NAV's
//! three files, HTTP gateways. One file per theme, told in the user's words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "test helpers fail by panicking"
)]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/proxy.rs"]
mod proxy;

mod daemon {
    pub mod bench;

    mod bad_input;
    mod crashes;
    mod database;
    mod figures;
    mod gateways;
    mod nav;
    mod past;
    mod process;
    mod secrets;
    mod torture;
}
