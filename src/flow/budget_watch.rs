//! Watches the book under the budgets: gauges, and a log line once an hour or a day when a budget is nearly used up.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, timeout};

use super::gateway::ChannelGateway;
use crate::domain::budget::{Period, SpendBook, is_near};
use crate::domain::channel::Channel;
use crate::telemetry::events;

const READ_EVERY: Duration = Duration::from_secs(1);
/// A later answer of the store counts as none.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// The last hour and the last day of which an alarm was logged.
#[derive(Default)]
struct Alarms([Option<u32>; Period::ALL.len()]);

impl ChannelGateway {
    /// The budgets are those of the process, so one channel watches them. With more than one shard the store compares with the sums that
    /// were read last. A fault of the store is logged by others.
    pub(super) async fn watch_budgets(&self) {
        if self.channel != Channel::Sms || !self.policy.spend.budgets.are_set() {
            return;
        }
        let mut alarms = Alarms::default();
        let mut ticks = tokio::time::interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let book = self.store.spend_book(self.policy.spend.offset(self.clock.now()));
            if let Ok(Ok(book)) = timeout(READ_TIMEOUT, book).await {
                self.show_budgets(&book, &mut alarms);
            }
        }
    }

    fn show_budgets(&self, book: &SpendBook, Alarms(alarms): &mut Alarms) {
        for (period, alarmed) in Period::ALL.into_iter().zip(alarms) {
            let Some(budget) = self.policy.spend.budgets.of(period) else { continue };
            let (number, entry) = book.of(period);
            events::budget_read(period, entry.sum().share_of(budget));
            if is_near(entry.sum(), budget) && *alarmed != Some(number) {
                *alarmed = Some(number);
                events::budget_near(period, entry.sum(), budget);
            }
        }
    }
}
