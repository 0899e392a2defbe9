//! smsd gets alerts onto people's phones as SMS when everything else is down.
//!
//! The map, in reading order.

pub mod alert;
pub mod queue;
pub mod compose;
pub mod sms;
pub mod dispatch;
pub mod failover;
pub mod engine;
pub mod standing;
pub mod intake;
pub mod web;
pub mod daemon;
pub mod embed;
pub mod config;
pub mod telemetry;
pub mod os;
pub mod demo;
pub mod seeded;
pub mod cli;

pub use embed::{Parts, run};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
