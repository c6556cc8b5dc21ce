//! Endpoints for operators, who need a token with the scope `otp:admin`. Every call is written to the audit log.
//!
//! Those below `/api/v1/ops/` are of the console: they answer 404 without it, and no page of another site.

pub(super) mod acts;
mod audit;
mod caller;
pub(super) mod conversion;
pub(super) mod dead_letters;
pub(super) mod defence;
pub(super) mod defence_acts;
pub(super) mod forget;
pub(super) mod kill_switch;
pub(super) mod overview;
pub(super) mod rate_limit;
mod reason;
mod report_query;
pub(super) mod requests;
pub(super) mod spend;
pub(super) mod status;
pub(super) mod suppressions;
pub(super) mod validate;
