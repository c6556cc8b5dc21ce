//! The nouns of the gateway: checked values and the decisions made from them.
//!
//! Nothing here does IO, reads a clock or draws a random number: time and randomness are arguments, so that every
//! decision can be tested with a table. A value of one of these types has been checked; nothing checks it again.

pub mod address;
pub mod challenge;
pub mod channel;
pub mod circuit_breaker;
pub mod code;
pub mod concurrency;
pub mod dead_letter;
pub mod email;
pub mod encryption;
pub mod history;
pub mod keyed_digest;
pub mod language_tag;
pub mod limit;
pub mod mailbox;
pub mod message_match;
pub mod outcome;
pub mod phone;
pub mod purpose;
pub mod receipt;
pub mod recipient_keyring;
pub mod request;
pub mod request_id;
pub mod retry;
pub mod send_failure;
pub mod sender_pool;
pub mod suppression;
pub mod time;
pub mod verdict;
pub mod zone;
