//! The nouns of the gateway: checked values and the decisions made from them.
//!
//! Nothing here does IO, reads a clock or draws a random number: time and chance are arguments, so that every
//! decision can be tested with a table. A value of one of these types has been checked; nothing checks it again.

pub mod address;
pub mod block;
pub mod breaker;
pub mod challenge;
pub mod channel;
pub mod code;
pub mod dead_letter;
pub mod doubt;
pub mod email;
pub mod keyed_digest;
pub mod locale;
pub mod mailbox;
pub mod outcome;
pub mod phone;
pub mod purpose;
pub mod quota;
pub mod receipt;
pub mod recipient_keyring;
pub mod request;
pub mod request_id;
pub mod retry;
pub mod sealed;
pub mod send_failure;
pub mod sender;
pub mod time;
pub mod trail;
pub mod verdict;
pub mod window;
pub mod zone;
