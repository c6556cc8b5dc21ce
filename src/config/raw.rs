//! The raw settings: names and text from the environment, before any rule.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;

use super::dotenv::Dotenv;
use super::settings::ConfigError;
use super::text_file;
use crate::domain::printable::is_printable;

/// Decides if a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Never shown; also read from the file that `<NAME>_FILE` names.
    Secret,
}

macro_rules! raw_settings {
    ($($field:ident $name:literal $kind:ident,)+) => {
        /// Every setting is optional text, so that deserialisation cannot fail and echo a value.
        #[derive(Default, Deserialize)]
        pub(super) struct RawSettings { $(pub(super) $field: Option<String>,)+ }

        impl RawSettings {
            pub(super) const KINDS: &'static [(&'static str, Kind)] = &[$(($name, Kind::$kind),)+];

            pub(super) fn get(&self, name: &str) -> Option<&str> {
                match name {
                    $($name => self.$field.as_deref(),)+
                    _ => None,
                }
            }
        }
    };
}

raw_settings! {
    environment "ENVIRONMENT" Plain,
    amqp_url "AMQP_URL" Secret,
    amqp_ca_file "AMQP_CA_FILE" Plain,
    amqp_client_cert_file "AMQP_CLIENT_CERT_FILE" Plain,
    amqp_client_key_file "AMQP_CLIENT_KEY_FILE" Plain,
    amqp_prefix "AMQP_PREFIX" Plain,
    audit_keep "AUDIT_KEEP" Plain,
    redis_url "REDIS_URL" Secret,
    redis_ca_file "REDIS_CA_FILE" Plain,
    redis_client_cert_file "REDIS_CLIENT_CERT_FILE" Plain,
    redis_client_key_file "REDIS_CLIENT_KEY_FILE" Plain,
    redis_prefix "REDIS_PREFIX" Plain,
    redis_shards "REDIS_SHARDS" Plain,
    http_addr "HTTP_ADDR" Plain,
    ops_addr "OPS_ADDR" Plain,
    ops_console "OPS_CONSOLE" Plain,
    http_max_connections "HTTP_MAX_CONNECTIONS" Plain,
    http_max_bytes_in_flight "HTTP_MAX_BYTES_IN_FLIGHT" Plain,
    http_trusted_proxies "HTTP_TRUSTED_PROXIES" Plain,
    reply_to_allowed "REPLY_TO_ALLOWED" Plain,
    otp_secret_keys "OTP_SECRET_KEYS" Secret,
    otp_recipient_key "OTP_RECIPIENT_KEY" Secret,
    otp_test_numbers "OTP_TEST_NUMBERS" Secret,
    otp_code_length "OTP_CODE_LENGTH" Plain,
    otp_caller_codes "OTP_CALLER_CODES" Plain,
    otp_expiration_minutes "OTP_EXPIRATION_MINUTES" Plain,
    otp_max_attempts "OTP_MAX_ATTEMPTS" Plain,
    otp_resend_cooldown_seconds "OTP_RESEND_COOLDOWN_SECONDS" Plain,
    otp_wrong_per_hour "OTP_WRONG_PER_HOUR" Plain,
    sms_enabled "SMS_ENABLED" Plain,
    email_otp_enabled "EMAIL_OTP_ENABLED" Plain,
    sms_rate_limit_per_number "SMS_RATE_LIMIT_PER_NUMBER" Plain,
    sms_rate_limit_window "SMS_RATE_LIMIT_WINDOW" Plain,
    sms_rate_limit_per_day "SMS_RATE_LIMIT_PER_DAY" Plain,
    sms_rate_limit_per_user "SMS_RATE_LIMIT_PER_USER" Plain,
    sms_rate_limit_per_ip "SMS_RATE_LIMIT_PER_IP" Plain,
    sms_rate_limit_per_network "SMS_RATE_LIMIT_PER_NETWORK" Plain,
    sms_max_per_hour "SMS_MAX_PER_HOUR" Plain,
    defence "DEFENCE" Plain,
    defence_budget_percent "DEFENCE_BUDGET_PERCENT" Plain,
    sms_allowed_countries "SMS_ALLOWED_COUNTRIES" Plain,
    sms_allow_landline "SMS_ALLOW_LANDLINE" Plain,
    sms_encoding "SMS_ENCODING" Plain,
    sms_brand "SMS_BRAND" Plain,
    default_region "DEFAULT_REGION" Plain,
    default_locale "DEFAULT_LOCALE" Plain,
    default_timezone "DEFAULT_TIMEZONE" Plain,
    prices_file "PRICES_FILE" Plain,
    spend_currency "SPEND_CURRENCY" Plain,
    spend_per_hour_max "SPEND_PER_HOUR_MAX" Plain,
    spend_per_day_max "SPEND_PER_DAY_MAX" Plain,
    templates_dir "TEMPLATES_DIR" Plain,
    twilio_account_sid "TWILIO_ACCOUNT_SID" Plain,
    twilio_auth_token "TWILIO_AUTH_TOKEN" Secret,
    twilio_api_key_sid "TWILIO_API_KEY_SID" Plain,
    twilio_api_key_secret "TWILIO_API_KEY_SECRET" Secret,
    twilio_from_number "TWILIO_FROM_NUMBER" Plain,
    twilio_messaging_service_sid "TWILIO_MESSAGING_SERVICE_SID" Plain,
    twilio_api_base_url "TWILIO_API_BASE_URL" Plain,
    twilio_status_callback_url "TWILIO_STATUS_CALLBACK_URL" Plain,
    twilio_inbound_url "TWILIO_INBOUND_URL" Plain,
    twilio_sender_mps "TWILIO_SENDER_MPS" Plain,
    content_retention "CONTENT_RETENTION" Plain,
    address_retention "ADDRESS_RETENTION" Plain,
    sms_provider "SMS_PROVIDER" Plain,
    providers_file "PROVIDERS_FILE" Plain,
    twilio_verify_service_sid "TWILIO_VERIFY_SERVICE_SID" Plain,
    twilio_verify_base_url "TWILIO_VERIFY_BASE_URL" Plain,
    email_provider "EMAIL_PROVIDER" Plain,
    email_from "EMAIL_FROM" Plain,
    sendgrid_api_key "SENDGRID_API_KEY" Secret,
    sendgrid_api_base_url "SENDGRID_API_BASE_URL" Plain,
    sendgrid_webhook_public_key "SENDGRID_WEBHOOK_PUBLIC_KEY" Plain,
    smtp_url "SMTP_URL" Secret,
    smtp_ca_file "SMTP_CA_FILE" Plain,
    in_doubt_policy "IN_DOUBT_POLICY" Plain,
    doubt_failover_after_seconds "DOUBT_FAILOVER_AFTER_SECONDS" Plain,
    receipt_wait_hours "RECEIPT_WAIT_HOURS" Plain,
    provider_timeout_seconds "PROVIDER_TIMEOUT_SECONDS" Plain,
    worker_concurrency "WORKER_CONCURRENCY" Plain,
    worker_prefetch "WORKER_PREFETCH" Plain,
    scale_max "SCALE_MAX" Plain,
    scale_backlog_seconds "SCALE_BACKLOG_SECONDS" Plain,
    http_send_wait_ms "HTTP_SEND_WAIT_MS" Plain,
    shutdown_grace_seconds "SHUTDOWN_GRACE_SECONDS" Plain,
    jwt_secret "JWT_SECRET" Secret,
    jwt_public_key "JWT_PUBLIC_KEY" Secret,
    jwt_jwks_url "JWT_JWKS_URL" Plain,
    jwt_issuer "JWT_ISSUER" Plain,
    jwt_audience "JWT_AUDIENCE" Plain,
    proof_key "PROOF_KEY" Secret,
    proof_audience "PROOF_AUDIENCE" Plain,
    proof_issuer "PROOF_ISSUER" Plain,
    log_format "LOG_FORMAT" Plain,
    rust_log "RUST_LOG" Plain,
    otel_sdk_disabled "OTEL_SDK_DISABLED" Plain,
    otel_traces_exporter "OTEL_TRACES_EXPORTER" Plain,
    otel_exporter_otlp_endpoint "OTEL_EXPORTER_OTLP_ENDPOINT" Plain,
    otel_exporter_otlp_traces_endpoint "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" Plain,
    otel_exporter_otlp_headers "OTEL_EXPORTER_OTLP_HEADERS" Secret,
    otel_exporter_otlp_protocol "OTEL_EXPORTER_OTLP_PROTOCOL" Plain,
    otel_exporter_otlp_timeout "OTEL_EXPORTER_OTLP_TIMEOUT" Plain,
    otel_exporter_otlp_certificate "OTEL_EXPORTER_OTLP_CERTIFICATE" Plain,
    otel_exporter_otlp_traces_headers "OTEL_EXPORTER_OTLP_TRACES_HEADERS" Secret,
    otel_exporter_otlp_traces_protocol "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" Plain,
    otel_exporter_otlp_traces_timeout "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" Plain,
    otel_exporter_otlp_traces_certificate "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE" Plain,
    otel_service_name "OTEL_SERVICE_NAME" Plain,
    otel_resource_attributes "OTEL_RESOURCE_ATTRIBUTES" Plain,
    otel_traces_sampler "OTEL_TRACES_SAMPLER" Plain,
    otel_traces_sampler_arg "OTEL_TRACES_SAMPLER_ARG" Plain,
    traces_publisher "TRACES_PUBLISHER" Plain,
}

/// Names and values, however they were given.
pub(super) type Variables = BTreeMap<String, String>;

/// The process's environment. An empty variable is the same as none, and hides nothing. A variable that is not UTF-8 is
/// none of ours, or a fault if it is.
pub(super) fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    errors: &mut Vec<ConfigError>,
) -> Variables {
    let mut read = Variables::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) if trimmed(&value).is_empty() => {}
            Ok(value) => drop(read.insert(name, value)),
            Err(_) if is_ours(&name) => errors.push(ConfigError::new(&name, "is not valid UTF-8")),
            Err(_) => {}
        }
    }
    read
}

/// Adds the variables of a `.env` file that the environment does not have.
pub(super) fn add_dotenv(variables: &mut Variables, dotenv: Dotenv, errors: &mut Vec<ConfigError>) {
    for (name, value) in dotenv.variables {
        variables.entry(name).or_insert(value);
    }
    errors.extend(dotenv.problems.into_iter().map(|problem| ConfigError::new(DOTENV, problem)));
}

pub(super) const DOTENV: &str = ".env";

/// Reads each secret from the file that `<NAME>_FILE` names.
pub(super) fn add_files(variables: &mut Variables, errors: &mut Vec<ConfigError>) {
    const BYTES_MAX: u64 = 64 * 1024;
    for (name, _) in RawSettings::KINDS.iter().filter(|(_, kind)| *kind == Kind::Secret) {
        let file_name = format!("{name}_FILE");
        let Some(path) = variables.get(&file_name).filter(|path| !path.is_empty()) else {
            continue;
        };
        if variables.get(*name).is_some_and(|value| !value.is_empty()) {
            errors.push(ConfigError::new(&file_name, format!("is set beside {name}; set one of them")));
            continue;
        }
        match secret_file(name, path.as_ref(), BYTES_MAX) {
            Ok(secret) => drop(variables.insert((*name).to_owned(), secret)),
            Err(problem) => errors.push(ConfigError::new(&file_name, format!("names a file that {problem}"))),
        }
    }
}

/// An empty file is a fault: an unset secret would be replaced by the public one in development.
fn secret_file(name: &str, path: &Path, bytes_max: u64) -> Result<String, String> {
    let secret = text_file::read(path, bytes_max).and_then(text_file::text);
    let secret = secret.map_err(|fault| fault.to_string())?;
    let secret = secret.trim();
    fault_of_file(name, secret).map_or_else(|| Ok(secret.to_owned()), |fault| Err(fault.to_owned()))
}

/// The reason why a file's text may not be the secret that its writer meant.
fn fault_of_file(name: &str, secret: &str) -> Option<&'static str> {
    let is_quoted = |quote: char| secret.len() > 1 && secret.starts_with(quote) && secret.ends_with(quote);
    let assigned = secret.strip_prefix("export").map_or(secret, str::trim_start).strip_prefix(name);
    let is_pem = secret.starts_with("-----BEGIN ");
    let mut breaks = secret.chars().filter(|char| "\n\r\u{b}\u{c}\u{85}\u{2028}\u{2029}".contains(*char));
    if secret.is_empty() {
        Some("is empty")
    } else if secret.contains('\0') {
        Some("is no text: it has a zero byte")
    } else if is_quoted('"') || is_quoted('\'') {
        Some("has quotes around its value: take them away")
    } else if assigned.is_some_and(|rest| rest.trim_start().starts_with('=')) {
        Some("has a name and = before its value: take them away")
    } else if !is_pem && breaks.next().is_some() {
        Some("has more than one line")
    } else if secret.chars().any(|char| !is_printable(char) && !char.is_whitespace()) {
        Some(INVISIBLE)
    } else {
        None
    }
}

const INVISIBLE: &str = "has an invisible or a control character";

/// Reports each secret with an invisible character, such as a byte order mark behind it. A PEM has lines.
pub(super) fn check_secrets(variables: &Variables, errors: &mut Vec<ConfigError>) {
    let is_odd = |char: char| !is_printable(char) && !char.is_whitespace();
    for (name, _) in RawSettings::KINDS.iter().filter(|(_, kind)| *kind == Kind::Secret) {
        if variables.get(*name).is_some_and(|value| trimmed(value).contains(is_odd)) {
            errors.push(ConfigError::new(name, INVISIBLE));
        }
    }
}

/// Reads all settings. An empty variable counts as not set.
pub(super) fn read(variables: &Variables) -> RawSettings {
    let given = variables.iter().filter(|(name, value)| is_ours(name) && !trimmed(value).is_empty());
    let trimmed = given.map(|(name, value)| (name.clone(), trimmed(value).to_owned()));
    envy::from_iter(trimmed).expect("optional text takes any value")
}

/// Editors put a byte order mark before a text, and it is no white space.
fn trimmed(value: &str) -> &str {
    value.trim_start_matches('\u{feff}').trim()
}

/// Variables that look like our settings and are not: probably misspelt.
pub(super) fn unknown(variables: &Variables) -> Vec<String> {
    const OURS: [&str; 15] = [
        "OTP_",
        "SMS_",
        "SPEND_",
        "TWILIO_",
        "EMAIL_",
        "SENDGRID_",
        "SMTP_",
        "WORKER_",
        "SCALE_",
        "DEFENCE_",
        "JWT_",
        "PROOF_",
        "OTEL_EXPORTER_OTLP_",
        "OTEL_TRACES_",
        "TRACES_",
    ];
    let looks_ours = |name: &&String| OURS.iter().any(|prefix| name.starts_with(prefix));
    let known = |name: &str| is_ours(name) || name.strip_suffix("_FILE").is_some_and(is_secret);
    let expected = |name: &str| known(name) || is_of_kubernetes(name, variables);
    variables.keys().filter(looks_ours).filter(|name| !expected(name)).cloned().collect()
}

/// True for the variables by which Kubernetes shows a service to a container: `OTP_SERVICE_HOST`, `OTP_PORT_80_TCP_ADDR`
/// and others, for a service called `otp`.
fn is_of_kubernetes(name: &str, variables: &Variables) -> bool {
    let services = variables.keys().filter_map(|name| name.strip_suffix("_SERVICE_HOST"));
    let mut rests = services.filter_map(|service| name.strip_prefix(service)?.strip_prefix('_'));
    rests.any(|rest| {
        let of_port = |rest: &str| {
            let mut words = rest.split('_');
            words.next().is_some_and(|port| port.parse::<u16>().is_ok())
                && words.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
                && words.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part))
                && words.next().is_none()
        };
        matches!(rest, "SERVICE_HOST" | "SERVICE_PORT" | "PORT")
            || rest.starts_with("SERVICE_PORT_")
            || rest.strip_prefix("PORT_").is_some_and(of_port)
    })
}

pub(super) fn is_ours(name: &str) -> bool {
    RawSettings::KINDS.iter().any(|(ours, _)| *ours == name)
}

fn is_secret(name: &str) -> bool {
    RawSettings::KINDS.contains(&(name, Kind::Secret))
}
