//! otpost is a one-time-password gateway: it consumes requests for codes from RabbitMQ, applies limits in Redis, sends the
//! codes through Twilio or by e-mail, publishes the result of each request, and checks the codes that people type.
//!
//! The modules in reading order:
//!
//! - [`flow`] processes a request (admit, dispatch, reconcile, complete), receipts and typed codes.
//! - [`domain`] has the checked values and every decision, as pure functions.
//! - [`broker`], [`store`] and [`provider`] are the seams to RabbitMQ, Redis and Twilio, each with an adapter in memory.
//! - [`text`] renders messages; [`http`] is the API, [`cli`] the commands; [`telemetry`] has logs and metrics.
//! - [`config`] reads the settings; [`tls`] has certificates and roots; [`app`] wires everything.

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
pub mod tls;
