//! Forgets a person: the store's part at once, and the texts at the provider by a job that the workers do.
//!
//! [`forget`] is the act. [`list_older_messages`] follows it and needs the number: only the ids of messages are stored.

use std::time::Duration;

use serde::Serialize;

use super::acting::Acting;
use crate::domain::address::Address;
use crate::domain::audit::AuditAct;
use crate::domain::channel::Channel;
use crate::domain::defence_list::OverrideTarget;
use crate::domain::keyed_digest::Digest16;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::time::UnixMillis;
use crate::provider::{LookupError, Provider, UnredactedMessages};
use crate::store::forget::{
    ForgetAnswer, Forgotten, KeptMarks, KeptSuppression, Listing, RedactionJob, RedactionsAdded, SentMessage,
    forgotten_mark,
};
use crate::store::{Store, StoreError};

/// The provider whose messages workers can redact.
const REDACTING_PROVIDER: &str = "twilio";

/// A person to forget.
pub struct Forgettable {
    pub masked: String,
    to: Address,
    digest: Digest16,
}

impl Forgettable {
    pub fn new(recipients: &RecipientKeyring, to: Address) -> Forgettable {
        let digest = recipients.address(to.channel(), to.as_str());
        Forgettable { masked: to.masked(), to, digest }
    }
}

pub enum ForgetEnd {
    Forgotten(Box<ForgetReport>),
    /// Nothing has changed. The request ends within this time.
    InProgress(Duration),
}

#[derive(Serialize)]
pub struct ForgetReport {
    /// Masked.
    pub to: String,
    pub removed: RemovedRow,
    pub kept: Vec<KeptRow>,
    /// Absent if the provider has no texts of ours, or cannot delete them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redaction: Option<StartedRedaction>,
}

impl ForgetReport {
    /// True if a job was started, to which the older messages can be added.
    pub fn takes_older_messages(&self) -> bool {
        self.redaction.as_ref().is_some_and(|redaction| redaction.job.is_some())
    }
}

#[derive(Serialize)]
pub struct RemovedRow {
    /// Requests without their history, masked recipient, user and correlation id now.
    pub histories: u32,
    pub codes: u32,
    pub suppression_note: bool,
}

#[derive(Serialize)]
pub struct KeptRow {
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Absent: until the person opts in, or an operator removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub why: &'static str,
}

#[derive(Serialize)]
pub struct StartedRedaction {
    /// The id of the job. Absent if there are too many jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Messages that otpost knows of. Older ones are added when they are listed.
    pub messages: usize,
}

#[derive(Serialize)]
pub struct RedactionJobRow {
    pub job: String,
    pub begun: String,
    pub total: u32,
    pub done: u32,
    pub failed: u32,
    /// The account that workers have does not have these messages: they were deleted there, or another account sent them.
    pub not_found: u32,
    pub left: u32,
    /// The search for older messages: `pending`, `complete`, `more`, `failed` or `not_possible`.
    pub older_messages: &'static str,
}

/// `can_list`: this process can list the person's older messages, and will.
pub async fn forget(
    store: &dyn Store,
    person: &Forgettable,
    can_list: bool,
    reason: &str,
    by: &Acting,
) -> Result<ForgetEnd, StoreError> {
    // The stream outlives what is forgotten: the record names the person as the job does.
    let record = by.record(AuditAct::Forget).about(forgotten_mark(&person.digest)).because(Some(reason));
    store.record_act(&record).await?;
    let forgotten = match store.forget(person.digest).await? {
        ForgetAnswer::Forgotten(forgotten) => forgotten,
        ForgetAnswer::InProgress(left) => return Ok(ForgetEnd::InProgress(left)),
    };
    store.forget_verified(person.digest).await?;
    store.set_defence_override(&OverrideTarget::Recipient(person.digest), None).await?;
    let redaction = start_redaction(store, person, &forgotten.messages, can_list).await?;
    let Forgotten { histories, codes, note, messages: _, kept } = forgotten;
    Ok(ForgetEnd::Forgotten(Box::new(ForgetReport {
        to: person.masked.clone(),
        removed: RemovedRow { histories, codes, suppression_note: note },
        kept: kept_rows(&kept),
        redaction,
    })))
}

async fn start_redaction(
    store: &dyn Store,
    person: &Forgettable,
    messages: &[SentMessage],
    can_list: bool,
) -> Result<Option<StartedRedaction>, StoreError> {
    let known = messages.iter().filter(|message| message.provider == REDACTING_PROVIDER);
    let known: Vec<String> = known.map(|message| message.message_id.clone()).collect();
    if person.to.channel() != Channel::Sms || (known.is_empty() && !can_list) {
        return Ok(None);
    }
    let listing = if can_list { Listing::Pending } else { Listing::NotPossible };
    let added = store.add_redactions(person.digest, &known, listing).await?;
    let job = (added == RedactionsAdded::Added).then(|| forgotten_mark(&person.digest));
    Ok(Some(StartedRedaction { job, messages: known.len() }))
}

/// True if the provider shows this process a person's messages, and deletes texts.
pub fn can_list(provider: Option<&dyn Provider>, person: &Forgettable) -> bool {
    person.to.channel() == Channel::Sms && provider.is_some_and(|provider| provider.redacts())
}

/// Adds the messages that only the provider knows to the person's job. A failure is shown with the job.
pub async fn list_older_messages(
    store: &dyn Store,
    provider: &dyn Provider,
    person: &Forgettable,
) -> Result<Result<usize, LookupError>, StoreError> {
    match provider.list_unredacted(&person.to).await {
        Ok(UnredactedMessages { message_ids, are_all }) => {
            let listing = if are_all { Listing::Complete } else { Listing::More };
            store.add_redactions(person.digest, &message_ids, listing).await?;
            Ok(Ok(message_ids.len()))
        }
        Err(error) => {
            store.add_redactions(person.digest, &[], Listing::Failed).await?;
            Ok(Err(error))
        }
    }
}

pub async fn redaction_jobs(store: &dyn Store) -> Result<Vec<RedactionJobRow>, StoreError> {
    Ok(store.redaction_jobs().await?.iter().map(RedactionJobRow::of).collect())
}

fn kept_rows(kept: &KeptMarks) -> Vec<KeptRow> {
    let row = |what, until: Option<UnixMillis>, why| KeptRow {
        what,
        count: None,
        until: until.map(|until| until.to_string()),
        why,
    };
    let requests = kept.requests.map(|(count, until)| {
        let why = "a repeated request must not be sent again";
        KeptRow { count: Some(count), ..row("requests", Some(until), why) }
    });
    let limits = kept.limits_until.map(|until| {
        let why = "sends and wrong attempts count on, or forgetting would reset limits";
        row("limits", Some(until), why)
    });
    let suppression = kept.suppression.map(suppression_row);
    let opt_status = kept.opt_status_until.map(|until| {
        row("last_opt_status", Some(until), "a late message must not undo the person's last decision")
    });
    [requests, limits, suppression, opt_status].into_iter().flatten().collect()
}

fn suppression_row(suppression: KeptSuppression) -> KeptRow {
    let is_opt_out = suppression.provider_code.is_some() && suppression.until.is_none();
    KeptRow {
        what: if is_opt_out { "opt_out" } else { "suppression" },
        count: None,
        until: suppression.until.map(|until| until.to_string()),
        why: match is_opt_out {
            true => "the person asked for no messages: until START",
            false => "messages stay off until it ends or is removed",
        },
    }
}

impl RedactionJobRow {
    fn of(job: &RedactionJob) -> RedactionJobRow {
        RedactionJobRow {
            job: forgotten_mark(&job.recipient),
            begun: job.begun.to_string(),
            total: job.total,
            done: job.done,
            failed: job.failed,
            not_found: job.not_found,
            left: job.left(),
            older_messages: job.listing.as_str(),
        }
    }
}
