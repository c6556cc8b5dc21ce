//! The status of servers and providers, the kill switch and the limits. `docs/http.md` describes the fields.
//!
//! A provider's answer is cached, so that frequent status requests do not become frequent requests to the provider.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::problems::{Problem, Severity};
use super::processes::{KeyRow, ProcessRow};
use super::traffic::TrafficRow;
use crate::broker::{HealthCheck, Names, RequestQueues};
use crate::clock::Clock;
use crate::domain::channel::Channel;
use crate::domain::key_check::KeyCheck;
use crate::domain::limit::{Limit, Limits};
use crate::domain::time::{UnixMillis, millis};
use crate::provider::{CredentialError, Provider};
use crate::store::{KillSwitch, Store, StoreError, StoreFault};

/// For the store or the broker.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Over the internet.
const PROVIDER_ANSWERS_WITHIN: Duration = Duration::from_secs(4);
const PROVIDER_CACHED_FOR: Duration = Duration::from_secs(30);
const SIMULATED: &str = "simulated";

pub struct ProcessInfo {
    pub version: &'static str,
    pub role: &'static str,
    pub production: bool,
    /// Shown by a process without an account of its own: `simulated` if its workers need none.
    pub sms_provider_default: &'static str,
    pub sms_enabled: bool,
    pub email_enabled: bool,
    pub configured: Vec<&'static str>,
    pub limits: Limits,
    /// `None` for a command.
    pub started: Option<Instant>,
}

pub struct Inspector {
    pub process: ProcessInfo,
    pub store: Arc<dyn Store>,
    pub store_in_memory: bool,
    /// `None` if it is part of this process.
    pub broker: Option<Arc<dyn HealthCheck>>,
    /// `None` in tests without a broker.
    pub queues: Option<Arc<dyn RequestQueues>>,
    pub names: Names,
    /// The keys of this process.
    pub keys: Vec<KeyCheck>,
    /// Of text messages; `None` if this process has no account.
    pub provider: Option<Arc<dyn Provider>>,
    /// `None` if this process has no account or e-mail is off.
    pub email_provider: Option<Arc<dyn Provider>>,
    pub clock: Clock,
    pub provider_health: ProviderHealthCache,
    pub email_provider_health: ProviderHealthCache,
}

#[derive(Serialize)]
pub struct StatusRow {
    pub version: &'static str,
    pub role: &'static str,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<u64>,
    pub environment: &'static str,
    pub mode: &'static str,
    pub provider: &'static str,
    pub sms_enabled: bool,
    /// `None` if the store did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitchRow>,
    /// Errors first.
    pub problems: Vec<Problem>,
    pub health: HealthRow,
    /// `None` if the broker did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<QueueRow>>,
    /// Requests on the delay queue. `None` as in `queues`, and so the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delayed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<u32>,
    /// `None` if the store did not answer, as in the next three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Vec<ProcessRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeyRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Vec<TrafficRow>>,
    /// Requests refused in the last hour, by limit, over the processes that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits_hit: Option<BTreeMap<&'static str, u32>>,
    pub limits: LimitsRow,
    pub email: EmailRow,
    /// Names of settings, never a value.
    pub configured: Vec<&'static str>,
}

/// The requests of a channel that no worker holds, and the consumers of their queue.
#[derive(Serialize)]
pub struct QueueRow {
    pub channel: Channel,
    pub queue: String,
    pub ready: u32,
    pub consumers: u32,
}

#[derive(Serialize)]
pub struct EmailRow {
    pub enabled: bool,
    /// `None` without a provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'static str>,
    /// `None` if e-mail is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    pub limits: LimitsRow,
}

#[derive(Serialize)]
pub struct HealthRow {
    pub redis: Health,
    pub rabbitmq: Health,
    /// Whichever provider it is: the key is part of the interface.
    #[serde(rename = "twilio")]
    pub sms_provider: Health,
}

#[derive(Clone, Serialize)]
pub struct Health {
    pub state: HealthState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of the store, for machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The response time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Of a cached answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    Up,
    Down,
    Refused,
    /// The credentials lack a permission.
    Limited,
    InMemory,
    Simulated,
    NotConfigured,
    /// The first check is in progress.
    Unknown,
}

#[derive(Serialize)]
pub struct KillSwitchRow {
    pub on: bool,
    /// Absent if it was turned on just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The limits in the settings; times in seconds. 0 is off.
#[derive(Serialize)]
pub struct LimitsRow {
    /// In `window`.
    pub per_number: u32,
    pub window: u64,
    /// Of a recipient.
    pub per_day: u32,
    /// In an hour, as the next three.
    pub per_user: u32,
    pub per_ip: u32,
    pub per_network: u32,
    pub all_per_hour: u32,
    pub cooldown: u64,
    pub wrong_per_code: u32,
    /// Of a recipient.
    pub wrong_per_hour: u32,
}

impl StatusRow {
    /// Something needed does not work.
    pub fn has_error(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// As an environment, and as the mode of a channel: real messages are sent, in either environment.
pub(super) const PRODUCTION: &str = "production";

impl Inspector {
    pub async fn status(&self) -> StatusRow {
        let ((redis, kill_switch), rabbitmq, sms_provider, email, reports) = tokio::join!(
            self.check_store(),
            self.check_broker(),
            self.check_provider(self.provider.as_ref(), &self.provider_health),
            self.email_row(),
            self.read_reports()
        );
        let ProcessInfo { version, role, production, sms_enabled, .. } = self.process;
        let simulated = match &self.provider {
            Some(_) => self.is_simulated(self.provider.as_ref(), &sms_provider),
            None => self.process.sms_provider_default == SIMULATED,
        };
        let provider_name =
            self.provider.as_ref().map_or(self.process.sms_provider_default, |provider| provider.name());
        let row = StatusRow {
            version,
            role,
            uptime: self.process.started.map(|started| started.elapsed().as_secs()),
            environment: if production { PRODUCTION } else { "development" },
            mode: mode(simulated),
            provider: if simulated { SIMULATED } else { provider_name },
            sms_enabled,
            kill_switch,
            problems: Vec::new(),
            health: HealthRow { redis, rabbitmq, sms_provider },
            queues: None,
            delayed: None,
            dead_letters: None,
            processes: None,
            keys: None,
            traffic: None,
            limits_hit: None,
            limits: limits_row(&self.process.limits),
            email,
            configured: self.process.configured.clone(),
        };
        self.with_reports(row, reports)
    }

    /// Closes the connection that read the queues.
    pub async fn close(&self) {
        if let Some(queues) = &self.queues {
            queues.close().await;
        }
    }

    async fn email_row(&self) -> EmailRow {
        let limits = limits_row(&self.process.limits.on(Channel::Email));
        if !self.process.email_enabled {
            return EmailRow { enabled: false, mode: None, provider: None, health: None, limits };
        }
        let provider = self.email_provider.as_ref();
        let health = self.check_provider(provider, &self.email_provider_health).await;
        let name = match self.is_simulated(provider, &health) {
            true => Some(SIMULATED),
            // A process without an account does not know the provider of the workers.
            false => provider.map(|provider| provider.name()),
        };
        EmailRow {
            enabled: true,
            mode: name.map(|name| mode(name == SIMULATED)),
            provider: name,
            health: Some(health),
            limits,
        }
    }

    /// In development, a worker without accepted credentials simulates messages.
    fn is_simulated(&self, provider: Option<&Arc<dyn Provider>>, health: &Health) -> bool {
        match provider {
            Some(provider) => {
                provider.name() == SIMULATED
                    || (!self.process.production && health.state == HealthState::Refused)
            }
            None => !self.process.production,
        }
    }

    async fn check_store(&self) -> (Health, Option<KillSwitchRow>) {
        let query = async {
            let switch = self.store.kill_switch().await?;
            // A store that refuses writes may answer reads.
            self.store.check_writable().await?;
            self.store.check_shared_data().await.map(|()| switch)
        };
        let (answer, ms) = timed(ANSWER_WITHIN, query).await;
        let answer = answer.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer)));
        match answer {
            Ok(switch) => {
                let state = if self.store_in_memory { HealthState::InMemory } else { HealthState::Up };
                let warnings: Vec<String> = self.store.warnings().iter().map(ToString::to_string).collect();
                let detail = (!warnings.is_empty()).then(|| warnings.join("; "));
                (Health { detail, ..Health::answered(state, ms) }, Some(KillSwitchRow::of(switch)))
            }
            Err(StoreError::Unavailable(fault)) => {
                let health = Health::of(HealthState::Down, &fault);
                (Health { reason: Some(fault.as_str()), ..health }, None)
            }
            Err(error) => (Health::of(HealthState::Down, error), None),
        }
    }

    async fn check_broker(&self) -> Health {
        let Some(broker) = &self.broker else {
            return Health::without_answer(HealthState::InMemory);
        };
        match timed(ANSWER_WITHIN, broker.check()).await {
            (Some(Ok(())), ms) => Health::answered(HealthState::Up, ms),
            (Some(Err(error)), _) => Health::of(HealthState::Down, error),
            (None, _) => Health::of(HealthState::Down, "no answer in time"),
        }
    }

    async fn check_provider(
        &self,
        provider: Option<&Arc<dyn Provider>>,
        cache: &ProviderHealthCache,
    ) -> Health {
        let Some(provider) = provider else {
            return Health::of(
                HealthState::NotConfigured,
                "no account is set in this process; a worker may have one",
            );
        };
        if provider.name() == SIMULATED {
            return Health::without_answer(HealthState::Simulated);
        }
        match cache.read(Instant::now()) {
            CachedHealth::Fresh(health) => health,
            CachedHealth::FirstCheckRunning => Health::of(HealthState::Unknown, "a check is in progress"),
            CachedHealth::Stale => {
                let asked_at = self.clock.now();
                let health =
                    credentials_health(timed(PROVIDER_ANSWERS_WITHIN, provider.check_credentials()).await);
                cache.store(&health, asked_at);
                health
            }
        }
    }
}

fn credentials_health((answer, ms): (Option<Result<(), CredentialError>>, u64)) -> Health {
    let state = match &answer {
        Some(Ok(())) => return Health::answered(HealthState::Up, ms),
        Some(Err(error)) if error.is_refusal() => HealthState::Refused,
        Some(Err(CredentialError::MayNotRead { .. })) => HealthState::Limited,
        Some(Err(CredentialError::NotShown { .. })) => HealthState::Unknown,
        Some(Err(_)) | None => HealthState::Down,
    };
    let detail = answer.and_then(Result::err).map(|error| error.to_string());
    Health::of(state, detail.as_deref().unwrap_or("no answer in time"))
}

/// The answer, if it came in time, and its milliseconds.
async fn timed<T>(limit: Duration, query: impl Future<Output = T>) -> (Option<T>, u64) {
    let started = Instant::now();
    let answer = timeout(limit, query).await.ok();
    (answer, millis(started.elapsed()))
}

impl Health {
    fn answered(state: HealthState, ms: u64) -> Health {
        Health { ms: Some(ms), ..Health::without_answer(state) }
    }

    fn of(state: HealthState, detail: impl ToString) -> Health {
        Health { detail: Some(detail.to_string()), ..Health::without_answer(state) }
    }

    fn without_answer(state: HealthState) -> Health {
        Health { state, detail: None, reason: None, ms: None, asked_at: None }
    }
}

/// The last answer of a provider. When it is stale, one caller queries the provider and the others read the old answer.
#[derive(Default)]
pub struct ProviderHealthCache(Mutex<LastHealth>);

#[derive(Default)]
struct LastHealth {
    queried: Option<Instant>,
    health: Option<Health>,
}

enum CachedHealth {
    Fresh(Health),
    FirstCheckRunning,
    /// The caller must query the provider.
    Stale,
}

impl ProviderHealthCache {
    /// A caller that gets `Stale` and goes away counts as having queried.
    fn read(&self, now: Instant) -> CachedHealth {
        let mut last = self.0.lock().expect("nothing panics while it holds the lock");
        if last.queried.is_some_and(|queried| now.saturating_duration_since(queried) < PROVIDER_CACHED_FOR) {
            return last.health.clone().map_or(CachedHealth::FirstCheckRunning, CachedHealth::Fresh);
        }
        last.queried = Some(now);
        CachedHealth::Stale
    }

    fn store(&self, health: &Health, asked_at: UnixMillis) {
        let health = Health { asked_at: Some(asked_at.to_string()), ..health.clone() };
        self.0.lock().expect("nothing panics while it holds the lock").health = Some(health);
    }
}

fn mode(simulated: bool) -> &'static str {
    if simulated { "simulation" } else { PRODUCTION }
}

impl KillSwitchRow {
    pub fn of(switch: Option<KillSwitch>) -> KillSwitchRow {
        match switch {
            None => KillSwitchRow { on: false, since: None, reason: None },
            Some(KillSwitch { since, reason }) => {
                KillSwitchRow { on: true, since: Some(since.to_string()), reason: Some(reason) }
            }
        }
    }
}

fn limits_row(limits: &Limits) -> LimitsRow {
    LimitsRow {
        per_number: limits[Limit::Recipient].count,
        window: limits[Limit::Recipient].window.as_secs(),
        per_day: limits[Limit::RecipientDay].count,
        per_user: limits[Limit::User].count,
        per_ip: limits[Limit::Ip].count,
        per_network: limits[Limit::Network].count,
        all_per_hour: limits[Limit::All].count,
        cooldown: limits.cooldown.as_secs(),
        wrong_per_code: limits.wrong_per_challenge,
        wrong_per_hour: limits[Limit::Wrong].count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_queries_and_the_others_read_the_last_answer() {
        let (cache, began) = (ProviderHealthCache::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let text = |cached| match cached {
            CachedHealth::Stale => "query",
            CachedHealth::FirstCheckRunning => "nothing yet",
            CachedHealth::Fresh(_) => "known",
        };
        assert_eq!(text(cache.read(at(0))), "query");
        // If the first caller went away without an answer, no other queries before the interval is over.
        assert_eq!(text(cache.read(at(29))), "nothing yet");
        assert_eq!(text(cache.read(at(30))), "query");
        cache.store(&Health::without_answer(HealthState::Up), UnixMillis(0));
        assert_eq!(text(cache.read(at(59))), "known");
        assert_eq!(text(cache.read(at(60))), "query");
    }
}
