//! The settings of a call, in the form that `limits.lua` reads and remembers, and its other packed arguments.

use std::time::Duration;

use super::keys::{Key, Keys};
use super::pack::{NO_END, Packer};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, TIME_LEFT_MIN};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{EventLog, Limit, Limits, Quota};
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::suppression::{NewSuppression, SuppressionTarget};
use crate::domain::time::millis;
use crate::store::retention::{
    CHALLENGE_KEPT_AFTER, CLAIM_REQUESTS_MAX, OUTCOME_KEPT, RECENT_MAX, REJECTION_KEPT,
};
use crate::store::{LimitSubject, Progress, Refund};

/// From this count on, a subject log is a list of its own and no packed value: that would be rewritten whole.
const LIST_FROM: u32 = 257;
/// A log of a recipient keeps this many entries, or as many as its largest limit counts. A claim finds too many requests
/// only if they are all there.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const ENTRIES: u32 = CLAIM_REQUESTS_MAX as u32 + 1;

const SENDS: u8 = 1;
const WRONG: u8 = 2;
const REFUNDS: u8 = 3;
const SUBJECT_PACKED: u8 = 4;
const SUBJECT_LIST: u8 = 5;

#[derive(Default)]
pub(super) struct CallSettings<'a> {
    /// 0: the server's.
    pub(super) time: u64,
    pub(super) code_life: Duration,
    pub(super) lease_duration: Duration,
    pub(super) code_key_ids: &'a str,
    /// Without a subject, only the limits of a recipient.
    pub(super) limits: Option<(Option<&'a LimitSubject<'a>>, &'a Limits)>,
}

/// The limits on subject logs, each with the subject's digest. Those that are off are left out.
pub(super) fn subject_limits<'a>(
    subject: &'a LimitSubject<'_>,
    limits: &'a Limits,
) -> impl Iterator<Item = (Limit, Digest16)> + 'a {
    Limit::ALL
        .into_iter()
        .filter(|limit| is_subject_log(limit.log()) && limits[*limit].count > 0)
        .filter_map(|limit| Some((limit, subject.digest(limit.log())?)))
}

fn is_subject_log(log: EventLog) -> bool {
    !matches!(log, EventLog::Sends | EventLog::Wrong | EventLog::Refunds)
}

impl Keys {
    /// The subject logs that `limits` counts for a subject, in the order of the settings.
    pub(super) fn counted_logs(&self, subject: &LimitSubject<'_>, limits: &Limits) -> Vec<Key> {
        let name = |(limit, digest): (Limit, Digest16)| {
            self.subject_log(limit.log(), &digest, limits[limit].count >= LIST_FROM)
        };
        subject_limits(subject, limits).map(name).collect()
    }
}

impl CallSettings<'_> {
    pub(super) fn pack(&self) -> Vec<u8> {
        let life_left_min = (self.code_life / CONTINUE_LIFE_LEFT_DIVISOR).max(TIME_LEFT_MIN);
        let cooldown = self.limits.map_or(Duration::ZERO, |(_, limits)| limits.cooldown);
        let wrong_per_challenge = self.limits.map_or(0, |(_, limits)| limits.wrong_per_challenge);
        let list = self.limit_list();
        let sends = list.iter().filter(|(kind, ..)| *kind == SENDS).map(|(.., quota)| quota.count).max();
        let packed = Packer::new()
            .u48(self.time)
            .u48(millis(self.code_life))
            .millis32(millis(self.lease_duration))
            .millis32(millis(cooldown))
            .u8(u8::try_from(wrong_per_challenge).unwrap_or(u8::MAX))
            .millis32(millis(TIME_LEFT_MIN))
            .millis32(millis(life_left_min))
            .millis32(millis(REJECTION_KEPT))
            .millis32(millis(OUTCOME_KEPT))
            .millis32(millis(CHALLENGE_KEPT_AFTER))
            .u8(u8::try_from(RECENT_MAX).expect("a small number"))
            .u16(sends.unwrap_or(0).max(ENTRIES))
            .u8(u8::try_from(list.len()).expect("there are few limits"));
        let add = |packed: Packer, (kind, limit, quota): &(u8, Limit, Quota)| {
            let number = ReachedLimit::from(*limit).stored();
            packed.u8(*kind).u8(number).u32(quota.count).u48(millis(quota.window))
        };
        list.iter().fold(packed, add).bytes(self.code_key_ids.as_bytes()).done()
    }

    /// The limits that are on, each with the kind of its log.
    fn limit_list(&self) -> Vec<(u8, Limit, Quota)> {
        let Some((subject, limits)) = self.limits else { return Vec::new() };
        let own = |limit: &Limit| match limit.log() {
            EventLog::Sends => Some((SENDS, *limit, limits[*limit])),
            EventLog::Wrong => Some((WRONG, *limit, limits[*limit])),
            EventLog::Refunds => Some((REFUNDS, *limit, limits[*limit])),
            _ => None,
        };
        let is_on = |(.., quota): &(u8, Limit, Quota)| quota.count > 0;
        let shared = subject.into_iter().flat_map(|subject| subject_limits(subject, limits));
        let log_of = |(limit, _): (Limit, Digest16)| {
            let quota = limits[limit];
            (if quota.count >= LIST_FROM { SUBJECT_LIST } else { SUBJECT_PACKED }, limit, quota)
        };
        Limit::ALL.iter().filter_map(own).filter(is_on).chain(shared.map(log_of)).collect()
    }
}

/// A suppression that the provider's answer causes, or nothing.
pub(super) fn pack_suppression(suppression: Option<&NewSuppression<'_>>) -> Vec<u8> {
    let Some(new) = suppression else { return Vec::new() };
    let target = match new.target {
        SuppressionTarget::Recipient => 1,
        SuppressionTarget::Country(_) => 2,
    };
    let packed = Packer::new().u8(target).u32(new.provider_code).u48(new.duration.map_or(NO_END, millis));
    packed.bytes(new.masked.as_bytes()).done()
}

/// The country that a suppression is of.
pub(super) fn country_of<'a>(suppression: Option<&NewSuppression<'a>>) -> Option<&'a str> {
    match suppression?.target {
        SuppressionTarget::Country(country) => Some(country),
        SuppressionTarget::Recipient => None,
    }
}

/// A state that a handler reports, as `progress.lua` numbers it, and the duration of its lease.
pub(super) fn progress_state(progress: Progress) -> (u8, Duration) {
    match progress {
        Progress::Waiting(duration) => (1, duration),
        Progress::Sending(duration) => (2, duration),
        Progress::InDoubt(duration) => (3, duration),
        Progress::Requeued { retry_in, in_doubt: false } => (4, retry_in),
        Progress::Requeued { retry_in, in_doubt: true } => (5, retry_in),
    }
}

/// A refund, as `complete.lua` numbers it.
pub(super) fn refund_kind(refund: Refund) -> u8 {
    match refund {
        Refund::None => 0,
        Refund::Full => 1,
        Refund::FullAndCounted => 2,
    }
}
