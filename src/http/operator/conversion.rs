//! `GET /api/v1/sms/conversion`: how many of the codes that were sent were verified.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;

use super::caller::Caller;
use super::report_query::{GroupedQuery, read_query};
use crate::domain::conversion::Dimension;
use crate::domain::conversion_report::{ConversionQuery, ConversionReport, SINCE_DEFAULT};
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
    let GroupedQuery { by, since, rows_max } =
        read_query(uri.query().unwrap_or_default(), Dimension::RULE, Dimension::parse)?;
    let by = by.unwrap_or(Dimension::Channel);
    let query = ConversionQuery { by, since: since.unwrap_or(SINCE_DEFAULT), rows_max };
    events::operator_asked(&operator, AdminAction::Conversion, None, None, false);
    let report = read_conversion(api.store.as_ref(), query, api.code_life, api.clock.now()).await;
    report.map(JsonAnswer).map_err(|error| store_problem("conversion", &error))
}
