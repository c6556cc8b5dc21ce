//! The operator who acts, and the records of the acts.

use crate::clock::Clock;
use crate::domain::audit::{AuditAct, AuditActor, AuditRecord};
use crate::flow::random::random_id;

pub struct Acting {
    pub actor: AuditActor,
    pub clock: Clock,
}

impl Acting {
    /// The system user, or the API.
    pub fn user(&self) -> &str {
        match &self.actor {
            AuditActor::Command { user } => user,
            AuditActor::Http { .. } => "http",
        }
    }

    pub fn record(&self, act: AuditAct) -> AuditRecord {
        AuditRecord::new(act, self.actor.clone(), self.clock.now(), random_id())
    }
}
