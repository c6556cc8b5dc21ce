//! otpost, a one-time-password gateway.
pub mod broker;
pub mod clock;
pub mod domain;
pub mod provider;
pub mod store;
