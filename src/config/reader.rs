//! Every setting with its default and its rule, read from text into [`Settings`].

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::raw::{self, RawSettings, Variables};
use super::settings::{ConfigError, Environment, Role, Settings, Shown};
use super::templates::{TemplateText, read_directory};
use super::validators::{hours, is_loopback, key_bytes, minutes, parts, seconds};
use crate::domain::code::{CodeKey, CodeKeyring, CodeLength, Kid};
use crate::domain::defence::DefenceMode;
use crate::domain::language_tag::is_bcp47;
use crate::domain::limit::{COOLDOWN_SECONDS, Limit, Limits, NumberSetting, WRONG_PER_CHALLENGE};
use crate::domain::phone::Region;
use crate::domain::printable::printable;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::scaling::ScalePolicy;
use crate::domain::server_url::ServerUrl;
use crate::domain::shards::Shards;
use crate::domain::stream_age::StreamAge;
use crate::domain::time_zone::Zone;

/// Public development keys. Production refuses them.
pub(super) mod development {
    pub(in crate::config) const OTP_SECRET_KEYS: &str = "dev:ZGV2ZWxvcG1lbnQgb25seSwga25vd24gdG8gYWxsISE=";
    pub(in crate::config) const OTP_RECIPIENT_KEY: &str = "ZGV2ZWxvcG1lbnQgcmVjaXBpZW50IGtleSwgcHVibGk=";
}

/// Reads settings one by one and collects every error.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a RawSettings,
    role: Role,
    pub(super) errors: Vec<ConfigError>,
    shown: Vec<Shown>,
    pub(super) notices: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: &'a RawSettings, role: Role, errors: Vec<ConfigError>) -> Reader<'a> {
        Reader { raw, role, errors, shown: Vec::new(), notices: Vec::new() }
    }

    /// Adds a notice for each variable that has no effect.
    pub(super) fn notice_unknown(&mut self, variables: &Variables) {
        for name in raw::unknown(variables) {
            let name = printable(&name);
            self.notices.push(format!("{name} is set, but is no setting of otpost: is it misspelt?"));
        }
    }

    pub(super) fn settings(&mut self, variables: &Variables) -> Settings {
        let environment = self.environment();
        let development = environment == Environment::Development;
        let amqp_prefix = self.prefix("AMQP_PREFIX", "otpost");
        let concurrency: u16 = self.number("WORKER_CONCURRENCY", 64, 1, 4_096);
        let email = self.email(development);
        let (amqp_url, redis_url) = (self.amqp_url(development), self.redis_url(development));
        let (allowed_countries, allowed_shared_codes) = self.countries();
        let mut settings = Settings {
            environment,
            amqp_tls: self.amqp_tls(amqp_url.as_ref()),
            amqp_url,
            redis_tls: self.redis_tls(redis_url.as_ref()),
            redis_url,
            redis_prefix: self.prefix("REDIS_PREFIX", &amqp_prefix),
            amqp_prefix,
            audit_keep: self.parsed("AUDIT_KEEP", "400D", StreamAge::RULE),
            redis_shards: self.parsed("REDIS_SHARDS", "1", Shards::RULE),
            http_addr: self.address("HTTP_ADDR", "127.0.0.1:8080"),
            ops_addr: self.address("OPS_ADDR", "127.0.0.1:9090"),
            ops_console: self.boolean("OPS_CONSOLE", false),
            connections_max: self.number("HTTP_MAX_CONNECTIONS", 1_000, 1, 65_536),
            bytes_in_flight_max: self.bytes_in_flight_max(),
            trusted_proxies: self.trusted_proxies(),
            reply_to_allowed: self.reply_to_allowed(),
            code_keyring: self.code_keyring(development),
            recipients: self.recipients(development),
            code_length: self.code_length(),
            caller_codes_allowed: self.choice("OTP_CALLER_CODES", "refuse", &["allow", "refuse"]) == "allow",
            test_numbers: Arc::default(),
            code_life: minutes(self.number("OTP_EXPIRATION_MINUTES", 10, 1, 1_440)),
            limits: self.limits(),
            defence: self.defence(),
            defence_budget_percent: self.number("DEFENCE_BUDGET_PERCENT", 100, 10, 10_000),
            sms_enabled: self.boolean("SMS_ENABLED", true),
            email_enabled: email.enabled,
            allowed_countries,
            allowed_shared_codes,
            allow_landline: self.boolean("SMS_ALLOW_LANDLINE", false),
            gsm7: self.choice("SMS_ENCODING", "gsm7", &["gsm7", "unicode"]) == "gsm7",
            brand: self.brand(development),
            default_region: self.default_region(),
            default_locale: self.default_locale(),
            default_zone: self.default_zone(),
            spend: self.spend(),
            templates: self.templates(),
            sms_provider: self.sms_provider(development, variables),
            sms_provider_makes_codes: self.sms_provider_makes_codes(),
            email_provider: email.provider,
            email_webhook: email.webhook,
            provider_timeout: seconds(self.number("PROVIDER_TIMEOUT_SECONDS", 15, 4, 60)),
            sender_rate: self.sender_rate(),
            in_doubt: self.in_doubt(),
            receipt_wait: self.receipt_wait(),
            concurrency,
            prefetch: self.number("WORKER_PREFETCH", concurrency + concurrency.div_ceil(10), 1, 8_192),
            scale_policy: self.scale_policy(),
            send_wait: Duration::from_millis(self.number("HTTP_SEND_WAIT_MS", 3_000, 0, 8_000)),
            shutdown_grace: seconds(self.number("SHUTDOWN_GRACE_SECONDS", 25, 0, 600)),
            jwt: self.jwt(development),
            proofs: None,
            log_json: self.log_json(development),
            log_filter: self.text("RUST_LOG", "info"),
            traces: self.traces(),
            notices: Vec::new(),
            shown: Vec::new(),
        };
        self.finish(&mut settings);
        settings
    }

    fn finish(&mut self, settings: &mut Settings) {
        settings.proofs = self.proofs(settings.jwt.as_ref());
        settings.test_numbers = self.test_numbers(settings.code_length);
        self.check_together(settings);
        (settings.notices, settings.shown) =
            (std::mem::take(&mut self.notices), std::mem::take(&mut self.shown));
    }

    /// The rules that concern more than one setting.
    fn check_together(&mut self, settings: &Settings) {
        if settings.environment != Environment::Development {
            self.check_keys();
            self.check_test_numbers(settings);
        }
        if settings.prefetch < settings.concurrency {
            self.error("WORKER_PREFETCH", "must be at least WORKER_CONCURRENCY");
        }
        if self.needs("TWILIO") && settings.shutdown_grace < settings.provider_timeout {
            let cause = "SHUTDOWN_GRACE_SECONDS is less than PROVIDER_TIMEOUT_SECONDS";
            self.notices.push(format!("{cause}: an attempt that shutdown interrupts is in doubt"));
        }
    }

    fn amqp_url(&mut self, development: bool) -> Option<SecretString> {
        self.url("AMQP_URL", &["amqp", "amqps"], "amqp://guest:guest@127.0.0.1:5672/%2f", development)
    }

    fn redis_url(&mut self, development: bool) -> Option<SecretString> {
        let schemes =
            ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];
        self.url("REDIS_URL", &schemes, "redis://127.0.0.1:6379", development)
    }

    fn address(&mut self, name: &'static str, default: &str) -> SocketAddr {
        let rule = match name {
            "OPS_ADDR" => "must be an address and a port, such as 0.0.0.0:9090",
            _ => "must be an address and a port, such as 0.0.0.0:8080",
        };
        self.parsed(name, default, rule)
    }

    fn bytes_in_flight_max(&mut self) -> usize {
        const MIB: usize = 1024 * 1024;
        self.number("HTTP_MAX_BYTES_IN_FLIGHT", 16 * MIB, 2 * MIB, 1024 * MIB)
    }

    fn trusted_proxies(&mut self) -> Vec<IpNet> {
        self.list("HTTP_TRUSTED_PROXIES", "", "must be a comma list of CIDRs, such as 10.0.0.0/8")
    }

    fn reply_to_allowed(&mut self) -> Vec<String> {
        self.list("REPLY_TO_ALLOWED", "amq.rabbitmq.reply-to.*,amq.gen-*,reply.*", "must be a list")
    }

    fn defence(&mut self) -> DefenceMode {
        let words = DefenceMode::ALL.map(DefenceMode::as_str);
        let chosen = self.choice("DEFENCE", DefenceMode::default().as_str(), &words);
        DefenceMode::ALL.into_iter().find(|mode| mode.as_str() == chosen).unwrap_or_default()
    }

    fn code_length(&mut self) -> CodeLength {
        CodeLength::new(self.number("OTP_CODE_LENGTH", 6, 4, 10)).expect("4 to 10 was checked")
    }

    fn scale_policy(&mut self) -> ScalePolicy {
        ScalePolicy {
            workers_max: self.number("SCALE_MAX", 20, 1, 500),
            backlog_within: seconds(self.number("SCALE_BACKLOG_SECONDS", 30, 1, 3_600)),
        }
    }

    fn receipt_wait(&mut self) -> Option<Duration> {
        Some(hours(self.number("RECEIPT_WAIT_HOURS", 4, 0, 20))).filter(|wait| !wait.is_zero())
    }

    fn log_json(&mut self, development: bool) -> bool {
        let default = if development { "pretty" } else { "json" };
        self.choice("LOG_FORMAT", default, &["pretty", "json"]) == "json"
    }

    fn environment(&mut self) -> Environment {
        match self.choice("ENVIRONMENT", "production", &["production", "development"]).as_str() {
            "development" => Environment::Development,
            _ => Environment::Production,
        }
    }

    /// True if this process needs the setting or the group of settings.
    pub(super) fn needs(&self, name: &str) -> bool {
        use Role::{Dev, Http, Providers, Serve, Status, Store, Texts, Token, Topology, Worker};
        if self.role == Role::Show {
            return true;
        }
        match name {
            "AMQP_URL" => matches!(self.role, Worker | Http | Serve | Topology | Status),
            "REDIS_URL" => matches!(self.role, Worker | Http | Serve | Store | Status),
            "AMQP_TLS" => self.role == Dev || self.needs("AMQP_URL"),
            "REDIS_TLS" => self.role == Dev || self.needs("REDIS_URL"),
            "TRACES" => matches!(self.role, Worker | Http | Serve | Dev),
            "OTP_SECRET_KEYS" => matches!(self.role, Worker | Http | Serve),
            "OTP_RECIPIENT_KEY" => matches!(self.role, Worker | Http | Serve | Store),
            "CODE_CHECKS" => matches!(self.role, Worker | Http | Serve),
            "HTTP" => matches!(self.role, Http),
            "PROOFS" => matches!(self.role, Http | Serve | Dev),
            "JWT" => matches!(self.role, Http | Serve | Token),
            "TWILIO" | "SMS_BRAND" => matches!(self.role, Worker | Serve),
            "TEMPLATES_DIR" => matches!(self.role, Worker | Serve | Dev | Texts),
            "PROVIDERS_FILE" => matches!(self.role, Worker | Http | Serve | Dev | Status | Providers),
            "PROVIDERS" => self.role == Providers,
            "SENDER" | "EMAIL" => matches!(self.role, Worker | Serve | Dev),
            _ => false,
        }
    }

    /// The first error of a variable counts: a second one would often follow from it.
    pub(super) fn error(&mut self, name: &str, problem: impl Into<String>) {
        if self.errors.iter().all(|known| known.name != name) {
            self.errors.push(ConfigError::new(name, problem));
        }
    }

    pub(super) fn show(&mut self, name: &'static str, value: impl ToString) {
        let given = self.raw.get(name).is_some();
        self.shown.push(Shown { name, value: value.to_string(), given });
    }

    pub(super) fn show_development_default(&mut self, name: &str) {
        if let Some(shown) = self.shown.iter_mut().find(|shown| shown.name == name) {
            shown.value = "(development default)".to_owned();
        }
    }

    /// The value, or the default; shown unless it is a secret.
    pub(super) fn text(&mut self, name: &'static str, default: &str) -> String {
        let value = self.raw.get(name).unwrap_or(default).to_owned();
        self.show(name, if value.is_empty() { "(not set)" } else { &value });
        value
    }

    pub(super) fn secret(&mut self, name: &'static str) -> Option<String> {
        let value = self.raw.get(name).map(str::to_owned);
        self.show(name, if value.is_some() { "(set)" } else { "(not set)" });
        value
    }

    fn parsed<T: FromStr>(&mut self, name: &'static str, default: &str, rule: &str) -> T {
        let text = self.text(name, default);
        text.parse().unwrap_or_else(|_| {
            self.error(name, rule);
            default.parse().unwrap_or_else(|_| unreachable!("the default of {name} follows its rule"))
        })
    }

    pub(super) fn number<T>(&mut self, name: &'static str, default: T, min: T, max: T) -> T
    where
        T: FromStr + fmt::Display + PartialOrd + Copy,
    {
        let text = self.text(name, &default.to_string());
        match text.parse() {
            Ok(number) if (min..=max).contains(&number) => number,
            _ => {
                self.error(name, format!("must be a whole number from {min} to {max}"));
                default
            }
        }
    }

    pub(super) fn is_given(&self, name: &str) -> bool {
        self.raw.get(name).is_some()
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let text = self.text(name, if default { "true" } else { "false" }).to_ascii_lowercase();
        match text.as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.error(name, "must be true or false");
                default
            }
        }
    }

    pub(super) fn choice(&mut self, name: &'static str, default: &str, choices: &[&str]) -> String {
        let text = self.text(name, default);
        if choices.contains(&text.as_str()) {
            return text;
        }
        self.error(name, format!("must be one of {}", choices.join(", ")));
        default.to_owned()
    }

    pub(super) fn list<T: FromStr>(&mut self, name: &'static str, default: &str, rule: &str) -> Vec<T> {
        let text = self.text(name, default);
        let items: Result<Vec<T>, _> = parts(&text).map(str::parse).collect();
        items.unwrap_or_else(|_| {
            self.error(name, rule);
            Vec::new()
        })
    }

    /// Plain HTTP would expose credentials and codes on the network, so only this machine may use it.
    pub(super) fn check_base_url(&mut self, name: &str, url: &str) {
        let ok = match url.strip_prefix("http://") {
            Some(rest) => is_loopback(rest),
            None => url.starts_with("https://"),
        };
        if !ok {
            self.error(name, "must begin with https:// (http:// only for 127.0.0.1 or localhost)");
        }
    }

    fn prefix(&mut self, name: &'static str, default: &str) -> String {
        let text = self.text(name, default);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) || text.starts_with("amq.") {
            self.error(name, "must be 1 to 64 letters, digits, dots, _ or -, and not begin with amq.");
            return default.to_owned();
        }
        text
    }

    fn default_region(&mut self) -> Region {
        self.parsed("DEFAULT_REGION", "CO", "must be a country as two letters, such as CO")
    }

    fn default_locale(&mut self) -> String {
        let locale = self.text("DEFAULT_LOCALE", "es");
        if is_bcp47(&locale) {
            return locale;
        }
        self.error("DEFAULT_LOCALE", "must be a language tag (BCP 47), as es or pt-BR");
        "es".to_owned()
    }

    fn default_zone(&mut self) -> Zone {
        const BOGOTA: &str = "America/Bogota";
        let name = self.text("DEFAULT_TIMEZONE", BOGOTA);
        Zone::parse(&name).unwrap_or_else(|| {
            self.error("DEFAULT_TIMEZONE", Zone::RULE);
            Zone::parse(BOGOTA).expect("the database of time zones is built in")
        })
    }

    fn templates(&mut self) -> Option<Vec<TemplateText>> {
        let directory = self.text("TEMPLATES_DIR", "");
        match self.needs("TEMPLATES_DIR") {
            false => None,
            true if directory.is_empty() => Some(Vec::new()),
            true => Some(read_directory(directory.as_ref()).unwrap_or_else(|problem| {
                self.error("TEMPLATES_DIR", problem);
                Vec::new()
            })),
        }
    }

    /// Production must not send messages in the name of the example.
    fn brand(&mut self, development: bool) -> String {
        const EXAMPLE: &str = "MeStore";
        let brand = self.text("SMS_BRAND", if development { EXAMPLE } else { "" });
        if brand.is_empty() {
            if self.needs("SMS_BRAND") {
                self.error(
                    "SMS_BRAND",
                    "must be set: every text begins with the name of your shop or service",
                );
            }
            return EXAMPLE.to_owned();
        }
        if !(1..=32).contains(&brand.chars().count()) || brand.chars().any(char::is_control) {
            self.error("SMS_BRAND", "must be 1 to 32 characters, none of them a control character");
        }
        brand
    }

    /// A URL of servers. Its adapter knows the rules of hosts, path and parameters.
    fn url(
        &mut self,
        name: &'static str,
        schemes: &[&'static str],
        development_default: &str,
        development: bool,
    ) -> Option<SecretString> {
        match self.secret(name) {
            Some(url) => match ServerUrl::parse(&url, schemes) {
                Ok(_) => Some(url.into()),
                Err(problem) => {
                    self.error(name, problem.to_string());
                    None
                }
            },
            None if !self.needs(name) => None,
            None if development => {
                self.show_development_default(name);
                Some(development_default.into())
            }
            None => {
                self.error(name, "must be set");
                None
            }
        }
    }

    fn limits(&mut self) -> Limits {
        let mut limits = Limits::default();
        for limit in Limit::OF_SENDS {
            self.limit(limit, &mut limits);
        }
        limits.cooldown = seconds(self.number_setting(COOLDOWN_SECONDS).into());
        limits.wrong_per_challenge = self.number_setting(WRONG_PER_CHALLENGE);
        self.limit(Limit::Wrong, &mut limits);
        limits
    }

    fn limit(&mut self, limit: Limit, limits: &mut Limits) {
        if let Some(setting) = limit.count_setting() {
            limits[limit].count = self.number_setting(setting);
        }
        if let Some(setting) = limit.window_setting() {
            limits[limit].window = seconds(self.number_setting(setting).into());
        }
    }

    fn number_setting(&mut self, setting: NumberSetting) -> u32 {
        self.number(setting.name, setting.default, setting.min, setting.max)
    }

    fn code_keyring(&mut self, development: bool) -> Option<Arc<CodeKeyring>> {
        let text = self.key("OTP_SECRET_KEYS", development::OTP_SECRET_KEYS, development)?;
        let keys: Option<Vec<CodeKey>> = parts(&text)
            .map(|part| {
                let (kid, key) = part.split_once(':')?;
                Some(CodeKey::new(Kid::parse(kid)?, &*key_bytes(key)?))
            })
            .collect();
        let keyring = keys.and_then(CodeKeyring::new);
        if keyring.is_none() {
            let rule = "must be kid:key,kid:key with different kids of 1 to 16 letters, digits, - or _ \
                        and keys of 32 bytes as base64: openssl rand -base64 32";
            self.error("OTP_SECRET_KEYS", rule);
        }
        keyring.map(Arc::new)
    }

    fn recipients(&mut self, development: bool) -> Option<Arc<RecipientKeyring>> {
        let text = self.key("OTP_RECIPIENT_KEY", development::OTP_RECIPIENT_KEY, development)?;
        let key = key_bytes(&text);
        if key.is_none() {
            self.error("OTP_RECIPIENT_KEY", "must be 32 bytes as base64: openssl rand -base64 32");
        }
        key.map(|bytes| Arc::new(RecipientKeyring::new(&bytes)))
    }

    /// A key as set, or in development the public one.
    fn key(&mut self, name: &'static str, public: &str, development: bool) -> Option<Zeroizing<String>> {
        match self.secret(name) {
            Some(text) => Some(text.into()),
            None if development => {
                self.show_development_default(name);
                Some(public.to_owned().into())
            }
            None => {
                if self.needs(name) {
                    self.error(name, "must be set; docs/deploy.md shows how to make it");
                }
                None
            }
        }
    }
}
