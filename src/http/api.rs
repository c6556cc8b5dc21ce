//! The state that all handlers of the public API share.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::audited_readers::AuditedReaders;
use super::auth::Tokens;
use super::pending_limiter::PendingLimiter;
use super::problem::Problem;
use super::proof::ProofSigner;
use crate::broker::RpcClient;
use crate::broker::audit::AuditStreamSource;
use crate::clock::Clock;
use crate::domain::defence::DefenceMode;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Limits;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::recipient_rules::RecipientRules;
use crate::domain::request_id::RequestId;
use crate::flow::inspect::spend::SpendView;
use crate::flow::inspect::status::Inspector;
use crate::flow::limit_counter::LimitCounter;
use crate::flow::operate::dead_letters::desk::DeadLetterDesk;
use crate::flow::verify::Verifier;
use crate::store::{RequestRecord, Store, StoreError};
use crate::telemetry::events;

/// Batches of numbers that are validated at once. Validation uses the processor, not the network.
pub const VALIDATIONS_MAX: usize = 1;
/// Readings of the audit stream at once: each has a connection.
const AUDIT_READINGS_MAX: usize = 2;
/// People whose messages are listed at the provider at once.
const LISTINGS_MAX: usize = 4;

pub struct Api {
    pub tokens: Tokens,
    pub verifier: Verifier,
    /// `None`: no proof is made.
    pub proofs: Option<ProofSigner>,
    pub rpc_client: Arc<dyn RpcClient>,
    /// The longest wait for the result of a send request.
    pub send_wait: Duration,
    pub pending: PendingLimiter,
    /// Requests that this process refused.
    pub limit_counter: Arc<LimitCounter>,
    pub store: Arc<dyn Store>,
    pub recipient_keyring: Arc<RecipientKeyring>,
    pub rules: RecipientRules,
    pub limits: Limits,
    pub code_length: usize,
    /// A code that is not verified within it counts as unverified.
    pub code_life: Duration,
    pub spend: SpendView,
    pub defence_mode: DefenceMode,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    pub clock: Clock,
    pub inspector: Inspector,
    /// Permits for [`VALIDATIONS_MAX`] batches.
    pub validations: Arc<Semaphore>,
    /// `None`: the operators' console is off.
    pub console: Option<Console>,
}

/// The parts of the endpoints that only the operators' console has.
pub struct Console {
    pub dead_letters: DeadLetterDesk,
    /// Readers whose reading of the overview is in the audit log.
    pub(super) readers: AuditedReaders,
    /// Permits for [`LISTINGS_MAX`] listings of a person's messages.
    pub(super) listings: Arc<Semaphore>,
    /// `None`: there is no stream, and acts that are published are not shown.
    pub(super) audit: Option<Arc<dyn AuditStreamSource>>,
    /// Permits for [`AUDIT_READINGS_MAX`] readings of the audit stream.
    pub(super) audit_readings: Arc<Semaphore>,
    /// As [`DefenceMode`], of this process's settings.
    pub(super) defence_budget_percent: u32,
}

impl Console {
    pub fn new(
        dead_letters: DeadLetterDesk,
        audit: Option<Arc<dyn AuditStreamSource>>,
        defence_budget_percent: u32,
    ) -> Console {
        Console {
            dead_letters,
            readers: AuditedReaders::default(),
            listings: Arc::new(Semaphore::new(LISTINGS_MAX)),
            audit,
            audit_readings: Arc::new(Semaphore::new(AUDIT_READINGS_MAX)),
            defence_budget_percent,
        }
    }
}

impl Api {
    /// For the endpoints that exist with the console only.
    pub(super) fn console(&self) -> &Console {
        self.console.as_ref().expect("its routes exist with the console only")
    }

    pub(super) async fn request_record(
        &self,
        request_id: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, Problem> {
        let record = self.store.request_record(request_id, recipient).await;
        // This label value is older than the glossary's word, record.
        record.map_err(|error| store_problem("story", &error))
    }
}

/// The problem for a store that gave no usable answer. `step` is a label value of the metric of store failures.
pub(super) fn store_problem(step: &'static str, error: &StoreError) -> Problem {
    events::store_failed(step, error, error.is_outage(), None);
    Problem::store_failed(error)
}
