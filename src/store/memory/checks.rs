//! Is a typed code right, where only whoever made it knows?

use std::time::Duration;

use super::{Asked, Challenge, DAY, Entry, LogKey, Member, State};
use crate::domain::challenge::{ChallengeId, PROVIDER_MADE};
use crate::domain::quota;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::Subject;
use crate::store::bounds::KEPT_AFTER;
use crate::store::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};

impl State {
    pub(super) fn begin_check(&mut self, check: &CodeCheck<'_>, now: UnixMillis) -> ProviderCheckStart {
        let wrong_key = LogKey::Wrong(check.recipient);
        let wrong_wait = quota::wait(check.limits.wrong, &self.times(&wrong_key), now);
        let Some(challenge) = self.checked(check).filter(|pending| pending.expires.plus(KEPT_AFTER) > now)
        else {
            return ProviderCheckStart::Decided(Verdict::NonePending);
        };
        if challenge.used.is_some() {
            return ProviderCheckStart::Decided(Verdict::AlreadyUsed);
        }
        if challenge.kid != PROVIDER_MADE {
            return ProviderCheckStart::Decided(Verdict::KeyUnavailable);
        }
        // Asked again after its answer was lost: it was counted then.
        if let Some(name) = challenge.open.get(&check.check_id) {
            return ProviderCheckStart::Ask(name.clone());
        }
        if challenge.expires <= now {
            return ProviderCheckStart::Decided(Verdict::Expired { at: challenge.expires });
        }
        // First what another code does not help against.
        if !wrong_wait.is_zero() {
            return ProviderCheckStart::Decided(Verdict::Locked { retry_after: Some(wrong_wait) });
        }
        if challenge.tries >= check.limits.wrong_per_challenge {
            return ProviderCheckStart::Decided(Verdict::Locked { retry_after: None });
        }
        challenge.tries += 1;
        let name = challenge.name.clone();
        challenge.open.insert(check.check_id, name.clone());
        let entry = Entry { member: Member::Check(check.check_id), at: now };
        self.append(wrong_key, entry, Duration::from_secs(3600));
        // One code of the provider's may stand for several challenges of the recipient, and outlive each.
        let asked = self.asked.entry(check.recipient).or_default();
        asked.retain(|asked| asked.at.plus(DAY) > now);
        asked.push(Asked { check: check.check_id, name: name.clone(), at: now });
        ProviderCheckStart::Ask(name)
    }

    pub(super) fn end_check(&mut self, check: &CodeCheck<'_>, end: ProviderCheckResult) -> Verdict {
        let tries_max = check.limits.wrong_per_challenge;
        let is_sure = self.is_the_only_one_asked(check);
        if matches!(end, ProviderCheckResult::Wrong | ProviderCheckResult::NotCompared) {
            let asked = self.asked.entry(check.recipient).or_default();
            asked.retain(|asked| asked.check != check.check_id);
        }
        // What was right or not compared is no wrong try, whatever became of its challenge.
        if matches!(end, ProviderCheckResult::Right | ProviderCheckResult::NotCompared) {
            self.was_not_wrong(check);
        }
        let back = Verdict::Unanswered { counted: false };
        let Some(challenge) = self.checked(check) else {
            return if end == ProviderCheckResult::NotCompared { back } else { Verdict::NonePending };
        };
        if let Some(used) = challenge.used {
            return if used == check.check_id { Verdict::Verified } else { Verdict::AlreadyUsed };
        }
        // Not open: the challenge was replaced meanwhile, or the answer to this was lost and it is asked again.
        let open = challenge.open.contains_key(&check.check_id);
        match end {
            ProviderCheckResult::Wrong => {
                challenge.open.remove(&check.check_id);
                return Verdict::Wrong { attempts_left: tries_max.saturating_sub(challenge.tries) };
            }
            ProviderCheckResult::NotCompared if !open => return back,
            ProviderCheckResult::Right | ProviderCheckResult::Found if !open => return Verdict::NonePending,
            // It may have been another one's code.
            ProviderCheckResult::Found if !is_sure => return Verdict::Unanswered { counted: true },
            ProviderCheckResult::NotCompared => {
                challenge.open.remove(&check.check_id);
                challenge.tries -= 1;
                return back;
            }
            ProviderCheckResult::Right | ProviderCheckResult::Found => {
                challenge.open.remove(&check.check_id);
                challenge.used = Some(check.check_id);
            }
        }
        self.was_not_wrong(check);
        Verdict::Verified
    }

    /// Whether no other check of the recipient can have been the right one of the code that this one asked about.
    fn is_the_only_one_asked(&self, check: &CodeCheck<'_>) -> bool {
        let asked = self.asked.get(&check.recipient).map_or(&[][..], Vec::as_slice);
        let ours = asked.iter().find(|asked| asked.check == check.check_id);
        ours.is_some_and(|ours| {
            let may_be = |other: &&Asked| other.name == ours.name || other.name.is_none();
            ours.name.is_some()
                && !asked.iter().filter(|other| other.check != ours.check).any(|other| may_be(&other))
        })
    }

    fn was_not_wrong(&mut self, check: &CodeCheck<'_>) {
        if let Some(log) = self.logs.get_mut(&LogKey::Wrong(check.recipient)) {
            log.retain(|entry| entry.member != Member::Check(check.check_id));
        }
    }

    pub(super) fn name_challenge(&mut self, subject: &Subject<'_>, id: &ChallengeId, name: &str) {
        let named = (subject.recipient, subject.purpose.to_owned());
        if let Some(challenge) = self.challenges.get_mut(&named).filter(|challenge| challenge.id == *id) {
            challenge.name = Some(name.to_owned());
        }
    }

    fn checked(&mut self, check: &CodeCheck<'_>) -> Option<&mut Challenge> {
        self.challenges.get_mut(&(check.recipient, check.purpose.to_owned()))
    }
}
