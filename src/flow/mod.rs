//! The life of a request. Read [`process_delivery`] first: it shows the steps of one delivery in order.
//!
//! A [`consumer_loop`] gives each delivery to a handler. The handler decodes and [validates](validate) the request,
//! [admits](admit) it, [dispatches](dispatch) its message to the provider, [completes](complete) it, and publishes the
//! result. Once the broker has confirmed that, the delivery is acknowledged.
//!
//! - [`channel_gate`] and `provider_gate.rs`: the checks before every message, with the [`sender_rate`]. [`providers`] chooses the provider, `pass_gate.rs` waits for it,
//!   `hand_overs.rs` and `doubt_state.rs` know those of one request. `route_waits.rs` bounds the waits for a route that is shut.
//! - [`reconcile`]: finds out whether an attempt in doubt was sent; `doubt_failover.rs` goes on without.
//! - [`progress`]: renews the lease of a request while it is being sent.
//! - [`after_panic`]: counts the panics of a request.
//! - [`dead_letter`]: invalid bodies, poison messages, unreadable records.
//! - `delay.rs`: requests whose providers are all shut.
//! - [`reply`]: copies of results for callers' own queues.
//! - [`maintenance`]: heartbeat, reports, probes, overdue receipts. [`store_watch`]: the heartbeat of a process without a worker.
//! - [`queue_watch`]: the queues of the broker in memory, for the metrics.
//! - [`worker_activity`], with [`limit_counter`], `queue_time.rs` and `traffic_meter.rs`: the state that a worker reports. [`key_watch`]: have all
//!   processes the same keys? [`scaler`]: the number of workers that the load needs.
//! - [`verify`] and `verified_event.rs`: the check of a typed code, and its event.
//! - [`receipts`]: the provider's delivery receipts. [`opt_statuses`]: people's own opt-in and opt-out.
//! - `traced.rs`: the spans of a delivery, and the trace that its messages carry.
//! - `redaction.rs`: texts that the provider is to delete, for a person whom an operator has forgotten.
//! - [`conversion`]: counts sent and verified codes, and amounts. [`audit`]: publishes the records of operators' acts.
//! - `spend.rs`, with [`spend_policy`]: prices and reservations of messages; `budget_watch.rs`: alarms. `compare_prices.rs`, with
//!   [`price_samples`]: the prices that the provider names.
//! - [`defence`], with `defence_budgets.rs` and `defence_counts.rs`: refuses codes to numbers that verify none.
//! - [`explain`] and [`inspect`]: the history of a request, and the state of otpost. [`operate`]: the acts of operators.
//!
//! [`gateway`] holds the parts and the policy of one channel, [`context`] the values that a request passes from step to
//! step.
//!
//! In the `Result` of a step, `Err(StopReason)` ends the handler: the delivery is requeued, delayed if every provider of its
//! route is shut, or dead-lettered if a record cannot be read.

pub mod admit;
pub mod after_panic;
pub mod audit;
mod budget_watch;
pub mod channel_gate;
mod compare_prices;
pub mod complete;
pub mod consumer_loop;
pub mod context;
pub mod conversion;
pub mod dead_letter;
pub mod defence;
mod defence_budgets;
mod defence_counts;
mod delay;
pub mod dispatch;
mod doubt_failover;
mod doubt_state;
pub mod explain;
pub mod gateway;
mod hand_overs;
pub mod inspect;
pub mod key_watch;
pub mod limit_counter;
pub mod maintenance;
pub mod operate;
pub mod opt_statuses;
mod outage_backoff;
mod pass_gate;
pub mod pause_log;
pub mod price_samples;
pub mod process_delivery;
pub mod progress;
pub mod provider_gate;
pub mod providers;
mod queue_time;
pub mod queue_watch;
mod random;
pub mod receipts;
pub mod reconcile;
mod redaction;
pub mod reply;
mod retry_once;
mod route_waits;
pub mod scaler;
pub mod sender_rate;
mod spend;
pub mod spend_policy;
pub mod store_watch;
mod traced;
mod traffic_meter;
pub mod validate;
mod verified_event;
pub mod verify;
pub mod worker_activity;
