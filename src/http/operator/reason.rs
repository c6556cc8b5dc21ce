//! The reason of an act in a body.

use crate::domain::operator_reason::{REASON_RULE, parse_reason};
use crate::http::body::Body;
use crate::http::problem::Problem;

pub(super) fn required_reason(body: &Body) -> Result<String, Problem> {
    body.required("reason", REASON_RULE, |text| parse_reason(text).ok())
}

pub(super) fn optional_reason(body: &Body) -> Result<Option<String>, Problem> {
    body.optional("reason", REASON_RULE, |text| parse_reason(text).ok())
}
