//! PostgreSQL as a queue's store: finding it, logging in, and staying in touch.
//!
//! tokio-postgres speaks the protocol but knows neither libpq's environment nor its password file, nor who
//! is to be believed in TLS; that is here, so that whatever lets `psql` in lets us in. Deliberately absent:
//! session state, named prepared statements and session locks, so that a pooler may stand between. What a
//! transaction needs it says itself (`client.rs`); only `ear.rs` listens, and finds out whether that is any
//! use. Absent, too: `service` files, GSS and Kerberos.

pub mod settings;
mod cancel;
mod client;
mod connect;
mod ear;
mod fault;
mod link;
mod passfile;
mod scope;
mod tls;

pub(super) use client::{Begin, Client, Parameter, Statement, Terms, in_transaction};
pub(super) use ear::Ear;
pub(super) use fault::{is_late, spoils};
pub(super) use link::{Fault, Link, Server};
pub(super) use scope::Letters;
pub use settings::Settings;
