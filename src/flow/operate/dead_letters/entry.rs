//! A dead letter, and what can be read of it without a key.

use super::replayer::Replayer;
use crate::broker::DeadLetter;
use crate::domain::dead_letter::{DeadLetterBody, Replay, ReplayRefusal, Replayed, dead_letter_id};
use crate::domain::outcome::Status;
use crate::domain::request::SendRequest;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

pub struct Entry {
    pub id: String,
    pub dead_letter: DeadLetter,
    /// `None` if the broker dead-lettered the message: it is in clear then.
    pub body: Option<DeadLetterBody>,
    pub request: Option<RequestId>,
}

impl Entry {
    pub fn new(dead_letter: DeadLetter) -> Entry {
        let (body, request) = match dead_letter.by_broker {
            true => (None, request_in(&dead_letter)),
            false => (
                serde_json::from_slice(&dead_letter.body).ok(),
                dead_letter.request_id.as_deref().and_then(RequestId::parse),
            ),
        };
        let id = dead_letter_id(dead_letter.message_id.as_deref(), dead_letter.at, &dead_letter.body);
        Entry { id, dead_letter, body, request }
    }

    pub fn has_id(&self, id: &str) -> bool {
        self.id.eq_ignore_ascii_case(id)
    }

    /// The request in the dead letter, under its next id.
    pub fn replay(&self, replayer: &Replayer, now: UnixMillis, force: bool) -> Result<Replay, ReplayRefusal> {
        let dead_letter = &self.dead_letter;
        let opened;
        let body = match &self.body {
            None if dead_letter.by_broker => &dead_letter.body,
            None => return Err(ReplayRefusal::NotSealed),
            Some(body) if body.code_removed => return Err(ReplayRefusal::CodeRemoved),
            Some(body) => {
                let sealed = body.sealed.as_deref().ok_or(ReplayRefusal::NotSealed)?;
                let recipients = replayer.recipients.as_ref().ok_or(ReplayRefusal::Unopened)?;
                let name = dead_letter.message_id.as_deref().unwrap_or_default();
                opened = recipients.dead_letter_key().open(name, sealed).ok_or(ReplayRefusal::Unopened)?;
                &opened
            }
        };
        let at = dead_letter.requested_at.or(dead_letter.at);
        Replayed { body, at, status: self.status() }.replay(now, replayer.code_life, force)
    }

    /// The status of the request. Unknown for a message that the broker dead-lettered: a worker may have sent it and
    /// crashed.
    fn status(&self) -> Option<Status> {
        let recorded = |status: &Status| self.dead_letter.status.as_deref() == Some(status.as_str());
        let by_default = self.dead_letter.by_broker.then_some(Status::Unknown);
        Status::ALL.into_iter().find(recorded).or(by_default)
    }
}

/// The id in a message that the broker dead-lettered.
fn request_in(dead_letter: &DeadLetter) -> Option<RequestId> {
    match SendRequest::decode(&dead_letter.body, None) {
        Ok(request) => Some(request.id),
        Err(rejected) => rejected.request_id,
    }
}
