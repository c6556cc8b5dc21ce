//! Work that does not wait for requests: the heartbeat, reports of the worker's state, probes of a failing provider, overdue receipts, and
//! the budgets.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::gateway::ChannelGateway;
use super::key_watch::key_checks;
use super::providers::SendingProvider;
use super::random::random_id;
use super::receipts::ReceiptProcessor;
use super::worker_activity::ActivityMeter;
use crate::domain::channel::Channel;
use crate::domain::circuit_breaker::BreakerState;
use crate::domain::worker_state::{ProviderState, WorkerState};
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
                self.probe_providers(),
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
                for one in self.providers.all() {
                    one.gate.share_rate(shared.active_workers, was_counted);
                }
                return self.gate.store_answered(&shared);
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
            let is_active = self.providers.all().iter().any(|one| one.gate.is_active());
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
            for one in self.providers.used() {
                events::gate_measured(self.channel, one.name(), one.gate.measure());
            }
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
        let closed_by = self.gate.closed_by();
        let providers = self.provider_states();
        let sum = |count: fn(&ProviderState) -> u32| providers.iter().map(count).sum();
        let best = providers.iter().min_by_key(|provider| match provider.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen(_) => 1,
            BreakerState::Open(_) => 2,
        });
        WorkerState {
            role: self.activity.role(),
            channel: self.channel,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            closed_by: closed_by.map(|cause| cause.as_str().to_owned()),
            handlers_max,
            in_flight: self.activity.in_flight(),
            waiting: self.activity.waiting(),
            ended: meter.rate(),
            capacity: meter.capacity(handlers_max),
            draining: self.activity.is_draining(),
            breaker: best.map_or(BreakerState::Closed, |best| best.breaker),
            breaker_code: best.and_then(|best| best.breaker_code),
            senders: sum(|provider| provider.senders),
            senders_suspended: sum(|provider| provider.senders_suspended),
            concurrency_limit: sum(|provider| provider.concurrency_limit),
            concurrency_in_use: sum(|provider| provider.concurrency_in_use),
            providers: if providers.len() > 1 { providers } else { Vec::new() },
            oldest_taken: self.activity.oldest_taken.longest(),
            limit_hits: self.activity.limits.last_hour(),
            keys: key_checks(Some(&self.code_keyring), Some(&self.recipient_keyring)),
            uptime: self.activity.uptime(),
            traffic: self.activity.traffic.total(),
        }
    }

    /// Of those that a route can use.
    fn provider_states(&self) -> Vec<ProviderState> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let state = |one: &SendingProvider| {
            let gate = one.gate.snapshot();
            ProviderState {
                name: one.name().to_owned(),
                breaker: gate.breaker,
                breaker_code: gate.breaker_code,
                senders: count(gate.senders),
                senders_suspended: count(gate.senders_suspended),
                concurrency_limit: count(gate.concurrency_limit),
                concurrency_in_use: count(gate.concurrency_in_use),
            }
        };
        self.providers.used().map(state).collect()
    }

    async fn probe_providers(&self) {
        join_all(self.providers.all().iter().map(|one| self.probe_provider(one))).await;
    }

    /// A probe reads the account: it sends no message and costs nothing.
    async fn probe_provider(&self, one: &SendingProvider) {
        let mut wait = PROBE_WAIT_FIRST;
        loop {
            one.gate.wait_until_breaker_opens().await;
            let waiting_since = Instant::now();
            // ±25 % keep workers apart.
            tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            let probe = one.provider.check_credentials();
            let answer = tokio::time::timeout(self.policy.provider_call_max(), probe).await;
            // Credentials that may not read the account were still accepted.
            let succeeded = matches!(answer, Ok(Ok(()) | Err(CredentialError::MayNotRead { .. })));
            let waited = waiting_since.elapsed();
            events::provider_probed(self.channel, one.name(), succeeded, waited);
            if succeeded {
                one.gate.probe_succeeded();
                one.gate.wait_until_half_open_ends().await;
            }
            wait = if one.gate.is_breaker_open() { (wait * 2).min(PROBE_WAIT_MAX) } else { PROBE_WAIT_FIRST };
        }
    }

    async fn poll_receipts(&self, polling: Option<ReceiptPolling>) {
        let polling = polling.filter(|_| self.channel.polls_receipts());
        let Some(ReceiptPolling { processor, wait_max }) = polling else { return };
        let providers: Vec<_> = self.providers.adapters().cloned().collect();
        loop {
            self.gate.wait_until_open().await;
            match processor.poll_overdue(&providers, wait_max).await {
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
