//! What other programs post: their bodies, the answers that they get, and the examples of docs/integrations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test helpers fail by panicking")]

#[path = "webhooks/bench.rs"]
mod bench;
#[path = "webhooks/bodies.rs"]
mod bodies;
#[path = "webhooks/integrations.rs"]
mod integrations;
#[path = "webhooks/routes.rs"]
mod routes;
