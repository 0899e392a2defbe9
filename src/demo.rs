//! What `smsd demo` and the tests need of the world outside.

pub mod gateway;
