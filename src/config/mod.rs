//! Settings: read from the environment, checked once, every fault told at once.
//!
//! A [`Settings`] is complete: nobody who holds one has to expect a value. A fault names the variable and the rule,
//! never the value. What a command does not need, it does not ask for.

mod email;
mod provider;
mod raw;
mod reader;
mod templates;
mod tokens;
mod validators;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use self::reader::Reader;
pub use self::templates::TemplateText;
use crate::domain::code::{CodeKeyring, CodeLength};
use crate::domain::limit::Limits;
use crate::domain::mailbox::Mailbox;
use crate::domain::message_match::InDoubtPolicy;
use crate::domain::phone::Region;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::zone::Zone;

/// What a process is started for: it decides which settings must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends messages.
    Worker,
    /// Answers HTTP.
    Http,
    /// Both.
    Serve,
    /// Both, on a laptop: always development, and nothing has to be set.
    Dev,
    /// Looks at the store.
    Store,
    /// Declares the broker's topology.
    Topology,
    /// Makes tokens for development.
    Token,
    /// Looks at the store, the broker and the provider.
    Status,
    /// Looks at texts.
    Texts,
    /// Looks at numbers only.
    Offline,
    /// Shows what is set.
    Show,
}

/// Whose money it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Real people, real messages. The default.
    Production,
    /// Nothing is sent without credentials; well-known keys stand in for missing ones.
    Development,
}

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub name: String,
    /// What it must be. Never what it is.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(name: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { name: name.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.problem)
    }
}

/// All that is wrong, beside what could be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", .faults.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors {
    /// Every fault.
    pub faults: Vec<ConfigError>,
    /// Every setting as it may be shown.
    pub shown: Vec<Shown>,
    /// What a person should know besides.
    pub notices: Vec<String>,
}

/// A setting as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// The variable.
    pub name: &'static str,
    /// Its value in effect; a secret is `(set)`, nothing is `(not set)`.
    pub value: String,
    /// It was given, not a default.
    pub given: bool,
}

/// Everything, checked.
pub struct Settings {
    /// Production or development.
    pub environment: Environment,
    /// Where RabbitMQ is; nothing where a command does without.
    pub amqp_url: Option<SecretString>,
    /// Starts the names of all exchanges and queues.
    pub amqp_prefix: String,
    /// Where Redis is.
    pub redis_url: Option<SecretString>,
    /// Starts the names of all keys.
    pub redis_prefix: String,
    /// Where users' requests are answered.
    pub http_addr: SocketAddr,
    /// Where probes and metrics are answered.
    pub ops_addr: SocketAddr,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which reply queues may be used: names, or prefixes that end in `*`.
    pub reply_to_allowed: Vec<String>,
    /// Makes and checks codes.
    pub codes: Option<Arc<CodeKeyring>>,
    /// Names recipients in the store.
    pub recipients: Option<Arc<RecipientKeyring>>,
    /// Digits of a code.
    pub code_length: CodeLength,
    /// A code's life.
    pub code_life: Duration,
    /// What is allowed.
    pub limits: Limits,
    /// Text messages are sent at all.
    pub sms_enabled: bool,
    /// E-mails are.
    pub email_enabled: bool,
    /// Countries that messages go to; nothing for all.
    pub allowed_countries: Option<BTreeSet<String>>,
    /// Landlines are sent to.
    pub allow_landline: bool,
    /// Texts stay in the GSM-7 alphabet.
    pub gsm7: bool,
    /// The name that texts begin with.
    pub brand: String,
    /// The region of numbers without a country code.
    pub default_region: Region,
    /// The language of texts when a request names none.
    pub default_locale: String,
    /// Whose clock the times in texts go by when a request names none.
    pub default_zone: Zone,
    /// The operator's own texts; nothing where no texts are made.
    pub templates: Option<Vec<TemplateText>>,
    /// The account at Twilio, if there is one.
    pub twilio: Option<Twilio>,
    /// Twilio Verify is to make the codes and texts of text messages, whether or not there is an account.
    pub sms_verify: bool,
    /// Who carries the e-mails, if anybody does.
    pub email: Option<EmailProvider>,
    /// What the reports of SendGrid are checked with; nothing where none are taken.
    pub sendgrid_webhook_key: Option<String>,
    /// The longest wait for a provider's answer.
    pub provider_timeout: Duration,
    /// Messages a second of one sender, over all workers; nothing where that is not bounded.
    pub sender_pace: Option<f64>,
    /// What is done about a send whose answer was lost.
    pub in_doubt: InDoubtPolicy,
    /// How long a receipt is waited for; nothing if none is asked for.
    pub receipt_wait: Option<Duration>,
    /// Requests handled at once.
    pub concurrency: u16,
    /// Deliveries taken at once.
    pub prefetch: u16,
    /// How long a stop waits for what is in flight.
    pub shutdown_grace: Duration,
    /// How long a request over HTTP waits for its result.
    pub send_wait: Duration,
    /// How tokens are checked.
    pub jwt: Option<Jwt>,
    /// Log lines are JSON.
    pub log_json: bool,
    /// Which log lines are written.
    pub log_filter: String,
    /// What a person should know before starting.
    pub notices: Vec<String>,
    /// Every setting as it may be shown.
    pub shown: Vec<Shown>,
}

/// An account at Twilio.
pub struct Twilio {
    /// `AC…`.
    pub account_sid: String,
    /// What signs our calls: the user name and the password of HTTP Basic.
    pub user: String,
    /// The password.
    pub password: SecretString,
    /// The service that makes and checks the codes, where Twilio does.
    pub verify: Option<VerifyService>,
    /// Who messages come from; nothing where none are sent and none is set, or a Verify service chooses.
    pub sender: Option<TwilioSender>,
    /// Where the API is.
    pub base_url: String,
    /// Where Twilio is to report what became of a message.
    pub status_callback: Option<String>,
    /// Every token of the account: reports are signed with one of them.
    pub tokens: Vec<SecretString>,
}

/// A service of Twilio Verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyService {
    /// `VA…`.
    pub sid: String,
    /// Where the API is.
    pub base_url: String,
}

/// Who messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwilioSender {
    /// One or more numbers.
    Numbers(Vec<String>),
    /// A Messaging Service, `MG…`.
    Service(String),
}

/// Who carries the e-mails.
pub enum EmailProvider {
    /// Twilio SendGrid.
    SendGrid(SendGrid),
    /// A mail server.
    Smtp(Smtp),
}

/// An account at SendGrid.
pub struct SendGrid {
    /// What our calls are allowed by.
    pub api_key: SecretString,
    /// Who e-mails come from.
    pub from: Mailbox,
    /// Where the API is.
    pub base_url: String,
}

/// A mail server that takes e-mails from us.
pub struct Smtp {
    /// Where it is, and as whom we come.
    pub url: SecretString,
    /// Who e-mails come from.
    pub from: Mailbox,
}

/// How tokens are checked.
pub struct Jwt {
    /// The one source of keys.
    pub key: JwtKey,
    /// The issuer that tokens must name.
    pub issuer: Option<String>,
    /// The audience that tokens must name.
    pub audience: Option<String>,
}

/// The one source of keys that tokens are checked with.
pub enum JwtKey {
    /// HS256.
    Secret(SecretString),
    /// A public key in PEM: its kind decides between RS256, ES256 and EdDSA.
    Pem(String),
    /// Where the issuer publishes its public keys, as a JSON Web Key Set (RFC 7517).
    Jwks(String),
}

impl Settings {
    /// Reads the process's environment and, in development, `.env`.
    pub fn load(
        role: Role,
        check: impl FnOnce(&Settings) -> Vec<ConfigError>,
    ) -> Result<Settings, ConfigErrors> {
        Settings::read(role, std::env::vars_os(), Path::new(".env"), check)
    }

    /// Reads the given variables and, in development, the given file. `check` looks at what could be read, and knows
    /// rules that only those know who will use it.
    pub fn read(
        role: Role,
        variables: impl Iterator<Item = (OsString, OsString)>,
        dotenv: &Path,
        check: impl FnOnce(&Settings) -> Vec<ConfigError>,
    ) -> Result<Settings, ConfigErrors> {
        let mut faults = Vec::new();
        let mut variables = raw::environment(variables, &mut faults);
        if role == Role::Dev {
            variables.insert("ENVIRONMENT".to_owned(), "development".to_owned());
        }
        // The file itself cannot say that this is development: left behind on a server, it would turn keys into
        // well-known ones and messages into simulated ones.
        if variables.get("ENVIRONMENT").is_some_and(|name| name.trim() == "development") {
            raw::add_dotenv(&mut variables, dotenv, &mut faults);
        }
        raw::add_files(&mut variables, &mut faults);
        let raw = raw::read(&variables);
        let mut reader = Reader::new(&raw, role, faults);
        reader.notice_unknown(&variables);
        let settings = reader.settings();
        let mut faults = reader.faults;
        for fault in check(&settings) {
            // One fault a variable: the second would often be the first in other words.
            if faults.iter().all(|known| known.name != fault.name) {
                faults.push(fault);
            }
        }
        if faults.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigErrors { faults, shown: settings.shown, notices: settings.notices })
        }
    }

    /// True where nothing real is at stake.
    pub fn is_development(&self) -> bool {
        self.environment == Environment::Development
    }
}

/// The secret that signs tokens for development, where tokens are checked with a secret at all.
pub fn signing_secret(jwt: &Jwt) -> Option<&str> {
    match &jwt.key {
        JwtKey::Secret(secret) => Some(secret.expose_secret()),
        JwtKey::Pem(_) | JwtKey::Jwks(_) => None,
    }
}
