//! The steps of delivery receipts.

use super::keys::request_bytes;
use super::library::Step;
use super::pack::Packer;
use super::settings::{country_of, pack_suppression};
use super::step_call::About;
use super::{RedisStore, replies};
use crate::domain::suppression::NewSuppression;
use crate::store::{NewReceipt, OverdueReceipt, ReceiptAnswer, StoreError};

impl RedisStore {
    pub(super) async fn write_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        let suppression = receipt.suppression.filter(NewSuppression::lasts);
        let mut keys = vec![
            self.keys.recipient(&receipt.recipient),
            self.keys.request(receipt.request_id, &receipt.recipient),
        ];
        if self.keys.are_sharded() {
            self.suppress_country_by_receipt(receipt, suppression.as_ref(), &keys).await?;
        } else {
            keys.push(self.keys.country(country_of(suppression.as_ref())));
        }
        let status = receipt.status;
        let call = self
            .call(Step::RecordReceipt, &keys)
            .about(About::of(receipt.request_id))
            .arg(self.settings().pack())
            .arg(
                Packer::new()
                    .u8(status.rank())
                    .u8(status.index())
                    .flag(status.is_final())
                    .flag(receipt.published)
                    .u32(receipt.provider_code.unwrap_or(0))
                    .done(),
            )
            .arg(receipt.stored_message_id())
            .arg(pack_suppression(suppression.as_ref()));
        self.run("record_receipt", &call, replies::receipt_answer).await
    }

    /// Ends the wait for the last receipt of a request.
    pub(super) async fn forget_due(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        let entry = Packer::new().u48(lapsed.completed_at.0).digest(&lapsed.recipient);
        let call = self
            .call(Step::EndReceiptWait, &[self.keys.due_of(self.keys.shard_of(&lapsed.recipient))])
            .arg(self.settings().pack())
            .arg(entry.bytes(&request_bytes(&lapsed.request_id)).done());
        self.run("end_receipt_wait", &call, replies::receipt_wait_ended).await
    }
}
