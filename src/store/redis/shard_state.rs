//! State of a process about shards: the countries and servers that its last calls have named, and the parts that they have written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::keys::Keys;
use crate::domain::keyed_digest::Digest16;

/// Parts of verified recipients and users.
const VERIFIED_PARTS: usize = 1 << 16;
const BEGINS_ANEW_EVERY: Duration = Duration::from_secs(12 * 3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountrySuppression {
    pub(super) provider_code: u32,
    /// By the server's clock; `NO_END`: without end.
    pub(super) until: u64,
}

/// `None`: not read yet.
#[derive(Default)]
pub(super) struct Countries(Mutex<Option<HashMap<String, CountrySuppression>>>);

impl Countries {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<HashMap<String, CountrySuppression>>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

/// The last answers of the shards' servers.
pub(super) struct ShardServers {
    shards: Mutex<Vec<ShardServer>>,
    turn: Mutex<Turn>,
}

/// The checks go round: each heartbeat makes those that are due by the time since the last one.
struct Turn {
    next: usize,
    due_since: Instant,
}

/// A round over all shards, however seldom the process makes a heartbeat.
const ROUND: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
pub(super) struct ShardServer {
    /// As this process has seen it.
    pub(super) run_id: Option<String>,
    /// Checks in a row without an answer.
    pub(super) unanswered: u32,
}

/// One late answer is no silence.
const SILENT_AFTER: u32 = 2;

impl ShardServers {
    pub(super) fn new(shards: usize) -> ShardServers {
        let shards = vec![ShardServer::default(); shards];
        let turn = Turn { next: 0, due_since: Instant::now() };
        ShardServers { shards: Mutex::new(shards), turn: Mutex::new(turn) }
    }

    /// The shards to check now.
    pub(super) fn take_due(&self) -> Vec<usize> {
        let shards = self.lock().len();
        let each = ROUND / u32::try_from(shards).unwrap_or(u32::MAX);
        let mut turn = self.turn.lock().expect("nothing panics while it holds the lock");
        let waited = turn.due_since.elapsed();
        let count = usize::try_from(waited.as_nanos() / each.as_nanos()).unwrap_or(usize::MAX).min(shards);
        turn.due_since = match count == shards {
            true => Instant::now(),
            false => turn.due_since + each * u32::try_from(count).unwrap_or(u32::MAX),
        };
        let first = turn.next;
        turn.next = (first + count) % shards;
        (first..first + count).map(|shard| shard % shards).collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<ShardServer>> {
        self.shards.lock().expect("nothing panics while it holds the lock")
    }

    /// The number of shards whose server does not answer.
    pub(super) fn silent(&self) -> usize {
        self.lock().iter().filter(|server| server.unanswered >= SILENT_AFTER).count()
    }
}

/// The parts of verified recipients and users whose time to live has begun anew lately: it need not again at each write.
#[derive(Default)]
pub(super) struct VerifiedParts(Mutex<Option<(Instant, Vec<u64>)>>);

impl VerifiedParts {
    /// The part has been written lately, by this process.
    pub(super) fn is_lately(&self, digest: &Digest16) -> bool {
        let lately = self.0.lock().expect("nothing panics while it holds the lock");
        let (word, bit) = VerifiedParts::place(digest);
        lately
            .as_ref()
            .is_some_and(|(since, parts)| since.elapsed() < BEGINS_ANEW_EVERY && parts[word] & bit != 0)
    }

    pub(super) fn written<'a>(&self, digests: impl IntoIterator<Item = &'a Digest16>) {
        let mut lately = self.0.lock().expect("nothing panics while it holds the lock");
        lately.take_if(|(since, _)| since.elapsed() >= BEGINS_ANEW_EVERY);
        let (_, parts) = lately.get_or_insert_with(|| (Instant::now(), vec![0; VERIFIED_PARTS / 64]));
        for digest in digests {
            let (word, bit) = VerifiedParts::place(digest);
            parts[word] |= bit;
        }
    }

    fn place(digest: &Digest16) -> (usize, u64) {
        let part = Keys::verified_part(digest);
        (usize::from(part / 64), 1 << (part % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Heartbeats at an interval; answers the longest time for which a shard was not checked, and the number of checks.
    async fn beat(every: Duration, shards: usize) -> (Duration, usize) {
        let (servers, begun) = (ShardServers::new(shards), Instant::now());
        let mut checked: BTreeMap<usize, Instant> = (0..shards).map(|shard| (shard, begun)).collect();
        let (mut longest, mut count) = (Duration::ZERO, 0);
        while begun.elapsed() < 12 * ROUND {
            tokio::time::advance(every).await;
            for shard in servers.take_due() {
                let before = checked.insert(shard, Instant::now()).expect("a shard");
                longest = longest.max(before.elapsed());
                count += 1;
            }
        }
        let waiting = checked.values().map(Instant::elapsed).max().expect("shards");
        (longest.max(waiting), count)
    }

    /// Two checks without an answer are a silence, so it is known within 15 s.
    #[tokio::test(start_paused = true)]
    async fn each_shard_is_checked_every_few_seconds_by_an_api_and_by_a_worker() {
        for shards in [16, 256] {
            for every in [Duration::from_millis(250), Duration::from_secs(5)] {
                let (longest, count) = beat(every, shards).await;
                assert!(
                    longest <= ROUND + every.min(Duration::from_millis(250)),
                    "{shards}, {every:?}: {longest:?}"
                );
                assert!(count <= 12 * shards, "{shards}, {every:?}: {count} checks");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_makes_no_more_than_one_check_of_each_shard() {
        let servers = ShardServers::new(16);
        tokio::time::advance(100 * ROUND).await;
        let mut due = servers.take_due();
        due.sort_unstable();
        assert_eq!(due, (0..16).collect::<Vec<_>>());
        assert!(servers.take_due().is_empty());
    }
}
