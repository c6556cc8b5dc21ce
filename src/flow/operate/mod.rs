//! Acts of operators: the kill switch, suppressions, and dead letters.
//!
//! HTTP and the command line share these functions and rows. Each act is recorded for the audit stream. Recipients are masked, and no body of a message is in a row.

pub mod acting;
pub mod dead_letters;
pub mod kill_switch;
pub mod suppressions;
