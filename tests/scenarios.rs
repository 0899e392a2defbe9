//! The real engine under paused time: one file per thing that goes wrong, told as an operator would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test helpers fail by panicking, and are nobody's interface"
)]

#[path = "scenarios/bench.rs"]
mod bench;

#[path = "scenarios/crash.rs"]
mod crash;
#[path = "scenarios/evidence.rs"]
mod evidence;
#[path = "scenarios/gateways.rs"]
mod gateways;
#[path = "scenarios/idle.rs"]
mod idle;
#[path = "scenarios/limits.rs"]
mod limits;
#[path = "scenarios/severe.rs"]
mod severe;
#[path = "scenarios/overload.rs"]
mod overload;
#[path = "scenarios/panics.rs"]
mod panics;
#[path = "scenarios/past.rs"]
mod past;
#[path = "scenarios/poison.rs"]
mod poison;
#[path = "scenarios/room.rs"]
mod room;
#[path = "scenarios/timing.rs"]
mod timing;
#[path = "scenarios/walks.rs"]
mod walks;
#[path = "scenarios/wrapped.rs"]
mod wrapped;
