//! Checked values, and decisions as pure functions.
//!
//! Nothing here does IO, reads a clock or draws a random number: time and randomness are arguments, so that a table can
//! test every decision. A value of one of these types has been checked once, and is not checked again.

pub mod address;
pub mod challenge;
pub mod channel;
pub mod circuit_breaker;
pub mod code;
pub mod concurrency_limiter;
pub mod conversion;
pub mod conversion_report;
pub mod dead_letter;
pub mod decimal_digit;
pub mod delivery_event;
pub mod email;
pub mod email_sender;
pub mod encryption;
pub mod history;
pub mod json;
pub mod key_check;
pub mod keyed_digest;
pub mod language_tag;
pub mod limit;
pub mod limit_hits;
pub mod log_filter;
pub mod message_match;
mod number_pattern;
pub mod operator_reason;
pub mod opt_status;
pub mod outcome;
pub mod phone;
pub mod printable;
pub mod provider_code;
pub mod purpose;
pub mod reached_limit;
pub mod receipt;
pub mod recipient_keyring;
pub mod recipient_rules;
pub mod request;
pub mod request_id;
pub mod retry;
pub mod scaling;
pub mod send_failure;
pub mod send_result;
pub mod sender_pool;
pub mod server_url;
pub mod shards;
pub mod suppression;
pub mod test_number;
pub mod time;
pub mod time_zone;
pub mod trace_context;
pub mod traffic;
mod typed_code;
pub mod verdict;
pub mod verified_event;
pub mod worker_state;
