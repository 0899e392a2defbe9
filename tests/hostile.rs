//! The real program under attack: by whoever reaches its ports, by tokens that may do little, by other users of the
//! machine, by files, mails and gateways. While each attack goes on, an honest caller hands in urgent alerts, is told yes
//! each time, and the gateway has each within two seconds.
//!
//! What is ignored here is the same at larger figures: `make attack`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unreachable_pub,
    reason = "test helpers fail by panicking, and not every binary uses all of them"
)]

#[path = "daemon/bench.rs"]
mod bench;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/postgres.rs"]
mod postgres;

mod hostile {
    mod place;

    mod bodies;
    mod cwd;
    mod gateways;
    mod listeners;
    mod logins;
    mod mails;
    mod numbers;
    mod shown;
    mod spool;
    mod webhooks;
    mod wire;
}
