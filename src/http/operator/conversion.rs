//! `GET /api/v1/sms/conversion`: how many of the codes that were sent were verified.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;

use super::caller::Caller;
use crate::domain::conversion::Dimension;
use crate::domain::conversion_report::{
    ConversionQuery, ConversionReport, ROWS_DEFAULT, ROWS_MAX, SINCE_DEFAULT, SINCE_RULE, parse_since,
};
use crate::domain::json::Shape;
use crate::flow::inspect::conversion::conversion as read_conversion;
use crate::http::api::{Api, store_problem};
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

pub(crate) async fn conversion(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    uri: Uri,
) -> Result<JsonAnswer<ConversionReport>, Problem> {
    let query = query_in(uri.query().unwrap_or_default())?;
    events::operator_asked(&operator, AdminAction::Conversion, None, None, false);
    let report = read_conversion(api.store.as_ref(), query, api.code_life, api.clock.now()).await;
    report.map(JsonAnswer).map_err(|error| store_problem("conversion", &error))
}

/// The parameters `by`, `since` and `limit`, each at most once.
fn query_in(query: &str) -> Result<ConversionQuery, Problem> {
    let (mut by, mut since, mut rows_max) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_repeated = match &*name {
            "by" => by.replace(read(&value, "by", Dimension::RULE, Dimension::parse)?).is_some(),
            "since" => since.replace(read(&value, "since", SINCE_RULE, parse_since)?).is_some(),
            "limit" => rows_max.replace(read(&value, "limit", LIMIT_RULE, parse_limit)?).is_some(),
            _ => return Err(Problem::invalid("the query has a name other than `by`, `since` and `limit`")),
        };
        if is_repeated {
            return Err(Problem::invalid(format!("`{name}` must be given once; got it twice")));
        }
    }
    Ok(ConversionQuery {
        by: by.unwrap_or(Dimension::Channel),
        since: since.unwrap_or(SINCE_DEFAULT),
        rows_max: rows_max.unwrap_or(ROWS_DEFAULT),
    })
}

const LIMIT_RULE: &str = "must be a number from 1 to 5000";

fn parse_limit(text: &str) -> Option<u32> {
    let is_number = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?.filter(|limit| (1..=ROWS_MAX).contains(limit))
}

fn read<T>(value: &str, name: &str, rule: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Problem> {
    let problem = || {
        let shape = Shape::Text(value.chars().count());
        Problem::invalid(format!("`{name}` {rule}; got {shape}"))
    };
    parse(value).ok_or_else(problem)
}
