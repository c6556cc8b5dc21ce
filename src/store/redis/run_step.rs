//! Runs the call of a step, and reads its answer.

use std::pin::pin;
use std::sync::MutexGuard;
use std::time::Instant;

use super::connection::Answer;
use super::step_call::Call;
use super::{RedisStore, keys, opening};
use crate::store::{Damaged, StoreError, StoreFault};
use crate::telemetry::events;
use crate::telemetry::trace::spans;

/// Measured when it is dropped: a caller that stops waiting got no answer.
struct Operation {
    step: &'static str,
    began: Instant,
    has_failed: bool,
}

impl Drop for Operation {
    fn drop(&mut self) {
        events::store_operation_ended(self.step, self.began.elapsed(), self.has_failed);
    }
}

impl RedisStore {
    pub(super) async fn run<T>(
        &self,
        step: &'static str,
        call: &Call<'_>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        self.faults.watch(pin!(self.run_unwatched(step, call, read))).await
    }

    pub(super) async fn run_unwatched<T>(
        &self,
        step: &'static str,
        call: &Call<'_>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        let mut operation = Operation { step, began: Instant::now(), has_failed: true };
        let answer = self.run_unmeasured(step, call, read).await;
        operation.has_failed = answer.is_err();
        answer
    }

    async fn run_unmeasured<T>(
        &self,
        step: &'static str,
        call: &Call<'_>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        // Rare calls are boxed, to keep the future of every step small.
        let old_data = match self.opening.opened() {
            Some(old_data) => old_data,
            None => Box::pin(self.open()).await?,
        };
        if old_data.may_exist()
            && let Some(move_old_data) = call.move_old_data(old_data.until)
        {
            let moved = Box::pin(self.answer(step, &move_old_data, opening::moved)).await?;
            self.opening.close_if_refused(moved).await?;
        }
        self.answer(step, call, read).await
    }

    pub(super) async fn answer<T>(
        &self,
        step: &'static str,
        call: &Call<'_>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        let mut span = spans::store_step(call.command(), step);
        let answered = self.link.run(call).await;
        if answered.is_err() {
            span.fail("unavailable");
        }
        drop(span);
        let answer = match answered? {
            // The scripts check what other steps read.
            Answer::Bytes(answer) => read(&answer).ok_or(Damaged::Request),
            Answer::KeyUnreadable(name) => Err(keys::damaged(&name)),
        };
        if let Err(Damaged::Shared(name)) = &answer
            && keys::is_country(name)
        {
            *self.damaged_country() = Some(name.clone());
        }
        answer.map_err(|damaged| self.unreadable(damaged, step))
    }

    /// All requests of one shard wait for what it shares, and no others.
    pub(super) fn unreadable(&self, damaged: Damaged, step: &'static str) -> StoreError {
        match damaged {
            Damaged::Shared(name) if self.keys.are_sharded() && keys::is_of_shard(&name) => {
                StoreError::Unavailable(StoreFault::ShardKey(name))
            }
            damaged => StoreError::Unreadable { damaged, step },
        }
    }

    pub(super) fn damaged_country(&self) -> MutexGuard<'_, Option<String>> {
        self.damaged_country.lock().expect("nothing panics while it holds the lock")
    }
}
