//! The audit records of acts over HTTP.

use std::fmt::Display;

use crate::domain::audit::{AuditAct, AuditActor};
use crate::flow::operate::acting::Acting;
use crate::http::api::{Api, store_problem};
use crate::http::problem::Problem;
use crate::telemetry::events::Operator;

impl Api {
    pub(super) fn acting(&self, operator: &Operator) -> Acting {
        let sub_digest = self.recipient_keyring.user(&operator.sub);
        let actor = AuditActor::http(operator.jti.as_deref(), sub_digest, operator.client);
        Acting::new(actor, self.clock)
    }

    /// Before an act that is not one step of the store. Without the record there is no act.
    pub(super) async fn record_act(
        &self,
        operator: &Operator,
        act: AuditAct,
        subject: impl Display,
    ) -> Result<(), Problem> {
        let record = self.acting(operator).record(act).about(subject);
        self.store.record_act(&record).await.map_err(|error| store_problem("record_act", &error))
    }
}
