//! The life of a request. Read [`process_delivery`] first: it shows the steps of one delivery in order.
//!
//! A [`worker`] consumes deliveries and gives each one to a handler. The handler decodes and [validates](validate) the
//! request, [admits](admit) it, [dispatches](dispatch) its message to the provider, and [completes](complete) it, which
//! records the outcome. Then it publishes the result. Once the broker has confirmed that, the delivery is acknowledged.
//!
//! - [`send_gate`] holds the checks before every message: kill switch, circuit breaker, concurrency, senders, and the
//!   [`sender_rate`].
//! - [`reconcile`] finds out whether an attempt in doubt was sent, before anything is sent again.
//! - [`progress`] renews the lease of a request while it is sent, and records the progress.
//! - [`dead_letter`] ends deliveries with an invalid body, messages that panic a handler or crash a worker too often, and
//!   requests whose record cannot be read.
//! - [`reply`] copies results to callers' own queues.
//! - [`maintenance`] runs beside the requests: heartbeat, probes, overdue receipts.
//! - [`verify`] checks a typed code, and publishes that it was right, as `verified_event.rs` says. [`receipts`] records the
//!   provider's delivery receipts.
//! - [`explain`] shows the history of a request, and [`inspect`] the state of otpost.
//!
//! [`gateway`] holds the parts and the policy of one channel's flow, and [`context`] the values that one request passes
//! from step to step.
//!
//! In the `Result` of a step, `Ok` has what the next step needs. `Err(RequeueReason)` ends the handler: the delivery is
//! requeued, or dead-lettered if a record cannot be read. The flow knows the traits of [`broker`](crate::broker), [`store`](crate::store) and [`provider`](crate::provider), and none
//! of their adapters.

pub mod admit;
mod backoff;
pub mod complete;
pub mod context;
pub mod dead_letter;
pub mod dispatch;
pub mod explain;
pub mod gateway;
pub mod inspect;
pub mod maintenance;
pub mod process_delivery;
pub mod progress;
mod random;
pub mod receipts;
pub mod reconcile;
pub mod reply;
mod retry_once;
pub mod send_gate;
pub mod sender_rate;
pub mod validate;
mod verified_event;
pub mod verify;
pub mod worker;
