//! For operators: what stands. A number, its limits, the texts, and how everything is.
//!
//! The rows are the same to who asks over HTTP and to who asks on the command line; nothing is charged or changed by
//! asking. A row of a number that somebody asked about tells it in full, so rows have no `Debug`.

pub mod limits;
pub mod numbers;
pub mod status;
pub mod texts;
