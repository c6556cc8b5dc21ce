//! The messages whose texts the provider is still to delete.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::domain::keyed_digest::Digest16;
use crate::domain::time::UnixMillis;
use crate::store::forget::{
    Listing, REDACTION_JOB_KEPT, REDACTION_JOBS_MAX, REDACTION_LEASE, REDACTION_MESSAGES_MAX,
    REDACTION_TRIED_FOR, REDACTIONS_TAKEN_EVERY, Redaction, RedactionEnd, RedactionJob, RedactionsAdded,
};

/// Jobs by recipient, and their messages with the time when each is due.
#[derive(Default)]
pub(super) struct Redactions {
    jobs: BTreeMap<Digest16, Job>,
    messages: BTreeMap<(Digest16, String), UnixMillis>,
    next_at: UnixMillis,
}

struct Job {
    shown: RedactionJob,
    changed: UnixMillis,
}

impl Redactions {
    pub(super) fn add(
        &mut self,
        recipient: Digest16,
        message_ids: &[String],
        listing: Listing,
        now: UnixMillis,
    ) -> RedactionsAdded {
        self.jobs.retain(|_, job| job.changed.plus(REDACTION_JOB_KEPT) > now);
        if self.jobs.len() >= REDACTION_JOBS_MAX && !self.jobs.contains_key(&recipient) {
            return RedactionsAdded::TooManyJobs;
        }
        let new = RedactionJob { recipient, begun: now, total: 0, done: 0, failed: 0, not_found: 0, listing };
        let job = self.jobs.entry(recipient).or_insert_with(|| Job { shown: new.clone(), changed: now });
        // A job begins while its listing is pending, or if there is none; the end of the listing adds to it.
        if job.shown.left() == 0 && matches!(listing, Listing::Pending | Listing::NotPossible) {
            job.shown = new;
        }
        (job.shown.listing, job.changed) = (listing, now);
        for id in message_ids {
            let key = (recipient, id.clone());
            if (job.shown.total as usize) < REDACTION_MESSAGES_MAX && !self.messages.contains_key(&key) {
                self.messages.insert(key, now);
                job.shown.total += 1;
            }
        }
        RedactionsAdded::Added
    }

    pub(super) fn take(&mut self, count_max: u32, now: UnixMillis) -> Vec<Redaction> {
        if self.next_at > now {
            return Vec::new();
        }
        let mut due: Vec<_> = self.messages.iter_mut().filter(|(_, at)| **at <= now).collect();
        due.sort_by_key(|(_, at)| **at);
        let mut taken = Vec::new();
        for ((recipient, message_id), at) in due.into_iter().take(count_max as usize) {
            *at = now.plus(REDACTION_LEASE);
            taken.push(Redaction { recipient: *recipient, message_id: message_id.clone() });
        }
        if !taken.is_empty() {
            self.next_at = now.plus(REDACTIONS_TAKEN_EVERY);
        }
        taken
    }

    pub(super) fn end(&mut self, redaction: &Redaction, end: RedactionEnd, now: UnixMillis) {
        let key = (redaction.recipient, redaction.message_id.clone());
        let job = self.jobs.get_mut(&redaction.recipient);
        if let (RedactionEnd::Later(wait), Some(job)) = (end, &job)
            && job.shown.begun.plus(REDACTION_TRIED_FOR) > now
        {
            self.messages.entry(key).and_modify(|at| *at = now.plus(wait));
        } else if self.messages.remove(&key).is_some()
            && let Some(job) = job
        {
            match end {
                RedactionEnd::Done => job.shown.done += 1,
                RedactionEnd::NotFound => job.shown.not_found += 1,
                RedactionEnd::Later(_) => job.shown.failed += 1,
            }
            job.changed = now;
        }
    }

    pub(super) fn list(&self, now: UnixMillis) -> Vec<RedactionJob> {
        let kept = self.jobs.values().filter(|job| job.changed.plus(REDACTION_JOB_KEPT) > now);
        let mut jobs: Vec<RedactionJob> = kept.map(|job| job.shown.clone()).collect();
        jobs.sort_by_key(|job| (Reverse(job.begun), job.recipient));
        jobs
    }
}
