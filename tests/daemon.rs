//! The real program end to end: `smsd` as a process, PostgreSQL with NAV's tables or the embedded queue, NAV's
//! three files, HTTP gateways. One file per theme, told in the user's words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "test helpers fail by panicking"
)]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/pgbouncer.rs"]
mod pgbouncer;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/proxy.rs"]
mod proxy;

mod daemon {
    pub mod bench;

    mod admin_mail;
    mod activation;
    mod alertmanager;
    mod bad_input;
    mod boost;
    mod clock;
    mod crashes;
    mod database;
    mod descriptors;
    mod evidence;
    mod failpoints;
    mod figures;
    mod full;
    mod gammu;
    mod gateways;
    mod instances;
    mod intake;
    mod locked;
    mod log;
    mod machine;
    mod mail;
    mod markers;
    mod nav;
    mod nav_starts;
    mod overload;
    mod past;
    mod poison;
    mod rollback;
    mod pooler;
    mod power;
    mod process;
    mod programs;
    mod python_queue;
    mod reload;
    mod secrets;
    mod service;
    mod torture;
    mod ways_out;
}
