//! How is everything?
//!
//! Each outside system is asked at once and with a limit, and the provider no more often than it is worth: whoever may
//! ask for the status must not be able to make us ask the provider as often. What is not known is said to be so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::broker::Probe;
use crate::clock::Clock;
use crate::domain::channel::Channel;
use crate::domain::time::{UnixMillis, millis};
use crate::provider::{CredentialError, Provider};
use crate::store::{KillSwitch, Limits, Store, StoreError};

/// The longest wait for the store or the broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The longest wait for the provider, which is far away.
const PROVIDER_ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// What the provider said is told again for so long.
const PROVIDER_ASKED_EVERY: Duration = Duration::from_secs(30);
/// Who only shows messages.
const SIMULATED: &str = "simulated";

/// What settings and the start have decided.
pub struct Facts {
    /// The program's version.
    pub version: &'static str,
    /// What the process that answers is: `http`, `serve`, `dev`, or `command`.
    pub role: &'static str,
    /// Production or development.
    pub production: bool,
    /// The name of the provider of text messages where this process has no account.
    pub sms_provider_default: &'static str,
    /// Text messages are sent at all.
    pub sms_enabled: bool,
    /// E-mails are.
    pub email_enabled: bool,
    /// The names of the settings that were given.
    pub configured: Vec<&'static str>,
    /// What is allowed.
    pub limits: Limits,
    /// When the process that answers was started; nothing for a command.
    pub started: Option<Instant>,
}

/// Looks at everything.
pub struct Inspector {
    /// What does not change.
    pub facts: Facts,
    /// The store, and whether it is in this process.
    pub store: Arc<dyn Store>,
    /// The store is no server of its own.
    pub store_in_memory: bool,
    /// How the broker is asked; nothing where it is no server of its own.
    pub broker: Option<Arc<dyn Probe>>,
    /// Who carries text messages; nothing where this process has no account.
    pub provider: Option<Arc<dyn Provider>>,
    /// Who carries e-mails; nothing where this process has no account, or they are off.
    pub email_provider: Option<Arc<dyn Provider>>,
    /// What time it is.
    pub clock: Clock,
    /// What the provider of text messages said last.
    pub heard: ProviderHealthCache,
    /// What that of e-mails said last.
    pub email_heard: ProviderHealthCache,
}

/// The status, for people and machines.
#[derive(Serialize)]
pub struct StatusRow {
    /// The program's version.
    pub version: &'static str,
    /// What the process that answers is.
    pub role: &'static str,
    /// Seconds since it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<u64>,
    /// `production` or `development`.
    pub environment: &'static str,
    /// `production`: messages are sent; `simulation`: they are shown.
    pub mode: &'static str,
    /// Who carries them.
    pub provider: &'static str,
    /// Text messages are sent at all.
    pub sms_enabled: bool,
    /// Nothing where the store did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitchRow>,
    /// Each outside system.
    pub health: HealthRow,
    /// What is allowed for text messages. 0 is a limit that is off.
    pub limits: AllowedRow,
    /// The other channel.
    pub email: EmailRow,
    /// The names of the settings that were given; never a value.
    pub configured: Vec<&'static str>,
}

/// How e-mails stand.
#[derive(Serialize)]
pub struct EmailRow {
    /// E-mails are sent at all.
    pub enabled: bool,
    /// `production` or `simulation`; nothing where nobody carries them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// Who carries them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'static str>,
    /// How that one is; nothing where they are off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What is allowed for them.
    pub limits: AllowedRow,
}

/// How each outside system is.
#[derive(Serialize)]
pub struct HealthRow {
    /// The store.
    pub redis: Health,
    /// The broker.
    pub rabbitmq: Health,
    /// The provider of text messages, whichever it is: the key is part of the interface.
    #[serde(rename = "twilio")]
    pub sms_provider: Health,
}

/// How one outside system is.
#[derive(Clone, Serialize)]
pub struct Health {
    /// How it is.
    pub state: State,
    /// What is to be said of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long its answer took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// When it was asked, if not just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
}

/// How an outside system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It answers.
    Up,
    /// It does not answer.
    Down,
    /// It answers, and refuses us: our credentials, or it has no way in for them.
    Refused,
    /// It answers, and does not let us do all that we want.
    Limited,
    /// It is part of this process.
    InMemory,
    /// Messages are shown instead of sent.
    Simulated,
    /// This process has nothing to ask it with.
    NotConfigured,
    /// It is being asked for somebody else.
    Unknown,
}

/// How the kill switch stands.
#[derive(Serialize)]
pub struct KillSwitchRow {
    /// Nothing is sent.
    pub on: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is allowed; times in seconds.
#[derive(Serialize)]
pub struct AllowedRow {
    /// Sends to a recipient in the window.
    pub per_number: u32,
    /// How long the window is.
    pub window: u64,
    /// Sends to a recipient in a day.
    pub per_day: u32,
    /// Sends for a user in an hour.
    pub per_user: u32,
    /// Sends for a client address in an hour.
    pub per_ip: u32,
    /// All sends in an hour.
    pub all_per_hour: u32,
    /// Between two sends to a recipient.
    pub cooldown: u64,
    /// Wrong tries on a code.
    pub wrong_per_code: u32,
    /// Wrong tries of a recipient in an hour.
    pub wrong_per_hour: u32,
}

impl StatusRow {
    /// Something that is needed does not answer, or refuses us.
    pub fn is_down(&self) -> bool {
        let HealthRow { redis, rabbitmq, sms_provider } = &self.health;
        let down = |health: &Health| matches!(health.state, State::Down | State::Refused);
        let email = self.email.health.as_ref().filter(|_| self.email.mode == Some(PRODUCTION));
        down(redis)
            || down(rabbitmq)
            || (down(sms_provider) && self.mode == PRODUCTION)
            || email.is_some_and(down)
    }
}

const PRODUCTION: &str = "production";

impl Inspector {
    /// Asks everybody at once.
    pub async fn status(&self) -> StatusRow {
        let ((redis, kill_switch), rabbitmq, sms_provider, email) = tokio::join!(
            self.ask_store(),
            self.ask_broker(),
            self.ask_provider(self.provider.as_ref(), &self.heard),
            self.email()
        );
        let Facts { version, role, production, sms_enabled, .. } = self.facts;
        let simulated = self.is_simulated(self.provider.as_ref(), &sms_provider);
        let provider =
            self.provider.as_ref().map_or(self.facts.sms_provider_default, |provider| provider.name());
        StatusRow {
            version,
            role,
            uptime: self.facts.started.map(|started| started.elapsed().as_secs()),
            environment: if production { PRODUCTION } else { "development" },
            mode: mode(simulated),
            provider: if simulated { SIMULATED } else { provider },
            sms_enabled,
            kill_switch,
            health: HealthRow { redis, rabbitmq, sms_provider },
            limits: allowed(&self.facts.limits),
            email,
            configured: self.facts.configured.clone(),
        }
    }

    async fn email(&self) -> EmailRow {
        let limits = allowed(&self.facts.limits.on(Channel::Email));
        if !self.facts.email_enabled {
            return EmailRow { enabled: false, mode: None, provider: None, health: None, limits };
        }
        let provider = self.email_provider.as_ref();
        let health = self.ask_provider(provider, &self.email_heard).await;
        let carrier = match self.is_simulated(provider, &health) {
            true => Some(SIMULATED),
            // Who has no account cannot know whose the workers' is.
            false => provider.map(|provider| provider.name()),
        };
        EmailRow {
            enabled: true,
            mode: carrier.map(|carrier| mode(carrier == SIMULATED)),
            provider: carrier,
            health: Some(health),
            limits,
        }
    }

    /// Where credentials are missing or refused, a worker in development shows messages.
    fn is_simulated(&self, provider: Option<&Arc<dyn Provider>>, health: &Health) -> bool {
        match provider {
            Some(provider) => {
                provider.name() == SIMULATED || (!self.facts.production && health.state == State::Refused)
            }
            None => !self.facts.production,
        }
    }

    async fn ask_store(&self) -> (Health, Option<KillSwitchRow>) {
        let (answer, ms) = timed(ANSWER_WITHIN, self.store.kill_switch()).await;
        let answer = answer.unwrap_or_else(|| Err(StoreError::Unavailable("no answer in time".to_owned())));
        match answer {
            Ok(switch) => {
                let state = if self.store_in_memory { State::InMemory } else { State::Up };
                (Health::answered(state, ms), Some(standing(switch)))
            }
            Err(error) => (Health::of(State::Down, error), None),
        }
    }

    async fn ask_broker(&self) -> Health {
        let Some(broker) = &self.broker else {
            return Health::silent(State::InMemory);
        };
        match timed(ANSWER_WITHIN, broker.probe()).await {
            (Some(Ok(())), ms) => Health::answered(State::Up, ms),
            (Some(Err(problem)), _) => Health::of(State::Down, problem),
            (None, _) => Health::of(State::Down, "no answer in time"),
        }
    }

    async fn ask_provider(
        &self,
        provider: Option<&Arc<dyn Provider>>,
        heard: &ProviderHealthCache,
    ) -> Health {
        let Some(provider) = provider else {
            return Health::of(
                State::NotConfigured,
                "no account is set in this process; a worker may have one",
            );
        };
        if provider.name() == SIMULATED {
            return Health::silent(State::Simulated);
        }
        match heard.turn(Instant::now()) {
            CachedHealth::Tell(Some(health)) => health,
            CachedHealth::Tell(None) => Health::of(State::Unknown, "it is being asked"),
            CachedHealth::Ask => {
                let asked_at = self.clock.now();
                let health = credentials(timed(PROVIDER_ANSWERS_WITHIN, provider.check_credentials()).await);
                heard.keep(&health, asked_at);
                health
            }
        }
    }
}

fn credentials((answer, ms): (Option<Result<(), CredentialError>>, u64)) -> Health {
    let state = match &answer {
        Some(Ok(())) => return Health::answered(State::Up, ms),
        Some(Err(fault)) if fault.is_refusal() => State::Refused,
        Some(Err(CredentialError::MayNotRead { .. })) => State::Limited,
        Some(Err(_)) | None => State::Down,
    };
    let detail = answer.and_then(Result::err).map(|fault| fault.to_string());
    Health::of(state, detail.as_deref().unwrap_or("no answer in time"))
}

/// An answer, if it came in time, and how long that took.
async fn timed<T>(limit: Duration, asked: impl Future<Output = T>) -> (Option<T>, u64) {
    let started = Instant::now();
    let answer = timeout(limit, asked).await.ok();
    (answer, millis(started.elapsed()))
}

impl Health {
    fn answered(state: State, ms: u64) -> Health {
        Health { ms: Some(ms), ..Health::silent(state) }
    }

    fn of(state: State, detail: impl ToString) -> Health {
        Health { detail: Some(detail.to_string()), ..Health::silent(state) }
    }

    fn silent(state: State) -> Health {
        Health { state, detail: None, ms: None, asked_at: None }
    }
}

/// What the provider said last, and when it was asked. Who asks is told that; one at a time asks anew.
#[derive(Default)]
pub struct ProviderHealthCache(Mutex<LastHeard>);

#[derive(Default)]
struct LastHeard {
    asked: Option<Instant>,
    health: Option<Health>,
}

enum CachedHealth {
    Ask,
    Tell(Option<Health>),
}

impl ProviderHealthCache {
    /// Whose turn it is. One who asks and goes away counts as having asked.
    fn turn(&self, now: Instant) -> CachedHealth {
        let mut last = self.0.lock().expect("nothing panics while it holds the lock");
        if last.asked.is_some_and(|asked| now.saturating_duration_since(asked) < PROVIDER_ASKED_EVERY) {
            return CachedHealth::Tell(last.health.clone());
        }
        last.asked = Some(now);
        CachedHealth::Ask
    }

    fn keep(&self, health: &Health, asked_at: UnixMillis) {
        let health = Health { asked_at: Some(asked_at.to_string()), ..health.clone() };
        self.0.lock().expect("nothing panics while it holds the lock").health = Some(health);
    }
}

fn mode(simulated: bool) -> &'static str {
    if simulated { "simulation" } else { PRODUCTION }
}

fn standing(switch: Option<KillSwitch>) -> KillSwitchRow {
    match switch {
        None => KillSwitchRow { on: false, since: None, reason: None },
        Some(KillSwitch { since, reason }) => {
            KillSwitchRow { on: true, since: Some(since.to_string()), reason: Some(reason) }
        }
    }
}

fn allowed(limits: &Limits) -> AllowedRow {
    AllowedRow {
        per_number: limits.number.count,
        window: limits.number.window.as_secs(),
        per_day: limits.number_day.count,
        per_user: limits.user.count,
        per_ip: limits.ip.count,
        all_per_hour: limits.all.count,
        cooldown: limits.cooldown.as_secs(),
        wrong_per_code: limits.wrong_per_challenge,
        wrong_per_hour: limits.wrong.count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_and_who_comes_meanwhile_is_told_what_is_known() {
        let (heard, began) = (ProviderHealthCache::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let told = |turn| match turn {
            CachedHealth::Ask => "ask",
            CachedHealth::Tell(None) => "nothing yet",
            CachedHealth::Tell(Some(_)) => "known",
        };
        assert_eq!(told(heard.turn(at(0))), "ask");
        // Should the first one have gone away without an answer, nobody asks instead of it for a while.
        assert_eq!(told(heard.turn(at(29))), "nothing yet");
        assert_eq!(told(heard.turn(at(30))), "ask");
        heard.keep(&Health::silent(State::Up), UnixMillis(0));
        assert_eq!(told(heard.turn(at(59))), "known");
        assert_eq!(told(heard.turn(at(60))), "ask");
    }
}
