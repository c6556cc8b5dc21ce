//! Work that does not wait for requests: the heartbeat, reports of the worker's state, probes of a failing provider, overdue receipts, and
//! the budgets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::gateway::ChannelGateway;
use super::key_watch::key_checks;
use super::random::random_id;
use super::receipts::ReceiptProcessor;
use super::worker_activity::ActivityMeter;
use crate::domain::channel::Channel;
use crate::domain::worker_state::WorkerState;
use crate::provider::CredentialError;
use crate::store::{Damaged, SharedState, StoreError, StoreFault};
use crate::telemetry::{events, log_filter};

const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// A later answer of the store counts as none.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(500);
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// So many reports in a row that fail are logged, once.
const REPORTS_MISSED: u32 = 3;
/// Doubles up to [`PROBE_WAIT_MAX`].
const PROBE_WAIT_FIRST: Duration = Duration::from_secs(2);
const PROBE_WAIT_MAX: Duration = Duration::from_secs(30);
const RECEIPT_POLL_EVERY: Duration = Duration::from_secs(15);

pub struct ReceiptPolling {
    pub processor: Arc<ReceiptProcessor>,
    /// From the send to the last poll.
    pub wait_max: Duration,
}

impl ChannelGateway {
    pub async fn run_maintenance(&self, polling: Option<ReceiptPolling>, shutdown: CancellationToken) {
        // Each channel of a worker counts as a worker of its own: each has its own senders.
        let worker_id = random_id();
        let tasks = async {
            tokio::join!(
                self.run_heartbeat(worker_id),
                self.report_state(worker_id),
                self.probe_provider(),
                self.poll_receipts(polling),
                self.redact_messages(),
                self.watch_budgets(),
                self.compare_prices()
            );
        };
        shutdown.run_until_cancelled(tasks).await;
        // Without it the worker counts for some more seconds.
        let _ = tokio::time::timeout(HEARTBEAT_TIMEOUT, self.store.report_worker(worker_id, None)).await;
    }

    /// Before the first delivery is consumed. Without an answer the gate closes.
    pub async fn load_kill_switch(&self) {
        let shared_state = async {
            let kill_switch_on = self.store.kill_switch().await?.is_some();
            Ok(SharedState { kill_switch_on, active_workers: 0, log_filter: None })
        };
        self.apply_shared_state(shared_state, false).await;
    }

    /// Opens or closes the gate by the store's answer.
    async fn apply_shared_state(
        &self,
        call: impl Future<Output = Result<SharedState, StoreError>>,
        was_counted: bool,
    ) {
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, call).await {
            Ok(Ok(shared)) => {
                self.apply_log_filter(Some(&shared));
                return self.gate.store_answered(shared, was_counted);
            }
            Ok(Err(StoreError::Unreadable { damaged: Damaged::Shared(key), .. })) => {
                self.gate.store_damaged(&key);
            }
            Ok(Err(StoreError::Unavailable(fault))) => self.gate.store_unavailable(fault),
            Err(_) => self.gate.store_unavailable(StoreFault::NoAnswer),
            // Of no concern to other requests.
            Ok(Err(StoreError::Unreadable { .. })) => self.gate.check_store_silence(),
        }
        self.apply_log_filter(None);
    }

    /// The process has one filter, so the heartbeat of one channel decides.
    fn apply_log_filter(&self, answer: Option<&SharedState>) {
        match answer {
            _ if self.channel != Channel::Sms => {}
            Some(shared) => log_filter::store_answered(shared.log_filter.as_ref()),
            None => log_filter::store_silent(),
        }
    }

    async fn run_heartbeat(&self, worker_id: u64) {
        let mut ticks = tokio::time::interval(HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let is_active = self.gate.is_active();
            self.apply_shared_state(self.store.heartbeat(worker_id, is_active), is_active).await;
        }
    }

    /// A task of its own, so that a slow report delays no heartbeat.
    async fn report_state(&self, worker_id: u64) {
        let (mut meter, mut updated_at, mut failures) = (ActivityMeter::default(), Instant::now(), 0_u32);
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            meter.update(self.activity.totals(), updated_at.elapsed());
            updated_at = Instant::now();
            events::gate_measured(self.channel, self.gate.measure());
            // The heartbeat alone tries a store that does not answer.
            if self.gate.store_silence().is_some() {
                continue;
            }
            let state = self.worker_state(&meter);
            let report = self.store.report_worker(worker_id, Some(&state));
            let failure = match tokio::time::timeout(HEARTBEAT_TIMEOUT, report).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(StoreError::Unavailable(StoreFault::NoAnswer)),
            };
            failures = if failure.is_some() { failures.saturating_add(1) } else { 0 };
            // The gate has noticed an outage by then, which has lines of its own.
            if let Some(error) =
                failure.filter(|_| failures == REPORTS_MISSED && self.gate.store_silence().is_none())
            {
                events::worker_not_reported(self.channel, &error);
            }
        }
    }

    fn worker_state(&self, meter: &ActivityMeter) -> WorkerState {
        let handlers_max = self.activity.handlers_max();
        let gate = self.gate.snapshot();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        WorkerState {
            role: self.activity.role(),
            channel: self.channel,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            closed_by: gate.closed_by.map(|cause| cause.as_str().to_owned()),
            handlers_max,
            in_flight: self.activity.in_flight(),
            waiting: self.activity.waiting(),
            ended: meter.rate(),
            capacity: meter.capacity(handlers_max),
            draining: self.activity.is_draining(),
            breaker: gate.breaker,
            breaker_code: gate.breaker_code,
            senders: count(gate.senders),
            senders_suspended: count(gate.senders_suspended),
            concurrency_limit: count(gate.concurrency_limit),
            concurrency_in_use: count(gate.concurrency_in_use),
            oldest_taken: self.activity.oldest_taken.longest(),
            limit_hits: self.activity.limits.last_hour(),
            keys: key_checks(Some(&self.code_keyring), Some(&self.recipient_keyring)),
            uptime: self.activity.uptime(),
            traffic: self.activity.traffic.total(),
        }
    }

    /// A probe reads the account: it sends no message and costs nothing.
    async fn probe_provider(&self) {
        let mut wait = PROBE_WAIT_FIRST;
        loop {
            self.gate.wait_until_breaker_opens().await;
            let waiting_since = Instant::now();
            // ±25 % keep workers apart.
            tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            let probe = self.provider.check_credentials();
            let answer = tokio::time::timeout(self.policy.provider_call_max(), probe).await;
            // Credentials that may not read the account were still accepted.
            // Where nothing shows if the account is good, the next message does.
            let is_shown = !matches!(answer, Ok(Err(CredentialError::NotShown { .. })));
            let succeeded =
                !is_shown || matches!(answer, Ok(Ok(()) | Err(CredentialError::MayNotRead { .. })));
            if is_shown {
                let waited = waiting_since.elapsed();
                events::provider_probed(self.channel, self.provider.name(), succeeded, waited);
            }
            if succeeded {
                self.gate.probe_succeeded();
                self.gate.wait_until_half_open_ends().await;
            }
            wait =
                if self.gate.is_breaker_open() { (wait * 2).min(PROBE_WAIT_MAX) } else { PROBE_WAIT_FIRST };
        }
    }

    async fn poll_receipts(&self, polling: Option<ReceiptPolling>) {
        let polling = polling.filter(|_| self.channel.polls_receipts());
        let Some(ReceiptPolling { processor, wait_max }) = polling else { return };
        loop {
            self.gate.wait_until_open().await;
            match processor.poll_overdue(self.provider.as_ref(), wait_max).await {
                Ok(polled) if polled > 0 => {}
                Ok(_) => tokio::time::sleep(RECEIPT_POLL_EVERY).await,
                Err(error) => {
                    events::receipt_poll_failed(&error);
                    tokio::time::sleep(RECEIPT_POLL_EVERY).await;
                }
            }
        }
    }
}
