//! otpost is a one-time-password gateway: it takes requests for codes from RabbitMQ, applies limits in Redis, sends
//! the codes through Twilio, publishes what became of each request, and checks the codes that people type.
//!
//! The modules in reading order:
//!
//! - [`flow`] is what happens to a request: receive, admit, dispatch, settle; and to a typed code: verify.
//! - [`domain`] is what the flow talks about, and every decision, as pure functions.
//! - [`broker`], [`store`] and [`provider`] are the seams to RabbitMQ, Redis and Twilio, each with an adapter in memory.
//! - [`text`] is what messages say; [`http`] and [`cli`] are the doors; [`telemetry`] is what operators see.
//! - [`config`] is every setting; [`app`] puts it all together.

pub mod app;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod flow;
pub mod http;
pub mod provider;
pub mod store;
pub mod telemetry;
pub mod text;
