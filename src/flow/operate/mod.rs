//! Acts of operators: the kill switch, suppressions, overrides of the pumping defence, dead letters, and forgetting a person.
//!
//! HTTP and the command line share these functions and rows. Each act is recorded for the audit stream. Recipients are masked, and no body of a message is in a row.

pub mod acting;
pub mod dead_letters;
pub mod defence;
pub mod forget;
pub mod kill_switch;
pub mod suppressions;
