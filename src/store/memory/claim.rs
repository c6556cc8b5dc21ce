//! Claims of messages that lookups listed.

use std::collections::HashSet;

use super::record::{Stage, UnnamedMessages};
use super::state::{Claim, State};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, millis};
use crate::store::retention::{CLAIM_CLOCK_DIFFERENCE_MAX, CLAIM_KEPT, CLAIM_REQUESTS_MAX, is_word};
use crate::store::{ClaimAnswer, ClaimInput};

/// The messages of other requests that may be among the listed ones.
#[derive(Default)]
struct OthersMessages {
    count: u32,
    /// Some may be younger than ours.
    overlap: bool,
    /// By receipts.
    named: HashSet<String>,
}

impl State {
    pub(super) fn claim_message(&mut self, input: &ClaimInput<'_>, now: UnixMillis) -> ClaimAnswer {
        let (lease, recipient) = (&input.lease, input.lease.subject.recipient);
        let record = self.record(recipient, lease.request_id, now);
        let record = record.filter(|record| record.lease_token == Some(lease.token));
        let Some(record) = record.filter(|record| matches!(record.stage, Stage::InProgress(_))) else {
            return ClaimAnswer::LeaseNotHeld;
        };
        let ours = record.unnamed_messages(now).expect("the request is in progress");
        let Some(others) = self.others_messages(input, &ours, now) else {
            return ClaimAnswer::Ambiguous;
        };
        let mut free = Vec::new();
        for message_id in input.listed.iter().copied().filter(|id| is_word(id)) {
            match self.claimed_by(recipient, message_id, now) {
                Some(request_id) if request_id == lease.request_id => {
                    return ClaimAnswer::Claimed(message_id.to_owned());
                }
                Some(_) => {}
                None if others.named.contains(message_id) => {}
                None => free.push(message_id),
            }
        }
        if free.is_empty() {
            return ClaimAnswer::AllClaimed;
        }
        if free.len() <= others.count as usize {
            return ClaimAnswer::Ambiguous;
        }
        if others.overlap {
            return ClaimAnswer::SentUnnamed;
        }
        let message_id = free[others.count as usize].to_owned();
        let claim = Claim { request_id: lease.request_id.clone(), until: now.plus(CLAIM_KEPT) };
        self.claims.insert((recipient, message_id.clone()), claim);
        ClaimAnswer::Claimed(message_id)
    }

    /// `None` if there are too many requests to read.
    fn others_messages(
        &self,
        input: &ClaimInput<'_>,
        ours: &UnnamedMessages,
        now: UnixMillis,
    ) -> Option<OthersMessages> {
        let (lease, recipient) = (&input.lease, input.lease.subject.recipient);
        let since = UnixMillis(ours.from.0.saturating_sub(millis(CLAIM_KEPT)));
        let requests = self.logs.requests((EventLog::Sends, recipient)).filter(|(_, at)| *at >= since);
        let requests: Vec<&RequestId> = requests.map(|(request_id, _)| request_id).collect();
        if requests.len() > CLAIM_REQUESTS_MAX {
            return None;
        }
        let mut others = OthersMessages::default();
        for request_id in requests.into_iter().filter(|request_id| *request_id != lease.request_id) {
            let Some(record) = self.record(recipient, request_id, now) else { continue };
            let reported = record.proven_message();
            let is_new = |id: &String| self.claimed_by(recipient, id, now) != Some(request_id);
            let named = u32::from(reported.as_ref().is_some_and(is_new));
            others.named.extend(reported);
            let Some(theirs) = record.unnamed_messages(now) else { continue };
            let count = theirs.count.saturating_sub(named);
            let meets = |a: UnixMillis, b: UnixMillis| a.plus(CLAIM_CLOCK_DIFFERENCE_MAX) >= b;
            let in_time = meets(theirs.until, ours.from) && meets(now, theirs.from);
            let may_equal = match (&theirs.code, &ours.code) {
                (Some(theirs), Some(ours)) => input.a_text_is_missing || theirs.may_equal(ours),
                _ => true,
            };
            if count > 0 && in_time && may_equal {
                others.count += count;
                let is_open = matches!(record.stage, Stage::InProgress(_));
                others.overlap |= is_open || theirs.until > ours.from;
            }
        }
        Some(others)
    }

    fn claimed_by(&self, recipient: Digest16, message_id: &str, now: UnixMillis) -> Option<&RequestId> {
        let claim = self.claims.get(&(recipient, message_id.to_owned()))?;
        (claim.until > now).then_some(&claim.request_id)
    }
}
