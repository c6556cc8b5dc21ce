//! All integration tests, in one binary.

mod contract {
    pub mod broker;
    pub mod provider;
    pub mod store;
}
mod fake_twilio;
mod harness;
mod model;
mod promises;
mod real;
mod twilio;
