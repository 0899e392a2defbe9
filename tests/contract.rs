//! The contract suites: what every implementation of a trait must do, run over each of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "test helpers fail by panicking"
)]

#[path = "support/postgres.rs"]
mod postgres;

mod contract {
    mod defaults;
    mod memory;
    mod navdb;
    mod model;
    pub mod queue;
    mod sqlite;
}
