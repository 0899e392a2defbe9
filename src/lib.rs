//! smsd gets alerts onto people's phones as SMS when everything else is down.
//!
//! The map, in reading order.

pub mod alert;
pub mod queue;
pub mod compose;
pub mod sms;
pub mod dispatch;
pub mod config;
pub mod telemetry;
pub mod demo;
