//! Endpoints for operators, who need a token with the scope `otp:admin`. Every call is written to the audit log.

pub(super) mod conversion;
pub(super) mod rate_limit;
pub(super) mod requests;
pub(super) mod status;
pub(super) mod validate;
