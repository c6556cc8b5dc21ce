//! The way of a message through the gates: which provider sends it now, and the wait where none can.

use std::time::Duration;

use super::context::{SendContext, StopReason};
use super::gateway::ChannelGateway;
use super::pause_log::ClosedBy;
use super::progress::WaitReason;
use super::provider_gate::{GateTicket, NO_SENDER_AVAILABLE};
use super::route_waits::RouteWait;
use crate::domain::challenge::TIME_LEFT_MIN;
use crate::domain::failover::Choice;
use crate::domain::history::HistoryEvent;
use crate::telemetry::events;

/// While a request waits at the gate, its lease is renewed at least this often.
const GATE_WAIT_MAX: Duration = Duration::from_secs(15);

pub(super) enum AfterGate<'a> {
    Entered(Choice, GateTicket<'a>),
    /// A wait brought no ticket.
    Again,
    /// No provider may get the message any more.
    NoProvider,
}
impl ChannelGateway {
    pub(super) async fn pass_gate(&self, ctx: &mut SendContext<'_>) -> Result<AfterGate<'_>, StopReason> {
        let recipient = ctx.valid.recipient_hash();
        let order = ctx.state.hand_overs.left_of(&ctx.valid.order);
        if order.is_empty() {
            return Ok(AfterGate::NoProvider);
        }
        let mut choice = self.providers.choose(&order, recipient, &ctx.state.hand_overs);
        if choice.is_none() {
            ctx.state.hand_overs.end_exclusions_for_now();
            choice = self.providers.choose(&order, recipient, &ctx.state.hand_overs);
        }
        if let Some(choice) = choice {
            let refusals = ctx.state.hand_overs.refusals(choice.provider);
            if let Some(ticket) = self.providers.get(choice.provider).gate.try_enter(recipient, refusals) {
                return Ok(AfterGate::Entered(choice, ticket));
            }
        }
        // 1 ms more, so that the loop then ends the request as too late.
        let useful_wait = ctx.time_left().saturating_sub(TIME_LEFT_MIN) + Duration::from_millis(1);
        let wait_max = useful_wait.min(GATE_WAIT_MAX);
        let closed_by = self.providers.closed_by(&order);
        self.record_gate_wait(ctx, closed_by, choice);
        let (None, Some(choice)) = (closed_by, choice) else {
            let _wait = match self.begin_route_wait(closed_by) {
                Ok(wait) => wait,
                Err(reason) => {
                    self.record_requeue(ctx, Duration::ZERO, reason).await;
                    return Err(reason);
                }
            };
            let open = self.providers.wait_until_open(&order);
            self.wait(ctx, WaitReason::Gate, wait_max, open).await?;
            return Ok(AfterGate::Again);
        };
        let refusals = ctx.state.hand_overs.refusals(choice.provider).clone();
        let entered = self.providers.get(choice.provider).gate.enter(recipient, refusals);
        let ticket = self.wait(ctx, WaitReason::Gate, wait_max, entered).await?.flatten();
        Ok(ticket.map_or(AfterGate::Again, |ticket| AfterGate::Entered(choice, ticket)))
    }

    /// Records a wait at a closed gate or for senders, once; waits for the concurrency limit or a rate are too frequent.
    fn record_gate_wait(
        &self,
        ctx: &mut SendContext<'_>,
        closed_by: Option<ClosedBy>,
        choice: Option<Choice>,
    ) {
        let has_no_sender = |choice: &Choice| {
            let refusals = ctx.state.hand_overs.refusals(choice.provider);
            self.providers.get(choice.provider).gate.no_sender_available(refusals)
        };
        let no_sender = choice.filter(has_no_sender).map(|_| NO_SENDER_AVAILABLE);
        let Some(cause) = closed_by.map(ClosedBy::as_str).or(no_sender) else { return };
        let wait = HistoryEvent::WaitsAtGate(cause.to_owned());
        if ctx.state.history.entries.last().is_none_or(|last| last.event != wait) {
            ctx.state.history.add(self.clock.now(), wait);
            events::send_waits_at_gate(self.channel, ctx.request_id(), cause);
        }
    }

    /// The permission to wait for a closed gate, until the answer is dropped. A pause of the whole channel needs none.
    pub(super) fn begin_route_wait(
        &self,
        closed_by: Option<ClosedBy>,
    ) -> Result<Option<RouteWait<'_>>, StopReason> {
        if closed_by != Some(ClosedBy::Breaker) || self.gate.closed_by().is_some() {
            return Ok(None);
        }
        let wait = self.providers.route_waits.begin(self.activity.handlers_max());
        wait.map(Some).ok_or(StopReason::RouteShut)
    }
}
