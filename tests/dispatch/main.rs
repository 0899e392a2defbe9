//! The dispatchers: one contract, run over every implementation, and what each has beside it.

mod contract;
mod debug;
mod http_get;
mod tls;
