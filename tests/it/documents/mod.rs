//! The documents that machines read, held against what otpost does: nothing may be in one and not in the other.

pub mod http;
pub mod messages;
mod routes;
