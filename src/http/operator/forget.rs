//! `/api/v1/ops/forget`: forgets a person, and shows the jobs by which the provider's texts go.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::caller::Caller;
use super::reason::required_reason;
use crate::domain::time::seconds_rounded_up;
use crate::flow::operate::forget::{self, ForgetEnd, ForgetReport, Forgettable, RedactionJobRow};
use crate::http::api::{Api, store_problem};
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::provider::Provider;
use crate::telemetry::events::{self, AdminAction, OperatorAct};

#[derive(Serialize)]
pub(crate) struct RedactionJobsResponse {
    jobs: Vec<RedactionJobRow>,
}

/// `GET`: the newest jobs first.
pub(crate) async fn jobs(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
) -> Result<JsonAnswer<RedactionJobsResponse>, Problem> {
    events::operator_asked(&operator, AdminAction::Redactions, None, None, false);
    let jobs = forget::redaction_jobs(api.store.as_ref()).await;
    let jobs = jobs.map_err(|error| store_problem("redactions", &error))?;
    Ok(JsonAnswer(RedactionJobsResponse { jobs }))
}

/// `POST`: the provider's list of older messages is read after the answer.
pub(crate) async fn forget(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<ForgetReport>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["to", "channel", "reason"])?;
    let (to, reason) = (api.address_in(&body)?, required_reason(&body)?);
    let act = OperatorAct { to: Some(&to), reason: Some(&reason), ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::Forget, &act);
    let Ok(permit) = api.console().listings.clone().try_acquire_owned() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy")
            .detail("messages of other people are being listed")
            .retry_after(Duration::from_secs(5)));
    };
    let person = Forgettable::new(&api.recipient_keyring, to);
    let account = api.inspector.provider.clone();
    let account = account.filter(|account| forget::can_list(Some(account.as_ref()), &person));
    let end =
        forget::forget(api.store.as_ref(), &person, account.is_some(), &reason, &api.acting(&operator)).await;
    match end.map_err(|error| store_problem("forget", &error))? {
        ForgetEnd::InProgress(left) => Err(in_progress(left)),
        ForgetEnd::Forgotten(report) => {
            if let Some(account) = account.filter(|_| report.takes_older_messages()) {
                tokio::spawn(async move {
                    let _permit = permit;
                    list_older_messages(&api, account.as_ref(), &person).await;
                });
            }
            Ok(JsonAnswer(*report))
        }
    }
}

async fn list_older_messages(api: &Api, account: &dyn Provider, person: &Forgettable) {
    match forget::list_older_messages(api.store.as_ref(), account, person).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => events::older_messages_not_listed(account.name(), &error),
        Err(error) => events::older_messages_not_listed(account.name(), &error),
    }
}

fn in_progress(left: Duration) -> Problem {
    let seconds = seconds_rounded_up(left);
    Problem::new(StatusCode::CONFLICT, "request_in_progress")
        .detail(format!(
            "nothing was changed: a request to this recipient is in progress, for {seconds} s at most; ask again then"
        ))
        .retry_after(left)
}
