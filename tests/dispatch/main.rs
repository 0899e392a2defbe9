//! The dispatchers: one contract, run over every implementation, and what each has beside it.

// clippy knows tests by their attribute, and so takes what they share for the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
mod debug;
mod exec;
mod http_get;
mod python;
mod tls;
