//! `GET /api/v1/ops/audit`: the last acts of operators.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};

use super::caller::Caller;
use super::report_query::read_since;
use crate::domain::time::{UnixMillis, millis};
use crate::flow::inspect::audit::{ActsReport, last_acts};
use crate::http::api::{Api, store_problem};
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction};

const SINCE_DEFAULT: Duration = Duration::from_secs(86_400);

pub(crate) async fn acts(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    uri: Uri,
) -> Result<JsonAnswer<ActsReport>, Problem> {
    let since = read_since(uri.query().unwrap_or_default())?.unwrap_or(SINCE_DEFAULT);
    events::operator_asked(&operator, AdminAction::Audit, None, None, false);
    let console = api.console();
    // Each reading has a connection of its own.
    let Ok(_permit) = console.audit_readings.clone().try_acquire_owned() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy")
            .detail("the audit stream is being read for another operator")
            .retry_after(Duration::from_secs(2)));
    };
    let since = UnixMillis(api.clock.now().0.saturating_sub(millis(since)));
    let acts = last_acts(api.store.as_ref(), console.audit.as_deref(), since).await;
    acts.map(JsonAnswer).map_err(|error| store_problem("read_outbox", &error))
}
