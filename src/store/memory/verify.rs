//! Checks of a typed code against the stored digest, and the request of a code that was right.

use super::log::Source;
use super::state::{HOUR, State};
use crate::domain::challenge::PROVIDER_MADE;
use crate::domain::limit::{EventLog, Limit};
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;
use crate::store::code_check::{CheckAnswer, CodeCheck, CodeRequest};

impl State {
    pub(super) fn verify(&mut self, check: &CodeCheck<'_>, now: UnixMillis) -> Verdict {
        let wrong_log = (EventLog::Wrong, check.recipient);
        let source = Source::Check(check.check_id);
        let wrong_wait = self.logs.wait(wrong_log, check.limits[Limit::Wrong], now);
        let was_counted_wrong = self.logs.contains(wrong_log, &source);
        let Some(challenge) = self.challenge_mut(check.recipient, check.purpose, now) else {
            return Verdict::NonePending;
        };
        if let Some(used) = challenge.used {
            return if used == check.check_id { Verdict::Verified } else { Verdict::AlreadyUsed };
        }
        let checks_max = check.limits.wrong_per_challenge;
        // The check is repeated because its answer was lost.
        if was_counted_wrong {
            return Verdict::Wrong { attempts_left: checks_max.saturating_sub(challenge.checks) };
        }
        if challenge.expires <= now {
            return Verdict::Expired { at: challenge.expires };
        }
        // The recipient's lock comes first: a new code does not lift it.
        if !wrong_wait.is_zero() {
            return Verdict::Locked { retry_after: Some(wrong_wait) };
        }
        if challenge.checks >= checks_max {
            return Verdict::Locked { retry_after: None };
        }
        let Some((_, typed)) = check.digests.iter().find(|(kid, _)| *kid == challenge.kid) else {
            return Verdict::KeyUnavailable;
        };
        challenge.checks += 1;
        if *typed == challenge.digest {
            challenge.used = Some(check.check_id);
            return Verdict::Verified;
        }
        let attempts_left = checks_max - challenge.checks;
        self.logs.append(wrong_log, source, HOUR, now);
        Verdict::Wrong { attempts_left }
    }

    /// Adds the request of a verified code to the verdict.
    pub(super) fn check_answer(
        &self,
        verdict: Verdict,
        check: &CodeCheck<'_>,
        now: UnixMillis,
    ) -> CheckAnswer {
        if verdict != Verdict::Verified {
            return CheckAnswer::NotVerified(verdict);
        }
        let requests = self.requests_of_both_logs(check.recipient, now).into_iter();
        let have_the_code = requests.filter_map(|recent| {
            let record = self.request_record(&recent.request_id, Some(check.recipient), now)?;
            // `code` is the state of the record's own challenge.
            record.code.is_some_and(|code| code.used).then_some((recent.request_id, record.state))
        });
        CheckAnswer::Verified { request: CodeRequest::choose(have_the_code, check.purpose), unreadable: None }
    }

    pub(super) fn reopen_challenge(&mut self, check: &CodeCheck<'_>, now: UnixMillis) {
        let challenge = self.challenge_mut(check.recipient, check.purpose, now);
        let ours = challenge.filter(|challenge| challenge.used == Some(check.check_id));
        let (Some(challenge), Some((kid, digest))) = (ours, check.digests.first()) else {
            return;
        };
        challenge.used = None;
        challenge.checks -= 1;
        // A provider accepts a code only once, so the next check compares here. No other code continues this challenge.
        if challenge.kid == PROVIDER_MADE {
            (challenge.kid, challenge.digest) = ((*kid).to_owned(), *digest);
            challenge.callers_code = true;
        }
    }
}
