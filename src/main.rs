//! The `smsd` program.

fn main() {}
