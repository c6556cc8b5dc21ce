//! A store that fails.

use std::time::Duration;

use async_trait::async_trait;
use otpost::domain::audit::AuditRecord;
use otpost::domain::budget::{SpendBook, UtcOffset};
use otpost::domain::challenge::ChallengeId;
use otpost::domain::conversion::{Bucket, Dimension, StoredCounts};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::defence::{DefenceBatch, Scope};
use otpost::domain::defence_list::{DefenceList, DefenceState, NewOverride, OverrideTarget};
use otpost::domain::history::RequestHistory;
use otpost::domain::key_check::KeyCheck;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limits;
use otpost::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use otpost::domain::opt_status::{OptAnswer, OptMessage};
use otpost::domain::request_id::RequestId;
use otpost::domain::spend::{SpendGroup, StoredSpend};
use otpost::domain::suppression::{ManualSuppression, SuppressionEntry};
use otpost::domain::worker_state::{ReportedWorker, WorkerState};
use otpost::store::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use otpost::store::defence::{DefenceStore, OverrideChange};
use otpost::store::forget::{
    ForgetAnswer, ForgetStore, Listing, Redaction, RedactionEnd, RedactionJob, RedactionsAdded,
};
use otpost::store::{
    Admission, AdmissionInput, AuditOutbox, AuditStore, ClaimAnswer, ClaimInput, CompletionAnswer,
    CompletionInput, KillSwitch, Lease, LimitSubject, NewReceipt, OverdueReceipt, PanicCount, PanicInput,
    Progress, ProgressAnswer, ReceiptAnswer, RequestOfUser, RequestRecord, RequestSummary, SharedState,
    SpendStore, Store, StoreError, StoreFault, Usage,
};

/// A store whose every method fails in the same way.
pub struct Broken(pub Fails);

#[derive(Clone, Copy)]
pub enum Fails {
    WithAnError,
    ByPanicking,
    ByNeverAnswering,
}

impl Broken {
    async fn fail<T>(&self) -> Result<T, StoreError> {
        match self.0 {
            Fails::WithAnError => {
                let words = "redis://otpost:hunter2@10.9.8.7 timed out".to_owned();
                Err(StoreError::Unavailable(StoreFault::ConnectionFailed(words)))
            }
            Fails::ByPanicking => panic!("hunter2 at 10.9.8.7"),
            Fails::ByNeverAnswering => std::future::pending().await,
        }
    }
}

#[async_trait]
impl AuditStore for Broken {
    async fn record_act(&self, _: &AuditRecord) -> Result<(), StoreError> {
        self.fail().await
    }
    async fn set_kill_switch_recorded(
        &self,
        _: Option<&str>,
        _: &AuditRecord,
    ) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }
    async fn set_log_filter_recorded(
        &self,
        _: Option<&NewLogFilter<'_>>,
        _: &AuditRecord,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.fail().await
    }
    async fn add_suppression_recorded(
        &self,
        _: Digest16,
        _: &ManualSuppression<'_>,
        _: &AuditRecord,
    ) -> Result<SuppressionEntry, StoreError> {
        self.fail().await
    }
    async fn remove_suppression_recorded(
        &self,
        _: Digest16,
        _: &AuditRecord,
    ) -> Result<Option<SuppressionEntry>, StoreError> {
        self.fail().await
    }
    async fn set_defence_override_recorded(
        &self,
        _: &OverrideTarget,
        _: Option<&NewOverride<'_>>,
        _: &AuditRecord,
    ) -> Result<OverrideChange, StoreError> {
        self.fail().await
    }
    fn outboxes(&self) -> usize {
        1
    }
    async fn read_outbox(&self, _: usize, _: bool, _: u16) -> Result<AuditOutbox, StoreError> {
        self.fail().await
    }
    async fn remove_from_outbox(&self, _: usize, _: &[String]) -> Result<(), StoreError> {
        self.fail().await
    }
    async fn holds_record(&self, _: usize, _: &str) -> Result<bool, StoreError> {
        self.fail().await
    }
    async fn remove_unreadable(&self, _: usize, _: &[Vec<u8>]) -> Result<(), StoreError> {
        self.fail().await
    }
    async fn lease_publishing(&self, _: u64) -> Result<bool, StoreError> {
        self.fail().await
    }
}

#[async_trait]
impl ForgetStore for Broken {
    async fn forget(&self, _: Digest16) -> Result<ForgetAnswer, StoreError> {
        self.fail().await
    }

    async fn add_redactions(
        &self,
        _: Digest16,
        _: &[String],
        _: Listing,
    ) -> Result<RedactionsAdded, StoreError> {
        self.fail().await
    }

    async fn take_redactions(&self, _: u32) -> Result<Vec<Redaction>, StoreError> {
        self.fail().await
    }

    async fn end_redaction(&self, _: &Redaction, _: RedactionEnd) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn redaction_jobs(&self) -> Result<Vec<RedactionJob>, StoreError> {
        self.fail().await
    }
}

#[async_trait]
impl SpendStore for Broken {
    async fn spend_book(&self, _: UtcOffset) -> Result<SpendBook, StoreError> {
        self.fail().await
    }

    async fn spend(&self, _: SpendGroup, _: &[Bucket]) -> Result<Vec<StoredSpend>, StoreError> {
        self.fail().await
    }
}

#[async_trait]
impl DefenceStore for Broken {
    async fn add_defence(&self, _: &DefenceBatch) -> Result<DefenceList, StoreError> {
        self.fail().await
    }
    async fn defence(&self, _: &[(u64, Scope)]) -> Result<DefenceState, StoreError> {
        self.fail().await
    }
    async fn set_defence_override(
        &self,
        _: &OverrideTarget,
        _: Option<&NewOverride<'_>>,
    ) -> Result<OverrideChange, StoreError> {
        self.fail().await
    }
    async fn note_verified(&self, _: &[Digest16]) -> Result<(), StoreError> {
        self.fail().await
    }
    async fn has_verified(&self, _: Digest16) -> Result<bool, StoreError> {
        self.fail().await
    }
    async fn forget_verified(&self, _: Digest16) -> Result<(), StoreError> {
        self.fail().await
    }
}

#[async_trait]
impl Store for Broken {
    async fn admit(&self, _: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        self.fail().await
    }

    async fn update_progress(
        &self,
        _: &Lease<'_>,
        _: Option<u32>,
        _: Progress,
        _: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        self.fail().await
    }

    async fn count_panic(&self, _: &PanicInput<'_>) -> Result<PanicCount, StoreError> {
        self.fail().await
    }

    async fn claim_message(&self, _: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        self.fail().await
    }

    async fn complete(&self, _: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        self.fail().await
    }

    async fn verify(&self, _: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError> {
        self.fail().await
    }

    async fn begin_provider_check(&self, _: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        self.fail().await
    }

    async fn finish_provider_check(
        &self,
        _: &CodeCheck<'_>,
        _: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError> {
        self.fail().await
    }

    async fn reopen_challenge(&self, _: &CodeCheck<'_>) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn link_verification(
        &self,
        _: &LimitSubject<'_>,
        _: &ChallengeId,
        _: &str,
    ) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn usage(
        &self,
        _: &LimitSubject<'_>,
        _: Option<&RequestId>,
        _: &Limits,
    ) -> Result<Usage, StoreError> {
        self.fail().await
    }

    async fn bind_idempotency_key(
        &self,
        _: Digest16,
        _: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        self.fail().await
    }

    async fn record_receipt(&self, _: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        self.fail().await
    }

    async fn overdue_receipts(&self, _: Duration, _: u32) -> Result<Vec<OverdueReceipt>, StoreError> {
        self.fail().await
    }

    async fn end_receipt_wait(&self, _: &OverdueReceipt) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn check_keys(&self, _: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError> {
        self.fail().await
    }

    async fn accept_keys(&self, _: &[KeyCheck]) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        self.fail().await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.fail().await
    }
    async fn check_shared_data(&self) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn heartbeat(&self, _: u64, _: bool) -> Result<SharedState, StoreError> {
        self.fail().await
    }

    async fn report_worker(&self, _: u64, _: Option<&WorkerState>) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        self.fail().await
    }

    async fn add_conversion(&self, _: &ConversionBatch) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn conversion(&self, _: Dimension, _: &[Bucket]) -> Result<Vec<StoredCounts>, StoreError> {
        self.fail().await
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }

    async fn set_kill_switch(&self, _: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }

    async fn log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.fail().await
    }

    async fn set_log_filter(
        &self,
        _: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.fail().await
    }

    async fn request_record(
        &self,
        _: &RequestId,
        _: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.fail().await
    }

    async fn requests_of_user(&self, _: Digest16, _: usize) -> Result<Vec<RequestOfUser>, StoreError> {
        self.fail().await
    }

    async fn recent_requests(&self, _: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        self.fail().await
    }

    async fn suppressions(&self, _: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        self.fail().await
    }

    async fn add_suppression(
        &self,
        _: Digest16,
        _: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        self.fail().await
    }

    async fn remove_suppression(&self, _: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.fail().await
    }

    async fn record_opt_status(&self, _: Digest16, _: &OptMessage<'_>) -> Result<OptAnswer, StoreError> {
        self.fail().await
    }

    async fn may_have_lost_writes(&self, _: &Digest16) -> bool {
        true
    }
}
