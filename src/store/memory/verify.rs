//! Is a typed code right?

use std::time::Duration;

use super::{Entry, LogKey, Member, State};
use crate::domain::quota;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::bounds::KEPT_AFTER;
use crate::store::code_check::CodeCheck;

impl State {
    pub(super) fn verify(&mut self, check: &CodeCheck<'_>, now: UnixMillis) -> Verdict {
        let wrong_key = LogKey::Wrong(check.recipient);
        let wrong_wait = quota::wait(check.limits.wrong, &self.times(&wrong_key), now);
        let counted = self
            .logs
            .get(&wrong_key)
            .is_some_and(|log| log.iter().any(|entry| entry.member == Member::Check(check.check_id)));
        let named = (check.recipient, check.purpose.to_owned());
        let pending =
            self.challenges.get_mut(&named).filter(|pending| pending.expires.plus(KEPT_AFTER) > now);
        let Some(challenge) = pending else {
            return Verdict::NonePending;
        };
        if let Some(used) = challenge.used {
            return if used == check.check_id { Verdict::Verified } else { Verdict::AlreadyUsed };
        }
        if challenge.expires <= now {
            return Verdict::Expired { at: challenge.expires };
        }
        let tries_max = check.limits.wrong_per_challenge;
        if counted {
            return Verdict::Wrong { attempts_left: tries_max.saturating_sub(challenge.tries) };
        }
        // First what another code does not help against.
        if !wrong_wait.is_zero() {
            return Verdict::Locked { retry_after: Some(wrong_wait) };
        }
        if challenge.tries >= tries_max {
            return Verdict::Locked { retry_after: None };
        }
        let Some((_, typed)) = check.digests.iter().find(|(kid, _)| *kid == challenge.kid) else {
            return Verdict::KeyUnavailable;
        };
        challenge.tries += 1;
        if *typed == challenge.digest {
            challenge.used = Some(check.check_id);
            return Verdict::Verified;
        }
        let attempts_left = tries_max - challenge.tries;
        self.append(
            wrong_key,
            Entry { member: Member::Check(check.check_id), at: now },
            Duration::from_secs(3600),
        );
        Verdict::Wrong { attempts_left }
    }
}
