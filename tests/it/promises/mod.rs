//! What otpost promises, as sentences: the real flow on the embedded gateway, with time paused.

mod codes;
mod delivery;
mod limits;
mod outages;
mod pauses;
mod poison;
mod secrets;
mod sending;
