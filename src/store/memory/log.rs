//! Logs of events, from which the sliding windows of the limits are counted.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{self, EventLog, Quota};
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;

/// A log, and the digest whose events it holds.
pub(super) type LogKey = (EventLog, Digest16);

#[derive(Default)]
pub(super) struct Logs(HashMap<LogKey, Vec<Event>>);

struct Event {
    source: Source,
    at: UnixMillis,
}

/// The request or check that an event came from. It counts once in each log.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    Request(Digest16, RequestId),
    Check(u64),
}

impl Logs {
    pub(super) fn wait(&self, key: LogKey, quota: Quota, now: UnixMillis) -> Duration {
        limit::wait(quota, &self.times(key), now)
    }

    pub(super) fn used(&self, key: LogKey, window: Duration, now: UnixMillis) -> u32 {
        limit::used(window, &self.times(key), now)
    }

    pub(super) fn last(&self, key: LogKey) -> Option<UnixMillis> {
        self.events(key).map(|event| event.at).max()
    }

    pub(super) fn contains(&self, key: LogKey, source: &Source) -> bool {
        self.events(key).any(|event| event.source == *source)
    }

    /// Adds an event, and drops those that have left the window.
    pub(super) fn append(&mut self, key: LogKey, source: Source, window: Duration, now: UnixMillis) {
        let log = self.0.entry(key).or_default();
        log.retain(|old| old.at.plus(window) > now && old.source != source);
        log.push(Event { source, at: now });
    }

    pub(super) fn remove(&mut self, key: LogKey, source: &Source) {
        if let Some(log) = self.0.get_mut(&key) {
            log.retain(|event| event.source != *source);
        }
    }

    pub(super) fn requests(&self, key: LogKey) -> impl Iterator<Item = (&RequestId, UnixMillis)> {
        self.events(key).filter_map(|event| match &event.source {
            Source::Request(_, request) => Some((request, event.at)),
            Source::Check(_) => None,
        })
    }

    pub(super) fn sweep(&mut self, kept: Duration, now: UnixMillis) {
        self.0.retain(|_, log| log.last().is_some_and(|newest| newest.at.plus(kept) > now));
    }

    fn events(&self, key: LogKey) -> impl Iterator<Item = &Event> {
        self.0.get(&key).into_iter().flatten()
    }

    fn times(&self, key: LogKey) -> Vec<UnixMillis> {
        let mut times: Vec<_> = self.events(key).map(|event| event.at).collect();
        times.sort_unstable();
        times
    }
}
