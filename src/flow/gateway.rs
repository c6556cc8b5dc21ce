//! The parts and the policy of one channel. The steps are the `impl ChannelGateway` blocks of the other files here.

use std::sync::Arc;
use std::time::Duration;

use super::channel_gate::ChannelGate;
use super::conversion::ConversionCounter;
use super::defence::Defence;
use super::price_samples::PriceSamples;
use super::providers::Providers;
use super::reply::Replies;
use super::spend_policy::SpendPolicy;
use super::worker_activity::WorkerActivity;
use crate::broker::{Names, Publisher};
use crate::clock::Clock;
use crate::domain::channel::Channel;
use crate::domain::code::{CodeKeyring, CodeLength};
use crate::domain::failover::DoubtFailover;
use crate::domain::limit::Limits;
use crate::domain::message_match::InDoubtPolicy;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::recipient_rules::RecipientRules;
use crate::domain::retry::RetryPolicy;
use crate::domain::test_number::TestNumbers;
use crate::store::Store;
use crate::text::Texts;

/// All handlers of a channel share it. Each channel has its own, so that neither waits for the other's provider.
pub struct ChannelGateway {
    pub channel: Channel,
    pub store: Arc<dyn Store>,
    pub providers: Providers,
    /// It publishes results and dead letters.
    pub publisher: Arc<dyn Publisher>,
    pub gate: Arc<ChannelGate>,
    pub activity: Arc<WorkerActivity>,
    pub conversion: Arc<ConversionCounter>,
    pub samples: PriceSamples,
    pub defence: Arc<Defence>,
    pub replies: Replies,
    pub texts: Texts,
    pub code_keyring: Arc<CodeKeyring>,
    pub recipient_keyring: Arc<RecipientKeyring>,
    pub rules: RecipientRules,
    pub policy: Policy,
    pub test_numbers: Arc<TestNumbers>,
    pub names: Names,
    pub clock: Clock,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub limits: Limits,
    /// A code can be verified for this long after the admission that starts its challenge.
    pub code_life: Duration,
    pub code_length: CodeLength,
    pub caller_codes_allowed: bool,
    pub retry: RetryPolicy,
    pub provider_timeout: Duration,
    pub in_doubt_policy: InDoubtPolicy,
    /// After this time without an answer to its lookups an attempt in doubt may go to the next provider; `None`: never.
    pub doubt_failover_after: Option<Duration>,
    /// Queues that may get replies: names, or prefixes that end in `*`.
    pub reply_to_allowed: Vec<String>,
    pub spend: SpendPolicy,
}

/// Adapters enforce `provider_timeout`. A call that takes this much longer is cancelled here.
const PROVIDER_TIMEOUT_SLACK: Duration = Duration::from_secs(2);
/// The slack of the call, and the time to record the provider's answer.
const LEASE_SLACK: Duration = Duration::from_secs(5);

impl Policy {
    pub(super) fn doubt_failover(&self) -> DoubtFailover {
        DoubtFailover { after: self.doubt_failover_after, policy: self.in_doubt_policy }
    }

    pub(super) fn provider_call_max(&self) -> Duration {
        self.provider_timeout + PROVIDER_TIMEOUT_SLACK
    }

    /// The duration of a lease for one attempt.
    pub(super) fn lease_duration(&self) -> Duration {
        self.provider_timeout + LEASE_SLACK
    }
}
