//! Failovers, with more than one shard: each shard has the run id of its last server, as each may be on another node.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;

use super::RedisStore;
use super::library::Step;
use crate::domain::keyed_digest::Digest16;
use crate::domain::time::millis;
use crate::store::StoreError;
use crate::store::retention::LOST_WRITES_FOR;

/// A heartbeat does not wait longer for a node that does not answer.
const CHECK_MAX: Duration = Duration::from_millis(250);

impl RedisStore {
    /// Asks the shard of a recipient. One that does not answer may have lost writes.
    pub(super) async fn shard_may_have_lost_writes(&self, recipient: &Digest16) -> bool {
        let left = self.faults.watch(pin!(self.check_server(self.keys.shard_of(recipient)))).await;
        left.map_or(true, |left| !left.is_zero())
    }

    /// Checks the servers of the shards whose turn it is. Without an answer the shard's own steps fail, and its turn comes again.
    pub(super) async fn check_next_servers(&self) {
        let servers = &self.shard_servers;
        let check = async |shard: usize| {
            let answer = tokio::time::timeout(CHECK_MAX, self.check_server(shard)).await;
            let is_unanswered = matches!(answer, Err(_) | Ok(Err(StoreError::Unavailable(_))));
            let server = &mut servers.lock()[shard];
            server.unanswered = if is_unanswered { server.unanswered.saturating_add(1) } else { 0 };
        };
        join_all(servers.take_due().into_iter().map(check)).await;
    }

    /// For how long the server of a shard may still have lost writes.
    async fn check_server(&self, shard: usize) -> Result<Duration, StoreError> {
        let seen = self.shard_servers.lock()[shard].run_id.clone();
        let call = self
            .call(Step::CheckServer, &[self.keys.primary_of(shard)])
            .arg(self.settings().pack())
            .arg(seen.as_deref().unwrap_or("-"))
            .arg(millis(LOST_WRITES_FOR));
        let read = |answer: &[u8]| {
            let (left, run_id) = std::str::from_utf8(answer).ok()?.split_once(' ')?;
            Some((Duration::from_millis(left.parse().ok()?), run_id.to_owned()))
        };
        let (left, run_id) = self.run_unwatched("check_server", &call, read).await?;
        self.shard_servers.lock()[shard].run_id = Some(run_id);
        Ok(left)
    }
}
