//! `otpost why`: the history of a request, or the last requests of a recipient. Recipients are masked.

use super::acting::{acting, record_look};
use super::output::{Exit, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::recipient::read_recipient;
use crate::app;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::audit::AuditAct;
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;
use crate::flow::explain::{self, RecentRequest, RequestExplanation};
use crate::store::{Store, StoreError};

pub(super) async fn run(settings: &Settings, request_id: Option<&str>, to: Option<&str>, json: bool) -> Exit {
    let request_id = match request_id.map(|id| RequestId::parse(id).ok_or(id)).transpose() {
        Ok(request_id) => request_id,
        Err(_) => {
            eprintln!("otpost: the request id {}", RequestId::RULE);
            return Exit::Unusable;
        }
    };
    let to = match to.map(|to| read_recipient(settings, to)) {
        Some(None) => return Exit::Unusable,
        to => to.flatten(),
    };
    let (Some(recipients), Ok(store)) = (&settings.recipients, app::stores::read_only_store(settings)) else {
        return invalid_redis_url();
    };
    let recipient = to.as_ref().map(|to| recipients.address(to.channel(), to.as_str()));
    let look = match (&request_id, &to) {
        (Some(request_id), _) => {
            Some(acting().record(AuditAct::LookRequest).about_request(request_id.as_str()))
        }
        (None, Some(to)) => Some(acting().record(AuditAct::LookRecipient).about(to.masked())),
        (None, None) => None,
    };
    if let Some(record) = look
        && let Err(error) = record_look(&store, record).await
    {
        return store_failed(&error);
    }
    let exit = match (&request_id, recipient) {
        (Some(request_id), recipient) => {
            let checks_max = settings.limits.wrong_per_challenge;
            show_request(&store, request_id, recipient, checks_max, json).await
        }
        (None, Some(recipient)) => show_recipient(&store, recipient, json).await,
        (None, None) => {
            eprintln!("otpost: a request id or --to is needed");
            Ok(Exit::Unusable)
        }
    };
    warn_if_empty(store.found_nothing());
    exit.unwrap_or_else(|error| store_failed(&error))
}

async fn show_request(
    store: &impl Store,
    request_id: &RequestId,
    recipient: Option<Digest16>,
    checks_max: u32,
    json: bool,
) -> Result<Exit, StoreError> {
    let record = store.request_record(request_id, recipient).await?;
    let explanation =
        record.map(|record| explain::explain_request(request_id, &record, checks_max, Clock::System.now()));
    if explanation.is_none() {
        let recipient = if recipient.is_some() { " to this recipient" } else { "" };
        eprintln!(
            "otpost: no record of this request{recipient} is kept: \
             it never arrived, was rejected without a record, or is too old"
        );
    }
    if json {
        print_json(explanation.as_slice());
    } else {
        explanation.iter().for_each(print_explanation);
        // The store finds another recipient's record only by the recipient, so it cannot tell whether there is one.
        if explanation.is_some() && recipient.is_none() {
            say("  if other recipients share this id, --to RECIPIENT shows theirs");
        }
    }
    Ok(if explanation.is_some() { Exit::Done } else { Exit::No })
}

async fn show_recipient(store: &impl Store, recipient: Digest16, json: bool) -> Result<Exit, StoreError> {
    let requests = explain::recent_requests(store, recipient).await?;
    if requests.is_empty() {
        eprintln!(
            "otpost: no request to this recipient is recorded in the last day; a request that HTTP refuses before \
             queueing (429) leaves no record: see otpost rate-limit"
        );
    }
    if json {
        print_json(&requests);
    } else {
        requests.iter().for_each(print_recent);
    }
    Ok(if requests.is_empty() { Exit::No } else { Exit::Done })
}

/// A user with more requests is no person.
const OF_USER_MAX: usize = 100;

pub(super) async fn list_of_user(settings: &Settings, user_id: &str, json: bool) -> Exit {
    let (Some(recipients), Ok(store)) = (&settings.recipients, app::stores::read_only_store(settings)) else {
        return invalid_redis_url();
    };
    if let Err(error) = record_look(&store, acting().record(AuditAct::LookUser)).await {
        return store_failed(&error);
    }
    let listed = explain::requests_of_user(&store, recipients.user(user_id), OF_USER_MAX + 1).await;
    warn_if_empty(store.found_nothing());
    match listed {
        Ok(requests) if requests.is_empty() => {
            eprintln!("otpost: no request of this user is recorded; compare the user_id with the caller's");
            if json {
                print_json(&requests);
            }
            Exit::No
        }
        Ok(mut requests) => {
            if requests.len() > OF_USER_MAX {
                eprintln!("otpost: the user has more requests than these {OF_USER_MAX}");
                requests.truncate(OF_USER_MAX);
            }
            match json {
                true => print_json(&requests),
                false => requests.iter().for_each(print_recent),
            }
            Exit::Done
        }
        Err(error) => store_failed(&error),
    }
}

fn print_explanation(explanation: &RequestExplanation) {
    let RequestExplanation { request_id, to, purpose, text, attempts, .. } = explanation;
    let message = explanation.provider_message_id.as_deref().unwrap_or("none");
    say(&format!("{request_id}  to {to}, {purpose}: {text}; message {message}, attempts {attempts}"));
    for entry in &explanation.timeline {
        say(&format!("  {}  {}", entry.at, entry.text));
    }
    if let Some(code) = &explanation.code {
        say(&format!("  {}", code.text));
    }
    if let Some(deadline) = explanation.deadline {
        say(&format!("  deadline: {deadline}"));
    }
    if explanation.shortened {
        say("  the history was too long: some steps in the middle are missing");
    }
}

fn print_recent(request: &RecentRequest) {
    let state = request.status.map_or(request.state, |status| status.as_str());
    let reason = request.reason.map(|reason| reason.as_str());
    let more = [request.to.as_deref(), reason, request.receipt, request.text.as_deref()];
    let more: Vec<&str> = more.into_iter().flatten().collect();
    let line = format!("{}  {:<36}  {state:<9} {}", request.at, request.request_id, more.join(", "));
    say(line.trim_end());
}
