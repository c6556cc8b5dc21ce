//! Steps about all recipients, with more than one shard: one round of calls, one to each shard.

use std::cmp::Reverse;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::RedisStore;
use super::keys::{Key, Keys};
use super::library::Step;
use super::replies;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::SuppressionEntry;
use crate::store::{OverdueReceipt, RequestRecord, RequestState, StoreError, StoreFault};

impl RedisStore {
    /// Asks every shard how many messages are due, then takes some of them, beginning anywhere: no shard waits for ever. A node that
    /// does not answer does not stop the others.
    pub(super) async fn overdue_in_shards(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        let first = fastrand::usize(..self.keys.shards());
        let shards: Vec<usize> = (first..self.keys.shards()).chain(0..first).collect();
        let counted = join_all(shards.iter().map(|shard| self.count_due(self.keys.due_of(*shard)))).await;
        let (mut left, mut taken, mut failure) = (count_max, Vec::new(), None);
        for (shard, due) in shards.into_iter().zip(counted) {
            match due {
                Ok(due) if due.min(left) > 0 => {
                    taken.push(self.take_overdue(self.keys.due_of(shard), wait_max, due.min(left)));
                    left -= due.min(left);
                }
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        let mut overdue = Vec::new();
        for answer in join_all(taken).await {
            match answer {
                Ok(messages) => overdue.extend(messages),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if overdue.is_empty() => Err(error),
            _ => Ok(overdue),
        }
    }

    async fn count_due(&self, due: Key) -> Result<u32, StoreError> {
        let call = self.call(Step::CountDue, &[due]).arg(self.settings().pack());
        self.run("overdue_receipts", &call, |answer| str::from_utf8(answer).ok()?.parse().ok()).await
    }

    /// Those of each shard, in the order of [`crate::store::Store::suppressions`]: of one end, by the recipient downward.
    pub(super) async fn suppressions_in_shards(
        &self,
        count_max: u32,
    ) -> Result<Vec<SuppressionEntry>, StoreError> {
        let shards = (0..self.keys.shards()).rev();
        let lists =
            try_join_all(shards.map(|shard| self.list_suppressed(self.keys.suppressed_of(shard), count_max)))
                .await?;
        let mut all: Vec<_> = lists.into_iter().flatten().collect();
        all.sort_by_key(|entry| Reverse(entry.until.map_or(u64::MAX, |until| until.0)));
        all.truncate(usize::try_from(count_max).unwrap_or(usize::MAX));
        Ok(all)
    }

    /// The record of a request whose recipient is not known. If recipients of several shards have used its id: one in progress,
    /// else the one that was completed last.
    pub(super) async fn record_in_shards(
        &self,
        request_id: &RequestId,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let keys = self.keys.request_in_shards(request_id);
        let records = keys.into_iter().map(|key| self.read_record(vec![key], request_id, None));
        let records = try_join_all(records).await?;
        let newest = |record: &RequestRecord| match &record.state {
            RequestState::InProgress { .. } => u64::MAX,
            RequestState::Completed(outcome) => outcome.at.0,
        };
        Ok(records.into_iter().flatten().max_by_key(newest))
    }

    pub(super) async fn check_shards(&self) -> Result<(), StoreError> {
        let shards = self.keys.shards();
        let answers = join_all((0..shards).map(|shard| self.check_shard(shard))).await;
        let mut faults = Vec::new();
        for error in answers.into_iter().filter_map(Result::err) {
            match error {
                StoreError::Unavailable(StoreFault::ShardKey(_)) | StoreError::Unreadable { .. } => {
                    return Err(error);
                }
                StoreError::Unavailable(fault) => faults.push(fault),
            }
        }
        let silent = faults.len();
        match faults.pop() {
            None => self.faults.watch(pin!(self.read_countries())).await,
            Some(cause) if silent == shards => Err(StoreError::Unavailable(cause)),
            Some(cause) => {
                let cause = Box::new(cause);
                Err(StoreError::Unavailable(StoreFault::ShardsSilent { silent, of: shards, cause }))
            }
        }
    }

    async fn check_shard(&self, shard: usize) -> Result<(), StoreError> {
        let keys = [self.keys.due_of(shard), self.keys.suppressed_of(shard)];
        let call = self.call(Step::CheckShardData, &keys).arg(self.settings().pack());
        self.run("check_shared_data", &call, replies::shared_data_readable).await
    }
}

impl Keys {
    /// The plain key of a request in every shard.
    pub(super) fn request_in_shards(&self, request_id: &RequestId) -> Vec<Key> {
        (0..self.shards()).map(|shard| self.request_of(request_id, shard)).collect()
    }
}
