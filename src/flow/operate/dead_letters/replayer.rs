//! The parts of a replay that do not depend on the dead letter.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::broker::Names;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::limit::Limits;
use crate::domain::phone::Region;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::request::SendRequest;
use crate::store::{LimitSubject, Store};

/// A later answer of the store counts as none.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

pub struct Replayer {
    pub names: Names,
    /// `None` without the key: then only messages in clear can be replayed.
    pub recipients: Option<Arc<RecipientKeyring>>,
    pub code_life: Duration,
    pub clock: Clock,
    /// `None` without the store.
    pub cooldowns: Option<Cooldowns>,
}

/// Knows whether a recipient is cooling down: workers would reject a replay to it, and its dead letter would be gone.
pub struct Cooldowns {
    pub store: Arc<dyn Store>,
    pub limits: Limits,
    pub region: Region,
}

impl Replayer {
    /// Zero if it is not known, too: then the worker decides.
    pub(super) async fn cooldown_left(&self, channel: Channel, body: &[u8]) -> Duration {
        let (Some(cooldowns), Some(recipients)) = (&self.cooldowns, &self.recipients) else {
            return Duration::ZERO;
        };
        let Ok(request) = SendRequest::decode(body, None) else { return Duration::ZERO };
        let Ok(to) = Address::parse_for(channel, &request.to, cooldowns.region) else {
            return Duration::ZERO;
        };
        let recipient = recipients.address(channel, to.as_str());
        let purpose = request.purpose.as_str();
        let subject = LimitSubject { recipient, purpose, user: None, ip: None, network: None };
        let limits = cooldowns.limits.on(channel);
        let usage = timeout(STORE_TIMEOUT, cooldowns.store.usage(&subject, None, &limits)).await;
        usage.ok().and_then(Result::ok).map_or(Duration::ZERO, |usage| usage.cooldown_left)
    }
}
