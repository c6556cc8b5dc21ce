//! Counts the panics of a request's handlers.

use super::RedisStore;
use super::library::Step;
use super::pack::Packer;
use super::replies;
use super::step_call::About;
use crate::domain::time::millis;
use crate::store::retention::OUTCOME_KEPT;
use crate::store::{PanicCount, PanicInput, StoreError};

impl RedisStore {
    pub(super) async fn count_panic_of_request(
        &self,
        input: &PanicInput<'_>,
    ) -> Result<PanicCount, StoreError> {
        let [recipient, request] = self.keys.of_lease(&input.lease);
        let panics = self.keys.panics(input.lease.request_id, &input.lease.subject.recipient);
        let call = self
            .call(Step::CountPanic, &[recipient, request, panics])
            .about(About::of(input.lease.request_id))
            .arg(self.settings().pack())
            .arg(
                Packer::new()
                    .bytes(&input.lease.token.to_be_bytes())
                    .flag(input.may_have_sent)
                    .u16(input.panics_max)
                    .millis32(millis(OUTCOME_KEPT))
                    .done(),
            );
        self.run("count_panic", &call, replies::panic_count).await
    }
}
