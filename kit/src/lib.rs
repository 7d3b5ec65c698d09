//! What every service needs once: settings, telemetry, shutdown, readiness, the
//! admin endpoint, gRPC server and channel, the broker, and the rules that
//! agent, collector and processor must share to the letter.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod amqp;
pub mod digest;
pub mod failpoint;
pub mod grpc;
pub mod identity;
pub mod json;
pub mod metrics;
pub mod queue;
pub mod readiness;
pub mod settings;
pub mod shutdown;
pub mod status;
pub mod telemetry;
pub mod time;
