//! What otpost promises, as sentences: the real flow on the embedded gateway, with time paused.

mod codes;
mod delivery;
mod doubt;
mod elsewhere;
mod email;
mod gate;
mod limits;
mod outages;
mod pauses;
mod poison;
mod receipts;
pub mod secrets;
mod senders;
mod sending;
