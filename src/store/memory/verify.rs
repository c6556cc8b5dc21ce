//! Is a typed code right?

use std::time::Duration;

use super::{Entry, LogKey, Member, State};
use crate::domain::quota;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::bounds::KEPT_AFTER;
use crate::store::check::Check;

impl State {
    pub(super) fn verify(&mut self, check: &Check<'_>, now: UnixMillis) -> Verdict {
        let wrong_key = LogKey::Wrong(check.recipient);
        let times = self.times(&wrong_key);
        let (wrong_wait, wrong_before) =
            (quota::wait(check.limits.wrong, &times, now), quota::used(check.limits.wrong, &times, now));
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
            return Verdict::Wrong { attempts_left: attempts_left(check, challenge.tries, wrong_before) };
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
        let attempts_left = attempts_left(check, challenge.tries, wrong_before + 1);
        self.append(
            wrong_key,
            Entry { member: Member::Check(check.check_id), at: now },
            Duration::from_secs(3600),
        );
        Verdict::Wrong { attempts_left }
    }
}

/// How many wrong tries are left, of a code and of the recipient's hour.
pub(super) fn attempts_left(check: &Check<'_>, tries: u32, in_the_hour: u32) -> u32 {
    let of_the_code = check.limits.wrong_per_challenge.saturating_sub(tries);
    match check.limits.wrong.count {
        0 => of_the_code,
        limit => of_the_code.min(limit.saturating_sub(in_the_hour)),
    }
}
