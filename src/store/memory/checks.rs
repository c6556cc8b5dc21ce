//! Is a typed code right, where only whoever made it knows?

use std::time::Duration;

use super::{Challenge, Entry, LogKey, Member, State};
use crate::domain::challenge::{ChallengeId, MADE_ELSEWHERE};
use crate::domain::quota;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::Subject;
use crate::store::bounds::KEPT_AFTER;
use crate::store::check::{Begun, Check, CheckEnd};

impl State {
    pub(super) fn begin_check(&mut self, check: &Check<'_>, now: UnixMillis) -> Begun {
        let wrong_key = LogKey::Wrong(check.recipient);
        let wrong_wait = quota::wait(check.limits.wrong, &self.times(&wrong_key), now);
        let Some(challenge) = self.checked(check).filter(|pending| pending.expires.plus(KEPT_AFTER) > now)
        else {
            return Begun::Over(Verdict::NonePending);
        };
        if challenge.used.is_some() {
            return Begun::Over(Verdict::AlreadyUsed);
        }
        if challenge.kid != MADE_ELSEWHERE {
            return Begun::Over(Verdict::KeyUnavailable);
        }
        // Asked again after its answer was lost: it was counted then.
        if challenge.open.contains(&check.check_id) {
            return Begun::Ask(challenge.name.clone());
        }
        if challenge.expires <= now {
            return Begun::Over(Verdict::Expired { at: challenge.expires });
        }
        if challenge.tries >= check.limits.wrong_per_challenge {
            return Begun::Over(Verdict::Locked { retry_after: None });
        }
        if !wrong_wait.is_zero() {
            return Begun::Over(Verdict::Locked { retry_after: Some(wrong_wait) });
        }
        challenge.tries += 1;
        challenge.open.insert(check.check_id);
        let name = challenge.name.clone();
        let entry = Entry { member: Member::Check(check.check_id), at: now };
        self.append(wrong_key, entry, Duration::from_secs(3600));
        Begun::Ask(name)
    }

    pub(super) fn end_check(&mut self, check: &Check<'_>, end: CheckEnd) -> Verdict {
        let tries_max = check.limits.wrong_per_challenge;
        let Some(challenge) = self.checked(check) else { return Verdict::NonePending };
        if let Some(used) = challenge.used {
            return if used == check.check_id { Verdict::Verified } else { Verdict::AlreadyUsed };
        }
        let others = challenge.open.iter().any(|id| *id != check.check_id);
        // Not open: the challenge was replaced meanwhile, or the answer to this was lost and it is asked again.
        let open = challenge.open.contains(&check.check_id);
        match end {
            CheckEnd::Right | CheckEnd::Found if !open => return Verdict::NonePending,
            // It may have been another one's code.
            CheckEnd::Found if others => return Verdict::Unanswered { counted: true },
            CheckEnd::Right | CheckEnd::Found => {
                challenge.open.remove(&check.check_id);
                challenge.used = Some(check.check_id);
            }
            CheckEnd::Wrong => {
                challenge.open.remove(&check.check_id);
                return Verdict::Wrong { attempts_left: tries_max.saturating_sub(challenge.tries) };
            }
            CheckEnd::NotCompared if !open => return Verdict::Unanswered { counted: false },
            CheckEnd::NotCompared => {
                challenge.open.remove(&check.check_id);
                challenge.tries -= 1;
            }
        }
        if let Some(log) = self.logs.get_mut(&LogKey::Wrong(check.recipient)) {
            log.retain(|entry| entry.member != Member::Check(check.check_id));
        }
        match end {
            CheckEnd::NotCompared => Verdict::Unanswered { counted: false },
            _ => Verdict::Verified,
        }
    }

    pub(super) fn name_challenge(&mut self, subject: &Subject<'_>, id: &ChallengeId, name: &str) {
        let named = (subject.recipient, subject.purpose.to_owned());
        if let Some(challenge) = self.challenges.get_mut(&named).filter(|challenge| challenge.id == *id) {
            challenge.name = Some(name.to_owned());
        }
    }

    fn checked(&mut self, check: &Check<'_>) -> Option<&mut Challenge> {
        self.challenges.get_mut(&(check.recipient, check.purpose.to_owned()))
    }
}
