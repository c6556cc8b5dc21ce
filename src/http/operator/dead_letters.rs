//! `/api/v1/ops/dead-letters`: lists, replays and drops dead letters.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::caller::Caller;
use crate::domain::audit::AuditAct;
use crate::flow::operate::dead_letters::desk::{DeskAct, DeskActKind, DeskError, READ_MAX};
use crate::flow::operate::dead_letters::operation::OperationRow;
use crate::flow::operate::dead_letters::row::{DeadLetterDetails, details};
use crate::http::api::Api;
use crate::http::body::Body;
use crate::http::json::JsonAnswer;
use crate::http::problem::Problem;
use crate::telemetry::events::{self, AdminAction, OperatorAct};

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 12;
const IDS_RULE: &str = "must be a list of 1 to 100 ids of 12 hexadecimal digits";

#[derive(Serialize)]
struct DeadLettersResponse<'a> {
    /// Oldest first.
    dead_letters: Vec<DeadLetterDetails<'a>>,
    /// The queue holds more than were read.
    more: bool,
}

#[derive(Serialize)]
pub(crate) struct ResultsResponse {
    dry_run: bool,
    results: Vec<OperationRow>,
}

/// `GET`: no body is shown, only a masked excerpt.
pub(crate) async fn list(State(api): State<Arc<Api>>, Caller(operator): Caller) -> Result<Response, Problem> {
    events::operator_asked(&operator, AdminAction::DeadLetters, None, None, false);
    let listing = api.console().dead_letters.list().await.map_err(desk_problem)?;
    if !listing.entries.is_empty() {
        let ids: Vec<&str> = listing.entries.iter().map(|entry| entry.id.as_str()).collect();
        api.record_act(&operator, AuditAct::LookDeadLetters, ids.join(" ")).await?;
    }
    let now = api.clock.now();
    let dead_letters = listing.entries.iter().map(|entry| details(entry, now)).collect();
    Ok(JsonAnswer(DeadLettersResponse { dead_letters, more: listing.more }).into_response())
}

/// `POST …/replay`: publishes the requests again, under new ids, and removes the dead letters.
pub(crate) async fn replay(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<ResultsResponse>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["ids", "dry_run", "force"])?;
    let (ids, dry_run, force) =
        (ids_in(&body)?, body.required_flag("dry_run")?, body.flag("force")?.unwrap_or(false));
    let shown = shown_ids(&ids);
    let act = OperatorAct {
        dead_letters: &shown,
        force: Some(force),
        dry_run: Some(dry_run),
        ..OperatorAct::default()
    };
    events::operator_acts(&operator, AdminAction::ReplayDeadLetters, &act);
    if !dry_run {
        api.record_act(&operator, AuditAct::ReplayDeadLetters, shown.join(" ")).await?;
    }
    perform(&api, DeskAct { kind: DeskActKind::Replay { force }, ids, dry_run }).await
}

/// `POST …/drop`: removes dead letters for good.
pub(crate) async fn drop(
    State(api): State<Arc<Api>>,
    Caller(operator): Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<ResultsResponse>, Problem> {
    let body = Body::read(&headers, &bytes)?;
    body.only(&["ids", "dry_run"])?;
    let (ids, dry_run) = (ids_in(&body)?, body.required_flag("dry_run")?);
    let shown = shown_ids(&ids);
    let act = OperatorAct { dead_letters: &shown, dry_run: Some(dry_run), ..OperatorAct::default() };
    events::operator_acts(&operator, AdminAction::DropDeadLetters, &act);
    if !dry_run {
        api.record_act(&operator, AuditAct::DropDeadLetters, shown.join(" ")).await?;
    }
    perform(&api, DeskAct { kind: DeskActKind::Drop, ids, dry_run }).await
}

async fn perform(api: &Api, act: DeskAct) -> Result<JsonAnswer<ResultsResponse>, Problem> {
    let dry_run = act.dry_run;
    let results = api.console().dead_letters.act(act).await.map_err(desk_problem)?;
    Ok(JsonAnswer(ResultsResponse { dry_run, results }))
}

fn ids_in(body: &Body) -> Result<Vec<String>, Problem> {
    let ids = body.texts("ids", READ_MAX, IDS_RULE)?;
    let is_id = |id: &String| id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if ids.iter().all(is_id) {
        Ok(ids)
    } else {
        Err(Problem::invalid(format!("`ids` {IDS_RULE}; got another text")))
    }
}

/// One in three hundred ids has no letter: it reads as a number that was typed, and is masked.
fn shown_ids(ids: &[String]) -> Vec<String> {
    let is_number = |id: &String| id.bytes().all(|byte| byte.is_ascii_digit());
    ids.iter().map(|id| if is_number(id) { "#".repeat(id.len()) } else { id.clone() }).collect()
}

fn desk_problem(error: DeskError) -> Problem {
    let unavailable = |code, detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code).detail(detail);
    match error {
        DeskError::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy")
            .detail("other dead letters are being read or changed")
            .retry_after(Duration::from_secs(1)),
        DeskError::NoAnswerInTime => unavailable(
            "queue_unavailable",
            "RabbitMQ did not answer in time; a change may have happened: read the list again",
        ),
        DeskError::Failed(fault) => unavailable("queue_unavailable", &fault),
    }
}
