//! `GET /api/v1/sms/spend`: the budgets, and what was spent on what.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;

use super::caller::Caller;
use super::report_query::{GroupedQuery, read_query};
use crate::domain::spend::SpendGroup;
use crate::domain::spend_report::{SpendQuery, SpendReport};
use crate::flow::inspect::spend::spend as read_spend;
use crate::http::api::{Api, store_problem};
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

const SINCE_DEFAULT: Duration = Duration::from_secs(86_400);

pub(crate) async fn spend(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    uri: Uri,
) -> Result<JsonAnswer<SpendReport>, Problem> {
    let GroupedQuery { by, since, rows_max } =
        read_query(uri.query().unwrap_or_default(), SpendGroup::RULE, SpendGroup::parse)?;
    let by = by.unwrap_or(SpendGroup::Channel);
    let query = SpendQuery { by, since: since.unwrap_or(SINCE_DEFAULT), rows_max };
    events::operator_asked(&operator, AdminAction::Spend, None, None, false);
    let report = read_spend(api.store.as_ref(), &api.spend, query, api.clock.now()).await;
    report.map(JsonAnswer).map_err(|error| store_problem("spend", &error))
}
