//! The settings, complete and checked.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::collector::Traces;
use super::providers::{EmailProvider, EmailWebhook, SmsProvider};
use super::templates::TemplateText;
use crate::domain::amount::Currency;
use crate::domain::budget::Budgets;
use crate::domain::code::{CodeKeyring, CodeLength};
use crate::domain::defence::DefenceMode;
use crate::domain::failover::DoubtFailover;
use crate::domain::limit::Limits;
use crate::domain::phone::Region;
use crate::domain::prices::Prices;
use crate::domain::printable::printable;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::scaling::ScalePolicy;
use crate::domain::shards::Shards;
use crate::domain::stream_age::StreamAge;
use crate::domain::test_number::TestNumbers;
use crate::domain::time_zone::Zone;

/// The purpose of a process: it decides which settings are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Worker,
    Http,
    Serve,
    /// Worker and HTTP on a laptop: always in development, and no setting is required.
    Dev,
    Store,
    Topology,
    Token,
    /// Checks the store, the broker and the providers.
    Status,
    Texts,
    /// Checks the file of providers.
    Providers,
    /// Needs no outside system.
    Offline,
    Show,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Real messages to real people. The default.
    Production,
    /// Without credentials messages are simulated; public development keys replace missing keys.
    Development,
}

/// The way in which `otpost dev` sends messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevProvider {
    /// Messages are shown on the console.
    Simulated,
    /// The providers of the settings send real messages.
    Configured,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The environment variable, or a file of `TEMPLATES_DIR`.
    /// On one line, as the name of a variable may have any character.
    pub name: String,
    /// The rule that the value breaks. Never the value.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(name: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { name: printable(name).into_owned(), problem: printable(&problem.into()).into_owned() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.problem)
    }
}

/// All errors, with the settings that could be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", .errors.iter().map(|error| format!("  {error}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors {
    pub errors: Vec<ConfigError>,
    pub shown: Vec<Shown>,
    /// Settings that are valid and probably not intended.
    pub notices: Vec<String>,
    /// Nothing names an environment, not even a `.env` that is not read.
    pub production_by_default: bool,
}

/// A setting in a form that may be shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    pub name: &'static str,
    /// The value in effect; `(set)` for a secret, `(not set)` for none.
    pub value: String,
    /// Given, not a default.
    pub given: bool,
}

/// Every setting, checked.
pub struct Settings {
    pub environment: Environment,
    /// `None` for a command that needs no broker, or in memory.
    pub amqp_url: Option<SecretString>,
    /// `None` without TLS.
    pub amqp_tls: Option<TlsFiles>,
    pub amqp_prefix: String,
    /// The audit stream keeps records at least so long.
    pub audit_keep: StreamAge,
    /// `None` for a command that needs no store, or in memory.
    pub redis_url: Option<SecretString>,
    /// `None` without TLS.
    pub redis_tls: Option<TlsFiles>,
    pub redis_prefix: String,
    /// The shards that the recipients of Redis spread over.
    pub redis_shards: Shards,
    pub http_addr: SocketAddr,
    /// The address of probes and metrics.
    pub ops_addr: SocketAddr,
    /// `http_addr` also serves the operators' console.
    pub ops_console: bool,
    /// Connections to `http_addr` at once.
    pub connections_max: usize,
    /// Request heads and bodies in memory, over all connections.
    pub bytes_in_flight_max: usize,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Reply queues that may be used: names, or prefixes that end in `*`.
    pub reply_to_allowed: Vec<String>,
    pub code_keyring: Option<Arc<CodeKeyring>>,
    pub recipients: Option<Arc<RecipientKeyring>>,
    pub code_length: CodeLength,
    pub caller_codes_allowed: bool,
    pub test_numbers: Arc<TestNumbers>,
    pub code_life: Duration,
    pub limits: Limits,
    pub defence: DefenceMode,
    /// The budgets of the defence, in percent of the floors.
    pub defence_budget_percent: u32,
    pub sms_enabled: bool,
    pub email_enabled: bool,
    /// `None`: all countries.
    pub allowed_countries: Option<BTreeSet<String>>,
    /// Codes of no country, such as `+881`.
    pub allowed_shared_codes: BTreeSet<String>,
    pub allow_landline: bool,
    /// Texts stay in the GSM-7 alphabet.
    pub gsm7: bool,
    pub brand: String,
    /// The region of numbers without a country code.
    pub default_region: Region,
    pub default_locale: String,
    /// The time zone of times in texts.
    pub default_zone: Zone,
    pub spend: SpendSettings,
    /// The operator's own templates; `None` for a command that needs no texts.
    pub templates: Option<Vec<TemplateText>>,
    pub sms_provider: Option<SmsProvider>,
    /// The chosen provider of text messages makes the codes and writes the texts, with or without an account.
    pub sms_provider_makes_codes: bool,
    pub email_provider: Option<EmailProvider>,
    pub email_webhook: Option<EmailWebhook>,
    pub provider_timeout: Duration,
    /// Messages a second of one sender, over all workers; `None`: not limited.
    pub sender_rate: Option<f64>,
    pub in_doubt: DoubtFailover,
    /// The time after which an overdue receipt is no longer polled; `None`: receipts are not polled.
    pub receipt_wait: Option<Duration>,
    /// Requests processed at once.
    pub concurrency: u16,
    pub prefetch: u16,
    pub scale_policy: ScalePolicy,
    /// The longest drain at shutdown.
    pub shutdown_grace: Duration,
    /// The longest wait of an HTTP request for its result.
    pub send_wait: Duration,
    pub jwt: Option<Jwt>,
    /// `None`: no proof is made.
    pub proofs: Option<ProofSettings>,
    pub log_json: bool,
    pub log_filter: String,
    /// `None`: off.
    pub traces: Option<Traces>,
    pub notices: Vec<String>,
    pub shown: Vec<Shown>,
}

pub struct SpendSettings {
    /// Empty in a process that sends nothing.
    pub prices: Arc<Prices>,
    pub prices_file: Option<PathBuf>,
    /// There is no file of prices.
    pub is_estimate: bool,
    pub currency: Currency,
    pub budgets: Budgets,
}

/// The files of TLS toward a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Roots that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    pub client: Option<ClientFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub struct Jwt {
    pub key: JwtKey,
    /// The required `iss`.
    pub issuer: Option<String>,
    /// The required `aud`.
    pub audience: Option<String>,
}

/// The keys and the names of proofs.
pub struct ProofSettings {
    /// Private keys in PEM. The first signs; the public halves of all are published.
    pub keys: SecretString,
    /// The `iss` of proofs.
    pub issuer: String,
    /// The `aud` of proofs.
    pub audience: String,
}

/// The one source of keys that tokens are checked with.
pub enum JwtKey {
    /// HS256.
    Secret(SecretString),
    /// A public key in PEM; its type decides between RS256, ES256 and EdDSA.
    Pem(String),
    /// The URL of the issuer's JSON Web Key Set (RFC 7517).
    Jwks(String),
}

impl Settings {
    pub fn is_development(&self) -> bool {
        self.environment == Environment::Development
    }
}

/// The secret that signs tokens for development; `None` if tokens are checked with public keys.
pub fn signing_secret(jwt: &Jwt) -> Option<&str> {
    match &jwt.key {
        JwtKey::Secret(secret) => Some(secret.expose_secret()),
        JwtKey::Pem(_) | JwtKey::Jwks(_) => None,
    }
}
