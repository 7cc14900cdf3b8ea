//! The world around the data plane: configuration files, name resolution, the admin address.
//!
//! Reads files and resolves names for a start, and serves what an operator or an orchestrator asks about a running
//! process. Never touches a live connection or request.

pub mod admin;
pub mod admin_server;
mod asked;
pub mod checks;
mod collector;
pub mod discovery;
mod exported;
pub mod exporter;
mod exposition;
pub mod files;
pub mod handover;
mod metrics;
mod openapi;
pub mod orders;
mod otlp;
pub mod persist;
mod process;
pub mod reload;
pub mod resolve;
pub mod resources;
pub mod secrets;
mod servers;
mod status;
pub mod systemd;
mod unix_socket;
pub mod wanted;
