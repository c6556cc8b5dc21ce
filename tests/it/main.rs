//! All integration tests, in one binary.

mod contract {
    pub mod broker;
    pub mod provider;
    pub mod store;
}
mod config;
mod fake_twilio;
mod harness;
mod http;
mod logs;
mod model;
mod promises;
mod real;
mod scripted;
mod simulation;
mod tidy;
mod tokens;
mod twilio;
mod why;
mod wire;
