//! What outlives one request: blocks, claims, the last requests of a recipient, the workers' pulse, the kill switch.

use std::cmp::Reverse;

use super::records::{Phase, Stage};
use super::{DAY, LogKey, Member, State};
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry, SuppressionTarget};
use crate::domain::time::UnixMillis;
use crate::store::bounds::{BUSY_FOR, BY_HAND, KEPT_AFTER, RECENT_MAX, SUPPRESSED_MIN, SUPPRESSIONS_MAX};
use crate::store::{CodeState, KillSwitch, RequestRecord, RequestState, RequestSummary, SharedState};

#[derive(PartialEq, Eq, Hash)]
pub(super) enum BlockKey {
    Recipient(Digest16),
    Country(String),
}

pub(super) struct StandingBlock {
    /// The provider's; nothing if a person did it.
    pub(super) code: Option<u32>,
    /// Until somebody takes it away, if nothing.
    pub(super) until: Option<UnixMillis>,
    since: UnixMillis,
    shown: String,
    reason: Option<String>,
}

impl StandingBlock {
    pub(super) fn stands(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    fn told(&self) -> SuppressionEntry {
        SuppressionEntry {
            to: Some(self.shown.clone()),
            code: self.code,
            reason: self.reason.clone(),
            since: Some(self.since),
            until: self.until,
        }
    }
}

/// A message is this request's.
pub(super) struct Claim {
    pub(super) request: RequestId,
    pub(super) until: UnixMillis,
}

impl State {
    /// Blocks what a provider refuses, never for less long than it is already.
    pub(super) fn block(&mut self, recipient: Digest16, block: NewSuppression<'_>, now: UnixMillis) {
        let key = match block.target {
            SuppressionTarget::Recipient => BlockKey::Recipient(recipient),
            SuppressionTarget::Country(country) => BlockKey::Country(country.to_owned()),
        };
        self.stand(key, block, None, now);
    }

    fn stand(&mut self, key: BlockKey, block: NewSuppression<'_>, reason: Option<&str>, now: UnixMillis) {
        let stood = self.blocks.get(&key).filter(|stood| stood.stands(now));
        let new = StandingBlock {
            code: (block.code != BY_HAND).then_some(block.code),
            until: block.duration.map(|lasts| now.plus(lasts)),
            since: stood.map_or(now, |stood| stood.since),
            shown: block.masked.to_owned(),
            reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned),
        };
        let lasts_longer = |stood: &StandingBlock| match (stood.until, new.until) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(stood), Some(new)) => new > stood,
        };
        if self.blocks.get(&key).is_none_or(lasts_longer) {
            self.blocks.insert(key, new);
        }
    }

    pub(super) fn suppress(
        &mut self,
        recipient: Digest16,
        by_hand: &ManualSuppression<'_>,
        now: UnixMillis,
    ) -> SuppressionEntry {
        let ManualSuppression { masked: shown, reason, duration: lasts } = *by_hand;
        let key = BlockKey::Recipient(recipient);
        // What a person said before stays said, unless somebody says something else.
        let stood = self.blocks.get(&key).filter(|stood| stood.code.is_none() && stood.stands(now));
        let before = stood.map(|stood| stood.reason.clone());
        let given = Some(reason).filter(|reason| !reason.is_empty()).map(str::to_owned);
        let reason = given.or_else(|| before.clone().flatten());
        let lasts = lasts.map(|lasts| lasts.max(SUPPRESSED_MIN));
        let block = NewSuppression {
            target: SuppressionTarget::Recipient,
            code: BY_HAND,
            duration: lasts,
            masked: shown,
        };
        self.stand(key, block, reason.as_deref(), now);
        let stands = self.blocks.get_mut(&BlockKey::Recipient(recipient)).expect("it stands now");
        if before.is_some() {
            stands.reason = reason;
        }
        stands.told()
    }

    pub(super) fn lift_suppression(
        &mut self,
        recipient: Digest16,
        now: UnixMillis,
    ) -> Option<SuppressionEntry> {
        let stood = self.blocks.remove(&BlockKey::Recipient(recipient))?;
        stood.stands(now).then(|| stood.told())
    }

    pub(super) fn suppressions(&self, count_max: u32, now: UnixMillis) -> Vec<SuppressionEntry> {
        let mut standing: Vec<_> = self
            .blocks
            .iter()
            .filter_map(|(key, block)| match key {
                BlockKey::Recipient(recipient) if block.stands(now) => Some((recipient, block)),
                BlockKey::Recipient(_) | BlockKey::Country(_) => None,
            })
            .collect();
        let lasts = |block: &StandingBlock| block.until.map_or(u64::MAX, |until| until.0);
        standing.sort_by_key(|(recipient, block)| Reverse((lasts(block), recipient.as_str())));
        let count = usize::try_from(count_max.min(SUPPRESSIONS_MAX)).expect("a small number");
        standing.into_iter().take(count).map(|(_, block)| block.told()).collect()
    }

    /// Notes that a request came and nothing was sent.
    pub(super) fn remember_unsent(&mut self, recipient: Digest16, request: &RequestId, now: UnixMillis) {
        let unsent = self.unsent.entry(recipient).or_default();
        unsent.retain(|recent| recent.request != *request);
        unsent.push(RequestSummary { at: now, request: request.clone() });
        newest_first(unsent);
    }

    pub(super) fn recent(&self, recipient: Digest16, now: UnixMillis) -> Vec<RequestSummary> {
        let sends = self.logs.get(&LogKey::Sends(recipient)).into_iter().flatten();
        let sent = sends.filter_map(|entry| match &entry.member {
            Member::Request(_, request) => Some(RequestSummary { at: entry.at, request: request.clone() }),
            Member::Check(_) => None,
        });
        let mut recent: Vec<RequestSummary> =
            self.unsent.get(&recipient).into_iter().flatten().cloned().chain(sent).collect();
        recent.retain(|recent| recent.at.plus(DAY) > now);
        newest_first(&mut recent);
        recent
    }

    pub(super) fn pulse(&mut self, worker: u64, busy: bool, now: UnixMillis) -> SharedState {
        self.busy.retain(|_, at| at.plus(BUSY_FOR) > now);
        match busy {
            true => self.busy.insert(worker, now),
            false => self.busy.remove(&worker),
        };
        let busy = u32::try_from(self.busy.len()).unwrap_or(u32::MAX);
        SharedState { kill_switch_on: self.kill_switch.is_some(), active_workers: busy }
    }

    pub(super) fn set_kill_switch(&mut self, reason: Option<&str>, now: UnixMillis) -> Option<KillSwitch> {
        let before = self.kill_switch.take();
        let since = before.as_ref().map_or(now, |before| before.since);
        self.kill_switch = reason.map(|reason| KillSwitch { since, reason: reason.to_owned() });
        before
    }

    pub(super) fn story(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
        now: UnixMillis,
    ) -> Option<RequestRecord> {
        let recipient = recipient.or_else(|| self.index.get(request).copied())?;
        let record = self.record(recipient, request, now)?;
        let (chapter, purpose, challenge) = match &record.stage {
            Stage::Live(live) => {
                let state = match live.phase {
                    Phase::Sending => "sending",
                    Phase::Waiting => "waiting",
                    Phase::Doubt => "doubt",
                };
                let chapter = RequestState::Live {
                    state,
                    held: record.owner.is_some(),
                    attempt: live.attempt,
                    purpose: live.purpose.clone(),
                    deadline: live.deadline,
                    history: live.notes.clone(),
                };
                (chapter, &live.purpose, Some(live.challenge.id.as_str()))
            }
            Stage::Ended(outcome) => {
                (RequestState::Ended(outcome.clone()), &outcome.purpose, outcome.history.challenge.as_deref())
            }
        };
        let code = self.challenge(recipient, purpose).filter(|pending| {
            Some(pending.id.as_str()) == challenge && pending.expires.plus(KEPT_AFTER) > now
        });
        Some(RequestRecord {
            state: chapter,
            receipt: record.receipt.clone(),
            code: code.map(|code| CodeState {
                expires: code.expires,
                tries: code.tries,
                used: code.used.is_some(),
            }),
        })
    }
}

/// Orders requests, each once, and keeps no more than are told.
fn newest_first(recent: &mut Vec<RequestSummary>) {
    recent.sort_by(|a, b| (b.at, &b.request).cmp(&(a.at, &a.request)));
    let mut seen = std::collections::HashSet::new();
    recent.retain(|recent| seen.insert(recent.request.clone()));
    recent.truncate(usize::try_from(RECENT_MAX).expect("a small number"));
}
