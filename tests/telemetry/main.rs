//! What a running daemon tells: metrics, with the rules and the dashboard that rest on them, and the terminal.

// clippy knows tests by their attribute, and so takes what they share for the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod daemon;
mod metrics;
mod terminal;
