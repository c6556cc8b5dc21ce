//! The calls about places under the cap over all sends.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::RedisStore;
use super::keys::request_bytes;
use super::library::Step;
use super::pack::{Packer, Unpacker};
use super::places::{LeaseAnswer, LeaseCall, Place, Places, Taken, VALID_FOR};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Quota;
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, millis};
use crate::store::{StoreError, StoreFault};

impl RedisStore {
    /// Takes a place under the cap. Only the call that uses a block to the half, or finds none, waits for Redis.
    #[doc(hidden)]
    pub async fn take_place(&self, quota: Quota) -> Result<Taken, StoreError> {
        let calls = self.held_places().calls();
        let taken = self.held_places().take(self.local_time());
        if let Some((place, is_half_used)) = taken {
            if is_half_used && let Ok(_leasing) = self.places.leasing.try_lock() {
                // The other half is left: without an answer, the handler that uses it up leases.
                let _: Result<(), StoreError> = self.lease_next_block(quota).await;
            }
            return Ok(Taken::Place(place));
        }
        let _leasing = self.places.leasing.lock().await;
        // One that waited before us has leased, or was refused by a call that began after we came.
        if let Some((place, _)) = self.held_places().take(self.local_time()) {
            return Ok(Taken::Place(place));
        }
        let refusal = self.held_places().refusal_after(calls);
        match refusal {
            Some(wait) => Ok(Taken::Refused(wait)),
            None => self.take_leased_place(quota).await,
        }
    }

    /// The place of an unanswered admission with this token, or another one.
    pub(super) async fn place_of(&self, token: u64, quota: Quota) -> Result<Taken, StoreError> {
        let kept = self.held_places().take_kept(token, self.local_time());
        match kept {
            Some(place) => Ok(Taken::Place(place)),
            None => self.take_place(quota).await,
        }
    }

    pub(super) fn keep_place(&self, token: u64, place: Place) {
        self.held_places().keep(token, place, self.local_time());
    }

    async fn lease_next_block(&self, quota: Quota) -> Result<(), StoreError> {
        let (call, answer) = self.lease_places(quota).await?;
        self.held_places().answered(&call, &answer);
        Ok(())
    }

    async fn take_leased_place(&self, quota: Quota) -> Result<Taken, StoreError> {
        let (call, answer) = self.lease_places(quota).await?;
        let mut places = self.held_places();
        places.answered(&call, &answer);
        match (answer, places.take(self.local_time())) {
            (LeaseAnswer::Refused(wait), None) => Ok(Taken::Refused(wait)),
            (_, Some((place, _))) => Ok(Taken::Place(place)),
            (_, None) => Err(StoreError::Unavailable(StoreFault::NoAnswer)),
        }
    }

    /// Gives back a place that was not used: the request was rejected, or has a record already.
    #[doc(hidden)]
    #[expect(clippy::needless_pass_by_value, reason = "a place is put back only once")]
    pub fn put_back_place(&self, place: Place) {
        self.held_places().put_back(&place);
    }

    /// Refunds the place of a request that has sent nothing; `until` is the end of the place. A repeated call changes nothing.
    #[doc(hidden)]
    pub async fn refund_place(
        &self,
        request_id: &RequestId,
        recipient: &Digest16,
        until: UnixMillis,
        quota: Quota,
    ) -> Result<(), StoreError> {
        let member = Packer::new().bytes(&request_bytes(request_id)).digest(recipient).done();
        let call = self
            .call(Step::RefundPlace, &[self.keys.blocks(), self.keys.refunded_places()])
            .arg(self.settings().pack())
            .arg(Packer::new().u48(until.0).u48(millis(quota.window)).done())
            .arg(member);
        self.run("refund_place", &call, |answer| (answer == b"r").then_some(())).await
    }

    /// The time until a place is free. The places that workers hold count as used.
    #[doc(hidden)]
    pub async fn place_free_in(&self, quota: Quota) -> Result<Duration, StoreError> {
        let call = self
            .call(Step::FreePlaces, &[self.keys.blocks()])
            .arg(self.settings().pack())
            .arg(Packer::new().u32(quota.count).u48(millis(quota.window)).done());
        self.run("free_places", &call, |answer| Unpacker::new(answer).u48().map(Duration::from_millis)).await
    }

    /// Another server may not know of the blocks that the last one leased.
    pub(super) fn end_blocks_of_lost_server(&self) {
        self.held_places().end_all(self.local_time());
    }

    /// Gives back the unused places of blocks that have ended, if no lease will.
    pub(super) async fn return_idle_places(&self) {
        let Ok(_leasing) = self.places.leasing.try_lock() else { return };
        let call = self.held_places().begin_return(self.local_time());
        if let Some(call) = call {
            // The next heartbeat repeats it.
            let _: Result<(), StoreError> = self.return_places(&call).await;
        }
    }

    /// Gives back all places, as the process ends.
    pub(super) async fn return_all_places(&self) -> Result<(), StoreError> {
        let _leasing = self.places.leasing.lock().await;
        self.held_places().end_all(self.local_time());
        let call = self.held_places().begin_return(self.local_time());
        match call {
            Some(call) => self.return_places(&call).await,
            None => Ok(()),
        }
    }

    async fn return_places(&self, call: &LeaseCall) -> Result<(), StoreError> {
        let answer = self.call_for_places(call).await?;
        self.held_places().answered(call, &answer);
        Ok(())
    }

    /// The caller holds `leasing`.
    async fn lease_places(&self, quota: Quota) -> Result<(LeaseCall, LeaseAnswer), StoreError> {
        let mut new_id = [0; 8];
        getrandom::fill(&mut new_id).expect("the operating system gives random bytes");
        let call = self.held_places().begin_lease(quota, new_id, self.local_time());
        let answer = self.call_for_places(&call).await?;
        Ok((call, answer))
    }

    async fn call_for_places(&self, call: &LeaseCall) -> Result<LeaseAnswer, StoreError> {
        let lease = Packer::new()
            .bytes(&call.id)
            .u32(call.wanted)
            .millis32(millis(VALID_FOR))
            .u32(call.quota.count)
            .u48(millis(call.quota.window));
        let lease = call.returned.iter().fold(lease, |lease, (id, used)| lease.bytes(id).u32(*used));
        let call =
            self.call(Step::LeasePlaces, &[self.keys.blocks()]).arg(self.settings().pack()).arg(lease.done());
        self.run("lease_places", &call, lease_answer).await
    }

    fn held_places(&self) -> MutexGuard<'_, Places> {
        self.places.places.lock().expect("nothing panics while it holds the lock")
    }

    /// This process's own clock; in a test with a time of its own, that time.
    fn local_time(&self) -> Duration {
        match self.time.load(Ordering::Relaxed) {
            0 => self.places.opened.elapsed(),
            time => Duration::from_millis(time),
        }
    }
}

fn lease_answer(answer: &[u8]) -> Option<LeaseAnswer> {
    let (letter, rest) = answer.split_first()?;
    let mut words = Unpacker::new(rest);
    match letter {
        b'g' => Some(LeaseAnswer::Leased { count: words.u32()?, until: words.time()? }),
        b'w' => words.u48().map(Duration::from_millis).map(LeaseAnswer::Refused),
        b'r' => Some(LeaseAnswer::Returned),
        _ => None,
    }
}
