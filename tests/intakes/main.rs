//! Alerts that come as files and as mails, to the real daemon with the embedded queue: what is said to be taken goes
//! out once, what is not is said to be not, and nothing foreign harms the others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unreachable_pub,
    reason = "test helpers fail by panicking, and not every binary uses all of them"
)]

#[path = "../support/postgres.rs"]
mod postgres;

#[path = "../daemon/bench.rs"]
mod bench;
mod hostile;
mod mails;
mod site;
mod spool;
