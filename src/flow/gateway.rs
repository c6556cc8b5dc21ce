//! The parts and the policy of one channel's flow. Its steps are the `impl ChannelGateway` blocks of the other files
//! here.

use std::sync::Arc;
use std::time::Duration;

use super::reply::Replies;
use super::send_gate::SendGate;
use crate::broker::{Names, Publisher};
use crate::clock::Clock;
use crate::domain::channel::Channel;
use crate::domain::code::{CodeKeyring, CodeLength};
use crate::domain::limit::Limits;
use crate::domain::message_match::InDoubtPolicy;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::recipient_rules::RecipientRules;
use crate::domain::retry::RetryPolicy;
use crate::provider::Provider;
use crate::store::Store;
use crate::text::Texts;

/// Sends the codes of one channel. The handlers of its channel share it.
pub struct ChannelGateway {
    /// Each channel has its own gateway, so that no channel waits for the other's provider.
    pub channel: Channel,
    pub store: Arc<dyn Store>,
    pub provider: Arc<dyn Provider>,
    /// Publishes results and dead letters.
    pub publisher: Arc<dyn Publisher>,
    pub gate: SendGate,
    pub replies: Replies,
    pub texts: Texts,
    pub codes: Arc<CodeKeyring>,
    pub recipient_keyring: Arc<RecipientKeyring>,
    pub rules: RecipientRules,
    pub policy: Policy,
    pub names: Names,
    pub clock: Clock,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub limits: Limits,
    /// From the admission that starts a challenge to the expiry of its code.
    pub code_life: Duration,
    pub code_length: CodeLength,
    /// Callers may choose codes, of at least `code_length` digits.
    pub caller_codes_allowed: bool,
    pub retry: RetryPolicy,
    pub provider_timeout: Duration,
    pub in_doubt_policy: InDoubtPolicy,
    /// An attempt in doubt waits this long for a receipt, if the provider sends receipts but lists no messages.
    pub in_doubt_receipt_wait: Duration,
    /// A final receipt that is missing for this long is polled; `None` if receipts are never polled.
    pub poll_receipt_after: Option<Duration>,
    /// Reply queues that may be used: names, or prefixes that end in `*`.
    pub reply_to_allowed: Vec<String>,
}

/// Adapters enforce `provider_timeout`. A call that takes this much longer is cancelled here.
const PROVIDER_TIMEOUT_SLACK: Duration = Duration::from_secs(2);
/// The slack of the call, and the time to record the provider's answer.
const LEASE_SLACK: Duration = Duration::from_secs(5);

impl Policy {
    pub(super) fn provider_call_max(&self) -> Duration {
        self.provider_timeout + PROVIDER_TIMEOUT_SLACK
    }

    /// The duration of a lease for one attempt: one call of the provider, and time to record its answer.
    pub(super) fn lease_duration(&self) -> Duration {
        self.provider_timeout + LEASE_SLACK
    }
}
