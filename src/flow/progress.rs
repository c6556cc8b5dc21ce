//! Renews the lease of a request while it is being sent, and records its progress.

use std::time::Duration;

use tokio::time::Instant;

use super::context::{CancelOn, SendContext, StopReason};
use super::gateway::ChannelGateway;
use crate::domain::history::{HistoryEvent, RequestHistory};
use crate::domain::routes::ProviderIndex;
use crate::store::{Lease, Progress, ProgressAnswer};
use crate::telemetry::events;

/// The name in logs and in a metric's label: part of the interface, and older than the glossary.
const UPDATE_PROGRESS: &str = "mark";
/// A lease outlives the wait of its handler by this much.
const WAIT_LEASE_SLACK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitReason {
    Backoff,
    Gate,
}

impl ChannelGateway {
    /// Records that the next attempt starts, at this provider, and renews the lease for it.
    pub(super) async fn begin_attempt(
        &self,
        ctx: &mut SendContext<'_>,
        provider: ProviderIndex,
    ) -> Result<ProgressAnswer, StopReason> {
        ctx.state.name_providers(&self.providers, Some(provider));
        let lease_duration = self.policy.lease_duration();
        let sending = Progress::Sending(lease_duration);
        let (answer, asked_at) = self.update_progress(ctx, sending, CancelOn::AnyCause).await?;
        ctx.state.lease_enough_until = asked_at + lease_duration;
        Ok(answer)
    }

    pub(super) async fn record_in_doubt(
        &self,
        ctx: &mut SendContext<'_>,
        lease_duration: Duration,
    ) -> Result<ProgressAnswer, StopReason> {
        let in_doubt = Progress::InDoubt(lease_duration);
        ctx.state.name_providers(&self.providers, None);
        Ok(self.update_progress(ctx, in_doubt, CancelOn::AnyCause).await?.0)
    }

    /// Records that the request waits, then awaits `future` for at most `wait_max`. A cancelled wait releases the lease.
    pub(super) async fn wait<T>(
        &self,
        ctx: &mut SendContext<'_>,
        wait_reason: WaitReason,
        wait_max: Duration,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, StopReason> {
        let waiting = Progress::Waiting(wait_max + WAIT_LEASE_SLACK);
        ctx.state.name_providers(&self.providers, None);
        if self.update_progress(ctx, waiting, CancelOn::DeliveryLost).await?.0 == ProgressAnswer::LeaseNotHeld
        {
            return Err(StopReason::LeaseLost);
        }
        ctx.state.require_new_lease();
        let until = Instant::now() + wait_max;
        let counted = ctx.handler.slot.wait_begins();
        let waited = ctx.handler.wait_for(future, wait_max, CancelOn::AnyCause).await;
        drop(counted);
        if let Err(reason) = waited {
            let retry_in = match wait_reason {
                WaitReason::Backoff => until.saturating_duration_since(Instant::now()),
                // Another worker's gate may be open.
                WaitReason::Gate => Duration::ZERO,
            };
            self.record_requeue(ctx, retry_in, reason).await;
        }
        waited
    }

    /// Adds the requeue to the history, and releases the lease. Another handler may make an attempt after `retry_in`.
    pub(super) async fn record_requeue(
        &self,
        ctx: &mut SendContext<'_>,
        retry_in: Duration,
        reason: StopReason,
    ) {
        ctx.state.name_providers(&self.providers, None);
        ctx.state.history.add(self.clock.now(), HistoryEvent::Requeued(reason.as_str().to_owned()));
        let requeued = Progress::Requeued { retry_in, in_doubt: ctx.state.doubt.is_in_doubt };
        let (attempts, history) = (Some(ctx.state.attempts_made), Some(&ctx.state.history));
        self.release_lease(&ctx.lease(), attempts, requeued, history).await;
    }

    /// Not repeated: if the call fails, the lease expires, and the next handler treats `sending` as in doubt.
    pub(super) async fn release_lease(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        requeued: Progress,
        history: Option<&RequestHistory>,
    ) {
        if let Err(error) = self.store.update_progress(lease, attempts_made, requeued, history).await {
            events::store_failed(UPDATE_PROGRESS, &error, error.is_outage(), None);
        }
    }

    /// Returns the time just before the call, too. A cancelled call releases the lease.
    async fn update_progress(
        &self,
        ctx: &mut SendContext<'_>,
        progress: Progress,
        cancel_on: CancelOn,
    ) -> Result<(ProgressAnswer, Instant), StopReason> {
        let (lease, attempts) = (ctx.lease(), Some(ctx.state.attempts_made));
        let mut asked_at = Instant::now();
        let call = || {
            asked_at = Instant::now();
            self.store.update_progress(&lease, attempts, progress, Some(&ctx.state.history))
        };
        let answer = ctx.handler.retry_store(UPDATE_PROGRESS, cancel_on, call).await;
        if let Err(reason) = answer {
            self.record_requeue(ctx, Duration::ZERO, reason).await;
        }
        answer.map(|answer| (answer, asked_at))
    }
}
