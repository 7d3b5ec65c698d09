//! The gateway in this process, between real gRPC servers and clients.

#![allow(clippy::unwrap_used)]

mod grpc;
mod lifecycle;
mod parity;
mod reflection;
mod rest;
mod support;
mod ui;
mod upstream;
