//! `otpost dead-letters`: what was set aside, looked at, replayed or dropped.
//!
//! No body is ever shown, only its shape. A letter leaves the queue after its replay was confirmed by the broker, so a
//! crash in between leaves it there; replayed once more it has the same new id, which is answered and not sent again.

mod show;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::show::{list, plain, show};
use super::{Exit, print_json, say};
use crate::app;
use crate::broker::{DeadLetter, DeadLetters, Names, Outgoing, Target};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::dead_letter::{DeadLetterBody, Replay, ReplayRefusal, Replayed, dead_letter_id};
use crate::domain::outcome::Status;
use crate::domain::request::SendRequest;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

/// Why a message was set aside: our words, then the broker's, and what is told where nothing says why.
const REASONS: [&str; 8] =
    ["unattributable", "panic", "crash", "delivery_limit", "expired", "maxlen", "rejected", "unknown"];

#[derive(Subcommand)]
pub(super) enum Action {
    /// Show what was set aside, oldest first.
    List {
        /// Only those with this reason.
        #[arg(long, value_parser = REASONS)]
        reason: Option<String>,
        #[command(flatten)]
        look: ListFilter,
    },
    /// Show everything about one letter but its body, which is shown as a shape.
    Show {
        /// An id, as the list shows it.
        id: String,
        #[command(flatten)]
        look: ListFilter,
    },
    /// Publish the requests in letters again, under new ids, and remove the letters.
    #[command(override_usage = "otpost dead-letters replay [OPTIONS] <IDS>...
       otpost dead-letters replay [OPTIONS] --all [--reason <REASON>]")]
    Replay {
        #[command(flatten)]
        choice: Choice,
        /// Replay what has expired, was sent or may have been sent too: somebody may get a second message.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        look: ListFilter,
    },
    /// Remove letters for good.
    #[command(override_usage = "otpost dead-letters drop [OPTIONS] <IDS>...
       otpost dead-letters drop [OPTIONS] --all [--reason <REASON>] --yes")]
    Drop {
        #[command(flatten)]
        choice: Choice,
        /// With --all: do it. Without it is told what would be dropped.
        #[arg(long, conflicts_with = "ids")]
        yes: bool,
        #[command(flatten)]
        look: ListFilter,
    },
}

#[derive(Args)]
pub(super) struct ListFilter {
    /// How many letters to look at, from the oldest. Each look counts as one of the million returns that the queue allows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

#[derive(Args, Clone)]
pub(super) struct Choice {
    /// Ids, as the list shows them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All letters that are looked at.
    #[arg(long)]
    all: bool,
    /// Of all letters, only those with this reason.
    #[arg(long, conflicts_with = "ids", value_parser = REASONS)]
    reason: Option<String>,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Choice {
    fn takes(&self, found: &Found) -> bool {
        let reason = self.reason.as_ref().is_none_or(|reason| *reason == found.letter.reason);
        if self.all { reason } else { self.ids.iter().any(|id| found.is(id)) }
    }
}

pub(super) async fn run(settings: &Settings, action: &Action, json: bool) -> Exit {
    let mut letters = match app::brokers::dead_letters(settings).await {
        Ok(letters) => letters,
        Err(error) => {
            eprintln!("otpost: {error:#}");
            return Exit::Failed;
        }
    };
    let exit = act(settings, action, letters.as_mut(), json).await;
    letters.close().await;
    exit
}

async fn act(settings: &Settings, action: &Action, letters: &mut dyn DeadLetters, json: bool) -> Exit {
    let (Action::List { look, .. }
    | Action::Show { look, .. }
    | Action::Replay { look, .. }
    | Action::Drop { look, .. }) = action;
    let mut found: Vec<Found> = match letters.browse(look.limit.into()).await {
        Ok(letters) => letters.into_iter().map(Found::new).collect(),
        Err(error) => {
            eprintln!("otpost: RabbitMQ (AMQP_URL) {error}");
            return Exit::Failed;
        }
    };
    found.sort_by_key(|found| found.letter.at);
    match action {
        Action::List { reason, .. } => {
            found.retain(|found| reason.as_ref().is_none_or(|reason| *reason == found.letter.reason));
            list(&found, json)
        }
        Action::Show { id, .. } => {
            found.retain(|found| found.is(id));
            show(&found, json)
        }
        Action::Replay { choice, force, .. } => {
            let replays = Task::Replay { settings, force: *force };
            work(letters, &found, choice, &replays, json).await
        }
        Action::Drop { choice, yes, .. } => {
            let unsaid = choice.all && !yes && !choice.dry_run;
            let choice = Choice { dry_run: choice.dry_run || unsaid, ..choice.clone() };
            match work(letters, &found, &choice, &Task::Drop, json).await {
                Exit::Done if unsaid => {
                    eprintln!("otpost: nothing was dropped: say --yes as well to drop all of these");
                    Exit::Unusable
                }
                exit => exit,
            }
        }
    }
}

/// A letter, and what can be said of it without a key.
struct Found {
    id: String,
    letter: DeadLetter,
    /// What a letter of ours holds.
    contents: Option<DeadLetterBody>,
    request: Option<RequestId>,
}

impl Found {
    fn new(letter: DeadLetter) -> Found {
        let contents = match letter.by_broker {
            true => None,
            false => serde_json::from_slice(&letter.body).ok(),
        };
        let request = match letter.by_broker {
            true => request_in(&letter),
            false => letter.request_id.as_deref().and_then(RequestId::parse),
        };
        Found {
            id: dead_letter_id(letter.message_id.as_deref(), letter.at, &letter.body),
            letter,
            contents,
            request,
        }
    }

    fn is(&self, id: &str) -> bool {
        self.id.eq_ignore_ascii_case(id)
    }

    /// The request in it under its next id.
    fn replay(&self, settings: &Settings, now: UnixMillis, force: bool) -> Result<Replay, ReplayRefusal> {
        let letter = &self.letter;
        let opened;
        let body = match &self.contents {
            None if letter.by_broker => &letter.body,
            None => return Err(ReplayRefusal::NotSealed),
            Some(contents) if contents.code_removed => return Err(ReplayRefusal::CodeRemoved),
            Some(contents) => {
                let sealed = contents.sealed.as_deref().ok_or(ReplayRefusal::NotSealed)?;
                let recipients = settings.recipients.as_ref().ok_or(ReplayRefusal::Unopened)?;
                let name = letter.message_id.as_deref().unwrap_or_default();
                opened = recipients.dead_letter_key().open(name, sealed).ok_or(ReplayRefusal::Unopened)?;
                &opened
            }
        };
        let statuses = [Status::Sent, Status::Rejected, Status::Failed, Status::Unknown];
        let told = |status: &Status| letter.status.as_deref() == Some(status.as_str());
        // What the broker set aside says nothing of its sends: workers may have died of it after they were made.
        let unsaid = letter.by_broker.then_some(Status::Unknown);
        let status = statuses.into_iter().find(told).or(unsaid);
        Replayed { body, at: letter.requested_at.or(letter.at), status }.replay(
            now,
            settings.code_life,
            force,
        )
    }
}

/// The id in a message that the broker set aside.
fn request_in(letter: &DeadLetter) -> Option<RequestId> {
    match SendRequest::decode(&letter.body, None) {
        Ok(request) => Some(request.id),
        Err(refused) => refused.request_id,
    }
}

/// What is done with letters.
enum Task<'a> {
    Replay { settings: &'a Settings, force: bool },
    Drop,
}

/// What became of one letter.
#[derive(Serialize)]
struct Done {
    id: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// It is true of a refusal that `--force` would overcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    can_be_forced: Option<bool>,
}

impl Done {
    fn new(id: &str, result: &'static str) -> Done {
        Done {
            id: id.to_owned(),
            result,
            request_id: None,
            new_request_id: None,
            why: None,
            can_be_forced: None,
        }
    }
}

const FAILED: &str = "failed";
const REFUSED: &str = "refused";
const NOT_FOUND: &str = "not_found";

async fn work(
    letters: &mut dyn DeadLetters,
    found: &[Found],
    choice: &Choice,
    task: &Task<'_>,
    json: bool,
) -> Exit {
    let mut done = Vec::new();
    for id in choice.ids.iter().filter(|id| !found.iter().any(|found| found.is(id))) {
        let why = Some("no such letter was found; --limit looks at more of them".to_owned());
        done.push(Done { why, ..Done::new(id, NOT_FOUND) });
    }
    for found in found.iter().filter(|found| choice.takes(found)) {
        let one = match task {
            Task::Replay { settings, force } => {
                replay(letters, found, settings, *force, choice.dry_run).await
            }
            Task::Drop => remove(letters, found, choice.dry_run).await,
        };
        let failed = one.result == FAILED;
        done.push(one);
        // What the broker did not do for one letter it will not do for the next.
        if failed {
            break;
        }
    }
    if json {
        print_json(&done);
    } else {
        done.iter().for_each(print_done);
    }
    if done.is_empty() {
        eprintln!("otpost: no letter was found");
    }
    let any = |result| done.iter().any(|one| one.result == result);
    match () {
        () if any(FAILED) => Exit::Failed,
        () if done.is_empty() || any(REFUSED) || any(NOT_FOUND) => Exit::No,
        () => Exit::Done,
    }
}

async fn replay(
    letters: &mut dyn DeadLetters,
    found: &Found,
    settings: &Settings,
    force: bool,
    dry_run: bool,
) -> Done {
    let request_id = found.request.as_ref().map(ToString::to_string);
    let replay = match found.replay(settings, Clock::System.now(), force) {
        Ok(replay) => replay,
        Err(refusal) => {
            let can_be_forced = Some(refusal.can_be_forced());
            let why = Some(refusal.to_string());
            return Done { request_id, why, can_be_forced, ..Done::new(&found.id, REFUSED) };
        }
    };
    let told = |result, why| Done {
        request_id: Some(replay.from.to_string()),
        new_request_id: Some(replay.to.to_string()),
        why,
        ..Done::new(&found.id, result)
    };
    if dry_run {
        return told("would_replay", None);
    }
    // A letter whose queue nobody knows has a request for a text message, or one that is answered as no such request.
    let names = Names::new(&settings.amqp_prefix);
    let channel = found.letter.queue.as_deref().and_then(|queue| names.channel_of(queue)).unwrap_or_default();
    let properties = &found.letter.properties;
    let message = Outgoing {
        target: Target::Requests(channel),
        body: &replay.body,
        message_id: &format!("replay:{}", replay.to),
        correlation_id: properties.correlation_id.as_deref(),
        at: replay.at,
        traceparent: properties.traceparent.as_deref(),
    };
    if let Err(error) = letters.publish(message).await {
        return told(FAILED, Some(format!("it may have been published, and is still here: {error}")));
    }
    match letters.remove(&found.letter).await {
        Ok(()) => told("replayed", None),
        Err(error) => told(FAILED, Some(format!("it was published, and is still here: {error}"))),
    }
}

async fn remove(letters: &mut dyn DeadLetters, found: &Found, dry_run: bool) -> Done {
    let request_id = found.request.as_ref().map(ToString::to_string);
    let told = |result, why| Done { request_id: request_id.clone(), why, ..Done::new(&found.id, result) };
    if dry_run {
        return told("would_drop", None);
    }
    match letters.remove(&found.letter).await {
        Ok(()) => told("dropped", None),
        Err(error) => told(FAILED, Some(error.to_string())),
    }
}

fn print_done(done: &Done) {
    let mut line = format!("{}  {}", plain(&done.id), done.result.replace('_', " "));
    if let Some(from) = &done.request_id {
        line.push_str(&format!("  {from}"));
    }
    if let Some(to) = &done.new_request_id {
        line.push_str(&format!(" -> {to}"));
    }
    if let Some(why) = &done.why {
        line.push_str(&format!(": {why}"));
    }
    if done.can_be_forced == Some(true) {
        line.push_str(" (--force replays it all the same)");
    }
    say(&line);
}
