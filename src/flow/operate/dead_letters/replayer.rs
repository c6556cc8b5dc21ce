//! The parts of a replay that do not depend on the dead letter.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Names;
use crate::clock::Clock;
use crate::domain::recipient_keyring::RecipientKeyring;

pub struct Replayer {
    pub names: Names,
    /// `None` without the key: then only messages in clear can be replayed.
    pub recipients: Option<Arc<RecipientKeyring>>,
    pub code_life: Duration,
    pub clock: Clock,
}
