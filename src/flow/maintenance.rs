//! What happens beside the requests: the kill switch is asked about, a provider that failed is probed, and messages
//! whose report is overdue are asked about.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::receipts::ReceiptProcessor;
use super::{Gateway, random_id};
use crate::provider::CredentialError;
use crate::store::SharedState;
use crate::telemetry::events;

/// How often the store is asked what concerns all workers.
const PULSE_EVERY: Duration = Duration::from_millis(250);
/// An answer that takes longer is none.
const PULSE_WITHIN: Duration = Duration::from_millis(500);
/// The wait before the first probe of a provider that fails everybody; it doubles with each one.
const PROBE_FIRST: Duration = Duration::from_secs(2);
/// The longest wait between two probes.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often overdue reports are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// What is done about reports that do not come.
pub struct ReceiptPolling {
    /// Follows messages to their end.
    pub tracker: Arc<ReceiptProcessor>,
    /// How long a report is waited for.
    pub wait_max: Duration,
}

impl Gateway {
    /// Does what has to be done beside the requests, until it is told to stop.
    pub async fn run_maintenance(&self, sweeps: Option<ReceiptPolling>, stop: CancellationToken) {
        let beside = async {
            tokio::join!(self.poll_shared_state(), self.probe(), self.poll_receipts(sweeps));
        };
        stop.run_until_cancelled(beside).await;
    }

    /// Learns how the kill switch stands, before anything is taken from the queue. A store that does not say is silent.
    pub async fn load_kill_switch(&self) {
        match tokio::time::timeout(PULSE_WITHIN, self.store.kill_switch()).await {
            Ok(Ok(switch)) => {
                self.gate.store_answered(SharedState { kill_switch_on: switch.is_some(), active_workers: 0 })
            }
            Ok(Err(_)) | Err(_) => self.gate.store_silent(),
        }
    }

    async fn poll_shared_state(&self) {
        let worker = random_id();
        let mut ticks = tokio::time::interval(PULSE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let asked = self.store.heartbeat(worker, self.gate.is_busy());
            match tokio::time::timeout(PULSE_WITHIN, asked).await {
                Ok(Ok(pulse)) => self.gate.store_answered(pulse),
                Ok(Err(_)) | Err(_) => self.gate.store_silent(),
            }
        }
    }

    /// A probe asks about the account: it sends nothing, and costs nothing.
    async fn probe(&self) {
        let mut wait = PROBE_FIRST;
        loop {
            self.gate.broken().await;
            // A provider that failed again at once is asked less and less often.
            let since = Instant::now();
            tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            let limit = self.policy.provider_timeout + Duration::from_secs(2);
            let answer = tokio::time::timeout(limit, self.provider.check_credentials()).await;
            // Whoever says that we may not ask has answered.
            let good = matches!(answer, Ok(Ok(()) | Err(CredentialError::MayNotRead { .. })));
            events::provider_probed(self.channel, self.provider.name(), good, since.elapsed());
            if good {
                self.gate.probe_succeeded();
                // One message decides whether the way is open again.
                self.gate.decided().await;
            }
            wait = if self.gate.is_broken() { (wait * 2).min(PROBE_WAIT_MAX) } else { PROBE_FIRST };
        }
    }

    async fn poll_receipts(&self, sweeps: Option<ReceiptPolling>) {
        // Whatever a start hands out: what is noted as overdue is about text messages, and only their provider is asked.
        let sweeps = sweeps.filter(|_| self.channel.polls_receipts());
        let Some(ReceiptPolling { tracker, wait_max }) = sweeps else { return };
        loop {
            self.gate.opened().await;
            match tracker.poll_overdue(self.provider.as_ref(), wait_max).await {
                Ok(asked) if asked > 0 => {}
                Ok(_) => tokio::time::sleep(SWEEP_EVERY).await,
                Err(error) => {
                    events::receipt_poll_failed(&error);
                    tokio::time::sleep(SWEEP_EVERY).await;
                }
            }
        }
    }
}
