//! Checks of a typed code that only the provider knows.

use super::log::Source;
use super::state::{DAY, HOUR, PossibleCheck, State};
use crate::domain::challenge::{ChallengeId, PROVIDER_MADE};
use crate::domain::limit::{EventLog, Limit};
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::LimitSubject;
use crate::store::code_check::{CodeCheck, ProviderCheckEnd, ProviderCheckStart};

impl State {
    pub(super) fn begin_provider_check(
        &mut self,
        check: &CodeCheck<'_>,
        now: UnixMillis,
    ) -> ProviderCheckStart {
        use ProviderCheckStart::{Ask, Decided};
        let wrong_log = (EventLog::Wrong, check.recipient);
        let wrong_wait = self.logs.wait(wrong_log, check.limits[Limit::Wrong], now);
        let Some(challenge) = self.challenge_mut(check.recipient, check.purpose, now) else {
            return Decided(Verdict::NonePending);
        };
        if challenge.used.is_some() {
            return Decided(Verdict::AlreadyUsed);
        }
        if challenge.kid != PROVIDER_MADE {
            return Decided(Verdict::KeyUnavailable);
        }
        // The step is repeated because its answer was lost. It was counted the first time.
        if let Some(verification_sid) = challenge.unfinished_checks.get(&check.check_id) {
            return Ask(verification_sid.clone());
        }
        if challenge.expires <= now {
            return Decided(Verdict::Expired { at: challenge.expires });
        }
        // The recipient's lock comes first: a new code does not lift it.
        if !wrong_wait.is_zero() {
            return Decided(Verdict::Locked { retry_after: Some(wrong_wait) });
        }
        if challenge.checks >= check.limits.wrong_per_challenge {
            return Decided(Verdict::Locked { retry_after: None });
        }
        challenge.checks += 1;
        let verification_sid = challenge.verification_sid.clone();
        challenge.unfinished_checks.insert(check.check_id, verification_sid.clone());
        // Counted as wrong until the provider says otherwise.
        self.logs.append(wrong_log, Source::Check(check.check_id), HOUR, now);
        // Kept per recipient, not per challenge: the provider may use one code for several challenges in turn.
        let possible = self.possible_checks.entry(check.recipient).or_default();
        possible.retain(|possible| possible.at.plus(DAY) > now);
        let (check_id, at) = (check.check_id, now);
        possible.push(PossibleCheck { check_id, verification_sid: verification_sid.clone(), at });
        Ask(verification_sid)
    }

    pub(super) fn finish_provider_check(
        &mut self,
        check: &CodeCheck<'_>,
        answer: ProviderCheckEnd,
        now: UnixMillis,
    ) -> Verdict {
        use ProviderCheckEnd::{ApprovedAfterLostAnswer, NotCompared, Right, Wrong};
        let checks_max = check.limits.wrong_per_challenge;
        let is_only_possible = self.is_only_possible_check(check);
        if matches!(answer, Wrong | NotCompared) {
            let possible = self.possible_checks.entry(check.recipient).or_default();
            possible.retain(|possible| possible.check_id != check.check_id);
        }
        // Not a wrong attempt, even if the challenge is gone.
        if matches!(answer, Right | NotCompared) {
            self.uncount_wrong(check);
        }
        let not_counted = Verdict::Unanswered { counted: false };
        let Some(challenge) = self.challenge_mut(check.recipient, check.purpose, now) else {
            return if answer == NotCompared { not_counted } else { Verdict::NonePending };
        };
        if let Some(used) = challenge.used {
            return if used == check.check_id { Verdict::Verified } else { Verdict::AlreadyUsed };
        }
        // If the challenge does not have this check as unfinished, it is a newer challenge, or this step is a repeat.
        let is_unfinished = challenge.unfinished_checks.contains_key(&check.check_id);
        match answer {
            Wrong => {
                challenge.unfinished_checks.remove(&check.check_id);
                return Verdict::Wrong { attempts_left: checks_max.saturating_sub(challenge.checks) };
            }
            NotCompared if !is_unfinished => return not_counted,
            Right | ApprovedAfterLostAnswer if !is_unfinished => return Verdict::NonePending,
            // The provider has seen a right code, which may be the one of another check.
            ApprovedAfterLostAnswer if !is_only_possible => return Verdict::Unanswered { counted: true },
            NotCompared => {
                challenge.unfinished_checks.remove(&check.check_id);
                challenge.checks -= 1;
                return not_counted;
            }
            Right | ApprovedAfterLostAnswer => {
                challenge.unfinished_checks.remove(&check.check_id);
                challenge.used = Some(check.check_id);
            }
        }
        self.uncount_wrong(check);
        Verdict::Verified
    }

    /// Is this the only check of its verification that may have been right?
    fn is_only_possible_check(&self, check: &CodeCheck<'_>) -> bool {
        let possible = self.possible_checks.get(&check.recipient).map_or(&[][..], Vec::as_slice);
        let Some(ours) = possible.iter().find(|possible| possible.check_id == check.check_id) else {
            return false;
        };
        let is_rival = |other: &PossibleCheck| {
            other.check_id != ours.check_id
                && (other.verification_sid == ours.verification_sid || other.verification_sid.is_none())
        };
        ours.verification_sid.is_some() && !possible.iter().any(is_rival)
    }

    fn uncount_wrong(&mut self, check: &CodeCheck<'_>) {
        self.logs.remove((EventLog::Wrong, check.recipient), &Source::Check(check.check_id));
    }

    pub(super) fn link_verification(
        &mut self,
        subject: &LimitSubject<'_>,
        challenge_id: &ChallengeId,
        verification_sid: &str,
        now: UnixMillis,
    ) {
        let challenge = self.challenge_mut(subject.recipient, subject.purpose, now);
        if let Some(challenge) = challenge.filter(|challenge| challenge.id == *challenge_id) {
            challenge.verification_sid = Some(verification_sid.to_owned());
        }
    }
}
