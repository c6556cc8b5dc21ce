//! `otpost why`: what happened to a request, or which were the last ones of a recipient. Recipients are masked.

use super::recipient::read_recipient;
use super::{Exit, print_json, say, store_failed};
use crate::app;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;
use crate::flow::explain::{self, Explanation, Glimpse};
use crate::store::{Store, StoreError};

pub(super) async fn run(settings: &Settings, request_id: Option<&str>, to: Option<&str>, json: bool) -> Exit {
    let request = match request_id.map(|id| RequestId::parse(id).ok_or(id)).transpose() {
        Ok(request) => request,
        Err(_) => {
            eprintln!("otpost: the request id {}", RequestId::RULE);
            return Exit::Unusable;
        }
    };
    let to = match to.map(|to| read_recipient(settings, to)) {
        Some(None) => return Exit::Unusable,
        to => to.flatten(),
    };
    let (Some(recipients), Ok(store)) = (&settings.recipients, app::stores::redis_store(settings)) else {
        eprintln!("otpost: REDIS_URL is no address of a Redis");
        return Exit::Unusable;
    };
    let recipient = to.as_ref().map(|to| recipients.address(to.channel(), to.as_str()));
    let answered = match (&request, recipient) {
        (Some(request), recipient) => {
            let tries_max = app::policy::limits(settings).wrong_per_challenge;
            show_request(&store, request, recipient, tries_max, json).await
        }
        (None, Some(recipient)) => show_recipient(&store, recipient, json).await,
        (None, None) => {
            eprintln!("otpost: a request id or --to is needed");
            Ok(Exit::Unusable)
        }
    };
    answered.unwrap_or_else(|error| store_failed(&error))
}

async fn show_request(
    store: &impl Store,
    request: &RequestId,
    recipient: Option<Digest16>,
    tries_max: u32,
    json: bool,
) -> Result<Exit, StoreError> {
    let story = store.request_record(request, recipient).await?;
    let told = story.map(|story| explain::explain(request, &story, tries_max, Clock::System.now()));
    if told.is_none() {
        let whose = if recipient.is_some() { " to this recipient" } else { "" };
        eprintln!(
            "otpost: no record of this request{whose} is kept: it never came, was refused unrecorded, or is too old"
        );
    }
    if json {
        print_json(told.as_slice());
    } else {
        told.iter().for_each(print_explanation);
    }
    Ok(if told.is_some() { Exit::Done } else { Exit::No })
}

async fn show_recipient(store: &impl Store, recipient: Digest16, json: bool) -> Result<Exit, StoreError> {
    let requests = explain::last_requests(store, recipient).await?;
    if requests.is_empty() {
        eprintln!(
            "otpost: no request to this recipient is known from the last day; what is refused over HTTP before it is \
             queued (429) leaves no record: see otpost rate-limit"
        );
    }
    if json {
        print_json(&requests);
    } else {
        requests.iter().for_each(print_glimpse);
    }
    Ok(if requests.is_empty() { Exit::No } else { Exit::Done })
}

fn print_explanation(told: &Explanation) {
    let Explanation { request_id, to, purpose, text, attempts, .. } = told;
    let message = told.provider_message_id.as_deref().unwrap_or("none");
    say(&format!("{request_id}  to {to}, {purpose}: {text}; message {message}, attempts {attempts}"));
    for line in &told.timeline {
        say(&format!("  {}  {}", line.at, line.text));
    }
    if let Some(code) = &told.code {
        say(&format!("  {}", code.text));
    }
    if let Some(deadline) = told.deadline {
        say(&format!("  a message after {deadline} would be too late"));
    }
    if told.shortened {
        say("  there were so many steps that some in the middle were not kept");
    }
}

fn print_glimpse(glimpse: &Glimpse) {
    let how = glimpse.status.map_or(glimpse.state, |status| status.as_str());
    let reason = glimpse.reason.map(|reason| reason.as_str());
    let more: Vec<&str> = [reason, glimpse.receipt, glimpse.text.as_deref()].into_iter().flatten().collect();
    let line = format!("{}  {:<36}  {how:<9} {}", glimpse.at, glimpse.request_id, more.join(", "));
    say(line.trim_end());
}
