//! Queries of operators: numbers, limit usage, texts, and the status of everything.
//!
//! HTTP and the command line share these rows. A query charges and changes nothing. Rows have no `Debug`, because some
//! hold the full number that an operator asked about.

pub mod audit;
pub mod conversion;
pub mod defence;
pub mod limits;
pub mod numbers;
pub mod problems;
pub mod processes;
mod reports;
pub mod spend;
pub mod status;
pub mod texts;
pub mod traffic;
