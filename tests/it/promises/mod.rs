//! The promises of otpost, as sentences: the real flow on the embedded gateway, with time paused.

mod codes;
mod conversion;
mod defence;
mod delivery;
mod email;
mod failover;
mod gate;
mod in_doubt;
mod limits;
mod outages;
mod pauses;
mod poison;
mod provider_codes;
mod receipts;
pub mod secrets;
mod senders;
mod sending;
mod spend;
mod test_numbers;
mod unnamed;
