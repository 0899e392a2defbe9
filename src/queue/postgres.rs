//! PostgreSQL as a queue's store: finding it, logging in, and staying in touch.
//!
//! tokio-postgres speaks the protocol but knows neither libpq's environment nor its password file, nor who
//! is to be believed in TLS; that is here, so that whatever lets `psql` in lets us in. Deliberately absent:
//! session state other than `LISTEN`, named prepared statements and session locks, so that a pooler may
//! stand between; `service` files, GSS and Kerberos.

pub mod settings;
mod connect;
mod fault;
mod link;
mod passfile;
mod tls;

pub(super) use fault::ends_session;
pub(super) use link::{Fault, Link, Parameter, Server, Statement, before_commit, in_transaction};
pub use settings::Settings;
