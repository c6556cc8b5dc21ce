//! The log filter that an operator sets for all processes. The heartbeat reads it, too.

use super::library::Step;
use super::{RedisStore, replies};
use crate::domain::audit::AuditRecord;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::time::millis;
use crate::store::StoreError;

impl RedisStore {
    pub(super) async fn read_log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        let call = self.call(Step::ReadLogFilter, &[self.keys.log_filter()]).arg(self.settings().pack());
        self.run("log_filter", &call, replies::log_filter).await
    }

    pub(super) async fn change_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
        record: Option<&AuditRecord>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        let call = self.act_call(Step::SetLogFilter, self.keys.log_filter(), 0, record);
        let call = call.arg(self.settings().pack());
        let call = match new {
            Some(new) => call.arg(millis(new.duration)).arg(new.set_by).arg(new.filter.as_str()),
            None => call.arg(0),
        };
        self.run_act("log_filter", call, record, replies::log_filter).await
    }
}
