//! The operator who acts, and the records of the acts.

use std::sync::{Mutex, MutexGuard};

use crate::clock::Clock;
use crate::domain::audit::{AuditAct, AuditActor, AuditRecord};
use crate::flow::random::random_id;

pub struct Acting {
    pub actor: AuditActor,
    pub clock: Clock,
    /// The ids of the records that were made for it.
    recorded: Mutex<Vec<String>>,
}

impl Acting {
    pub fn new(actor: AuditActor, clock: Clock) -> Acting {
        Acting { actor, clock, recorded: Mutex::default() }
    }

    /// The system user, or the API.
    pub fn user(&self) -> &str {
        match &self.actor {
            AuditActor::Command { user } => user,
            AuditActor::Http { .. } => "http",
        }
    }

    pub fn record(&self, act: AuditAct) -> AuditRecord {
        let record = AuditRecord::new(act, self.actor.clone(), self.clock.now(), random_id());
        self.lock().push(record.id().to_owned());
        record
    }

    pub fn recorded(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.recorded.lock().expect("nothing panics while it holds the lock")
    }
}
