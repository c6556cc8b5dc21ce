//! The log filter that an operator sets for all processes. The heartbeat reads it, too.

use std::time::Duration;

use super::RedisStore;
use super::library::Step;
use crate::domain::log_filter::{LogFilter, NewLogFilter, TemporaryLogFilter};
use crate::domain::time::{UnixMillis, millis};
use crate::store::StoreError;

impl RedisStore {
    pub(super) async fn read_log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        let call = self.call(Step::ReadLogFilter, &[self.keys.log_filter()]).arg(self.settings().pack());
        self.run("log_filter", &call, answered).await
    }

    pub(super) async fn change_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        let call = self.call(Step::SetLogFilter, &[self.keys.log_filter()]).arg(self.settings().pack());
        let call = match new {
            Some(new) => call.arg(millis(new.duration)).arg(new.set_by).arg(new.filter.as_str()),
            None => call.arg(0),
        };
        self.run("log_filter", &call, answered).await
    }
}

fn answered(answer: &[u8]) -> Option<Option<TemporaryLogFilter>> {
    if answer.is_empty() {
        return Some(None);
    }
    read(&mut str::from_utf8(answer).ok()?.split(' ')).map(Some)
}

/// From the words that `log_filter.lua` answers.
pub(super) fn read<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<TemporaryLogFilter> {
    let left = Duration::from_millis(words.next()?.parse().ok()?);
    let set_at = UnixMillis(words.next()?.parse().ok()?);
    let set_by = words.next()?.to_owned();
    Some(TemporaryLogFilter { filter: LogFilter::parse(words.next()?).ok()?, set_by, set_at, left })
}
