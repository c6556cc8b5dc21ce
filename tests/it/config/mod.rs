//! Settings: the required ones, the refused ones, and errors that repeat no value.

mod keys;
mod manifests;
mod providers;
mod servers;
mod sources;
mod spend;
mod test_numbers;
mod tokens;
mod traces;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use otpost::app;
use otpost::config::{
    EmailProvider, Environment, JwtKey, Role, Settings, Shown, TwilioSender, signing_secret,
};
use otpost::domain::code::CodeKeyring;
use otpost::domain::limit::Limit;
use otpost::domain::shards::Shards;
use secrecy::ExposeSecret as _;

use crate::documents::messages::ASYNCAPI;
use crate::real;

type Pairs<'a> = Vec<(&'a str, &'a str)>;

const KEY_1: &str = "s5VoIedjng5FOfqCH0Nkq9hJTZT9qdQnvsnGkd+AyMc=";
const KEY_2: &str = "65U8x/WOwpfTdmrExkT5DBWiVDkcum1BCeqjaS3rM10=";
const KEY_3: &str = "B7hlhd0wQkaYowjGJNRxmSqnUhIuM+ZacIAtu0IWINQ=";
const DEV_KEY: &str = "ZGV2ZWxvcG1lbnQgb25seSwga25vd24gdG8gYWxsISE=";
const DEV_RECIPIENT_KEY: &str = "ZGV2ZWxvcG1lbnQgcmVjaXBpZW50IGtleSwgcHVibGk=";
const DEV_JWT_SECRET: &str = "otpost development secret, known to everybody";
const JWKS_URL: &str = "https://issuer.example/jwks";
const JWT_SECRET: &str = "hunter2-RB74BVzLbPBGl93Mp_KuqccxNR5NeygdZ";

/// The required settings of production.
fn production() -> Pairs<'static> {
    vec![
        ("AMQP_URL", "amqps://otpost:hunter2@rabbit.internal"),
        ("REDIS_URL", "rediss://otpost:hunter2@redis.internal"),
        ("OTP_SECRET_KEYS", "k1:s5VoIedjng5FOfqCH0Nkq9hJTZT9qdQnvsnGkd+AyMc="),
        ("OTP_RECIPIENT_KEY", KEY_2),
        ("SMS_BRAND", "MeStore"),
        ("JWT_SECRET", JWT_SECRET),
        ("JWT_AUDIENCE", "shop"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "hunter2-token"),
        ("TWILIO_FROM_NUMBER", "+15005550006"),
    ]
}

/// Replaces variables by those of the same name. An empty one counts as not set.
fn with<'a>(base: Pairs<'a>, changes: &[(&'a str, &'a str)]) -> Pairs<'a> {
    let mut pairs = base;
    pairs.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    pairs.extend_from_slice(changes);
    pairs
}

fn read_os(
    role: Role,
    variables: Vec<(OsString, OsString)>,
    dotenv: &Path,
) -> Result<Settings, SettingsFailure> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _inside = runtime.enter();
    Settings::read(role, variables.into_iter(), dotenv, app::config_check::config_errors).map_err(|faults| {
        SettingsFailure {
            names: faults.errors.iter().map(|fault| fault.name.clone()).collect(),
            text: format!("{faults} {:?}", faults.errors),
            shown: faults.shown,
        }
    })
}

fn read_with(role: Role, pairs: &[(&str, &str)], dotenv: &Path) -> Result<Settings, SettingsFailure> {
    let variables = pairs.iter().map(|(name, value)| (name.into(), value.into()));
    read_os(role, variables.collect(), dotenv)
}

fn read(role: Role, pairs: &[(&str, &str)]) -> Result<Settings, SettingsFailure> {
    read_with(role, pairs, Path::new("/nowhere/.env"))
}

/// The output about refused settings.
#[derive(Debug)]
struct SettingsFailure {
    names: Vec<String>,
    text: String,
    shown: Vec<Shown>,
}

#[track_caller]
fn expect(role: Role, pairs: &[(&str, &str)]) -> Settings {
    read(role, pairs).unwrap_or_else(|failure| panic!("{}", failure.text))
}

#[track_caller]
fn expect_faults(role: Role, pairs: &[(&str, &str)], names: &[&str]) -> String {
    let failure = read(role, pairs).err().expect("the settings must be refused");
    let mut expected: Vec<_> = names.to_vec();
    let mut got = failure.names.clone();
    expected.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, expected, "{}", failure.text);
    failure.text
}

#[track_caller]
fn expect_faults_or_none(role: Role, pairs: &[(&str, &str)], names: &[&str]) {
    let failure = read(role, pairs).err().map(|failure| failure.names).unwrap_or_default();
    assert_eq!(failure, names, "{role:?}");
}

/// Adds one variable, which must be the only error. The error must not repeat its value.
#[track_caller]
fn expect_refused(name: &str, value: &str) {
    let text = expect_faults(Role::Serve, &with(production(), &[(name, value)]), &[name]);
    assert!(!text.contains(value), "{text}");
}

/// A file of one test, deleted when dropped.
struct File(PathBuf);

impl File {
    fn of(content: impl AsRef<[u8]>) -> File {
        let path = std::env::temp_dir().join(real::unique("settings"));
        std::fs::write(&path, content).expect("a writable folder for temporary files");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn kids(settings: &Settings) -> Option<&str> {
    settings.code_keyring.as_deref().map(CodeKeyring::kids)
}

#[test]
fn a_bad_configuration_reports_every_fault_and_starts_nothing() {
    let bad = [
        ("ENVIRONMENT", "staging-hunter2"),
        ("AMQP_URL", "http://otpost:hunter2@rabbit"),
        ("REDIS_URL", "otpost:hunter2@redis"),
        ("AMQP_PREFIX", "hunter2 with spaces"),
        ("HTTP_ADDR", "hunter2:80"),
        ("OPS_ADDR", "hunter2"),
        ("HTTP_TRUSTED_PROXIES", "10.0.0.0/8,hunter2"),
        ("OTP_SECRET_KEYS", "k1:hunter2"),
        ("OTP_RECIPIENT_KEY", "hunter2"),
        ("OTP_CODE_LENGTH", "77777"),
        ("OTP_EXPIRATION_MINUTES", "hunter2"),
        ("OTP_MAX_ATTEMPTS", "-77777"),
        ("OTP_RESEND_COOLDOWN_SECONDS", "7.7777"),
        ("OTP_WRONG_PER_HOUR", "77777777777777777777"),
        ("SMS_ENABLED", "hunter2"),
        ("OTP_CALLER_CODES", "hunter2"),
        ("SMS_RATE_LIMIT_PER_NUMBER", "hunter2"),
        ("SMS_RATE_LIMIT_WINDOW", "0"),
        ("SMS_ALLOWED_COUNTRIES", "CO,hunter2"),
        ("SMS_ALLOW_LANDLINE", "hunter2"),
        ("SMS_ENCODING", "hunter2"),
        ("SMS_BRAND", "hunter2 and many more characters than a brand has"),
        ("DEFAULT_REGION", "hunter2"),
        ("DEFAULT_LOCALE", "hunter2"),
        ("DEFAULT_TIMEZONE", "hunter2"),
        ("TEMPLATES_DIR", "/nowhere/hunter2"),
        ("TWILIO_ACCOUNT_SID", "hunter2"),
        ("TWILIO_FROM_NUMBER", "hunter2 hunter2"),
        ("TWILIO_API_BASE_URL", "http://hunter2.example"),
        ("EMAIL_PROVIDER", "hunter2"),
        ("EMAIL_FROM", "hunter2 <hunter2"),
        ("SENDGRID_API_KEY", "hunter2"),
        ("SENDGRID_API_BASE_URL", "http://hunter2.example"),
        ("SMTP_URL", "http://hunter2"),
        ("PROVIDER_TIMEOUT_SECONDS", "hunter2"),
        ("WORKER_CONCURRENCY", "77777"),
        ("WORKER_PREFETCH", "hunter2"),
        ("SHUTDOWN_GRACE_SECONDS", "hunter2"),
        ("JWT_SECRET", "hunter2"),
        ("JWT_JWKS_URL", "https://hunter2.example/jwks"),
        ("LOG_FORMAT", "hunter2"),
    ];
    // The form of a key does not show that it is wrong.
    let names: Vec<&str> =
        bad.iter().map(|(name, _)| *name).filter(|name| *name != "SENDGRID_API_KEY").collect();
    let text = expect_faults(Role::Serve, &with(production(), &bad), &names);
    for value in ["hunter2", "77777", "7.7777", "staging", "spaces"] {
        assert!(!text.contains(value), "{value} is shown: {text}");
    }
}

#[test]
fn an_error_that_would_fail_a_start_is_listed_with_all_others() {
    let bad = [
        ("AMQP_URL", "amqp://u:hunter2@host:port"),
        ("REDIS_URL", "redis://[hunter2"),
        ("SMS_BRAND", "hunter2345"),
        ("JWT_SECRET", ""),
        ("JWT_PUBLIC_KEY", "hunter2"),
        ("TWILIO_API_BASE_URL", "https://user:hunter2@twilio.example"),
        ("RUST_LOG", "hunter2=="),
    ];
    for (name, value) in bad.iter().filter(|(_, value)| !value.is_empty()) {
        let pairs =
            with(production(), &[("JWT_SECRET", if *name == "JWT_PUBLIC_KEY" { "" } else { JWT_SECRET })]);
        let text = expect_faults(Role::Show, &with(pairs, &[(name, value)]), &[name]);
        assert!(!text.contains("hunter2"), "{text}");
    }
    let mut names: Vec<_> =
        bad.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| *name).collect();
    for role in [Role::Worker, Role::Http, Role::Show] {
        expect_faults(role, &with(production(), &bad), &names);
    }
    names.push("OTP_CODE_LENGTH");
    let all = with(with(production(), &bad), &[("OTP_CODE_LENGTH", "none")]);
    let text = expect_faults(Role::Serve, &all, &names);
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_brand_is_one_fault_however_many_texts_it_spoils() {
    let brand = [("SMS_BRAND", "Shop\u{e000}\u{e001}\u{e002}"), ("SMS_ENCODING", "unicode")];
    expect_faults(Role::Worker, &with(production(), &brand), &["SMS_BRAND"]);
}

#[test]
fn a_default_language_needs_a_text_where_texts_are_made() {
    for (locale, fits) in [("pt-BR", true), ("en", true), ("fr", false)] {
        let pairs = with(production(), &[("DEFAULT_LOCALE", locale)]);
        for role in [Role::Worker, Role::Serve, Role::Dev, Role::Show] {
            expect_faults_or_none(role, &pairs, if fits { &[] } else { &["DEFAULT_LOCALE"] });
        }
        expect(Role::Http, &pairs);
    }
}

#[test]
fn every_secret_of_a_bad_configuration_stays_one() {
    let planted = [
        ("AMQP_URL", "amqp://u:planted-1@h"),
        ("REDIS_URL", "redis://u:planted-2@h"),
        ("OTP_SECRET_KEYS", "k1:planted-3"),
        ("OTP_RECIPIENT_KEY", "planted-4"),
        ("TWILIO_AUTH_TOKEN", "planted-5"),
        ("TWILIO_API_KEY_SECRET", "planted-6"),
        ("SENDGRID_API_KEY", "planted-9"),
        ("SMTP_URL", "planted-10"),
        ("JWT_SECRET", "planted-7"),
        ("JWT_PUBLIC_KEY", "planted-8"),
        ("OTP_CODE_LENGTH", "none"),
    ];
    let failure = read(Role::Serve, &with(production(), &planted)).err().expect("faults");
    assert!(failure.names.len() >= 4 && !failure.text.contains("planted"), "{}", failure.text);
    assert!(
        failure.shown.len() > 40 && !format!("{:?}", failure.shown).contains("planted"),
        "{:?}",
        failure.shown
    );
}

#[test]
fn an_unset_environment_is_production_and_every_missing_setting_is_named_at_once() {
    let broker_and_store = ["AMQP_URL", "REDIS_URL", "OTP_SECRET_KEYS", "OTP_RECIPIENT_KEY"];
    let twilio = ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM_NUMBER", "SMS_BRAND"];
    let tokens = ["JWT_SECRET", "JWT_AUDIENCE"];
    for environment in [None, Some(("ENVIRONMENT", "")), Some(("ENVIRONMENT", "production"))] {
        let given: Pairs<'_> = environment.into_iter().collect();
        for (role, names) in [
            (Role::Worker, [&broker_and_store as &[&str], &twilio].concat()),
            (Role::Http, [&broker_and_store as &[&str], &tokens].concat()),
            (Role::Serve, [&broker_and_store as &[&str], &twilio, &tokens].concat()),
            (Role::Show, [&broker_and_store as &[&str], &twilio, &tokens].concat()),
            (Role::Store, vec!["REDIS_URL", "OTP_RECIPIENT_KEY"]),
            (Role::Topology, vec!["AMQP_URL"]),
        ] {
            expect_faults(role, &given, &names);
        }
        assert_eq!(expect(Role::Offline, &given).environment, Environment::Production);
    }
}

#[test]
fn the_required_settings_are_enough() {
    for role in [
        Role::Worker,
        Role::Http,
        Role::Serve,
        Role::Store,
        Role::Topology,
        Role::Token,
        Role::Offline,
        Role::Show,
    ] {
        // An API process does not know whether workers send e-mails, so the setting says it.
        let settings = expect(role, &with(production(), &[("EMAIL_OTP_ENABLED", "false")]));
        assert_eq!(settings.environment, Environment::Production);
        assert_eq!(settings.notices, Vec::<String>::new());
    }
    let settings = expect(Role::Serve, &production());
    assert_eq!((settings.amqp_prefix.as_str(), settings.redis_prefix.as_str()), ("otpost", "otpost"));
    assert_eq!(ASYNCAPI["components"]["parameters"]["amqpPrefix"]["default"], settings.amqp_prefix);
    assert_eq!(settings.code_life, Duration::from_secs(600));
    assert_eq!((settings.concurrency, settings.prefetch), (64, 71));
    assert_eq!((settings.limits[Limit::Recipient].count, settings.limits.wrong_per_challenge), (5, 5));
    assert!(settings.sms_enabled && settings.log_json && settings.trusted_proxies.is_empty());
}

#[test]
fn development_needs_no_settings() {
    let settings = expect(Role::Dev, &[]);
    assert!(settings.is_development() && settings.sms_provider.is_none());
    assert!(settings.amqp_url.is_none() && settings.redis_url.is_none(), "both are in memory");
    assert_eq!(kids(&settings), Some(",dev,"));
    assert_eq!(settings.jwt.as_ref().and_then(signing_secret), Some(DEV_JWT_SECRET));
    assert!(expect(Role::Dev, &[("ENVIRONMENT", "production")]).is_development());
    let worker = expect(Role::Worker, &[("ENVIRONMENT", "development")]);
    let url = worker.amqp_url.as_ref().map(|url| url.expose_secret().to_owned());
    assert_eq!(url.as_deref(), Some("amqp://guest:guest@127.0.0.1:5672/%2f"));
}

#[test]
fn a_grace_that_cuts_slow_sends_off_is_noticed_where_messages_are_sent() {
    let short = with(production(), &[("SHUTDOWN_GRACE_SECONDS", "14")]);
    for role in [Role::Worker, Role::Serve, Role::Show] {
        let notices = expect(role, &short).notices;
        assert!(matches!(&notices[..], [only] if only.starts_with("SHUTDOWN_GRACE_SECONDS")), "{notices:?}");
    }
    let elsewhere = expect(Role::Http, &with(short, &[("EMAIL_OTP_ENABLED", "false")]));
    assert!(elsewhere.notices.is_empty());
    let enough = with(production(), &[("SHUTDOWN_GRACE_SECONDS", "15")]);
    assert!(expect(Role::Worker, &enough).notices.is_empty());
}

#[test]
fn every_setting_is_shown_and_no_secret() {
    let api_key = "SK00000000000000000000000000000001";
    let pairs = with(
        production(),
        &[("TWILIO_API_KEY_SID", api_key), ("TWILIO_API_KEY_SECRET", "hunter2-api"), ("SMS_BRAND", "Shop")],
    );
    let settings = expect(Role::Show, &pairs);
    for shown in &settings.shown {
        for secret in ["hunter2", KEY_1, KEY_2, "token"] {
            assert!(!shown.value.contains(secret), "{} shows {secret}", shown.name);
        }
    }
    let value = |name: &str| {
        settings
            .shown
            .iter()
            .find(|shown| shown.name == name)
            .map(|shown| (shown.value.as_str(), shown.given))
    };
    assert_eq!(value("SMS_BRAND"), Some(("Shop", true)));
    assert_eq!(value("OTP_CODE_LENGTH"), Some(("6", false)));
    assert_eq!(value("JWT_ISSUER"), Some(("(not set)", false)));
    for secret in [
        "AMQP_URL",
        "REDIS_URL",
        "OTP_SECRET_KEYS",
        "OTP_RECIPIENT_KEY",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_API_KEY_SECRET",
        "JWT_SECRET",
    ] {
        assert_eq!(value(secret), Some(("(set)", true)), "{secret}");
    }
    assert_eq!(value("JWT_PUBLIC_KEY"), Some(("(not set)", false)));
    // The list of raw settings, from its source: every setting that is read must be shown.
    let raw = include_str!("../../../src/config/raw.rs");
    let names = raw.lines().filter_map(|line| {
        line.trim().split('"').nth(1).filter(|_| line.ends_with("Plain,") || line.ends_with("Secret,"))
    });
    let mut count = 0;
    for name in names {
        count += 1;
        assert_eq!(settings.shown.iter().filter(|shown| shown.name == name).count(), 1, "{name}");
    }
    assert_eq!(count, settings.shown.len());
}

#[test]
fn the_first_code_key_makes_codes_and_all_of_them_check() {
    let keys = format!("k2:{KEY_3},k1:{KEY_1}");
    let settings = expect(Role::Worker, &with(production(), &[("OTP_SECRET_KEYS", &keys)]));
    let codes = settings.code_keyring.as_deref().expect("keys");
    assert_eq!((codes.first().kid().as_str(), codes.kids()), ("k2", ",k2,k1,"));
    assert!(codes.get("k1").is_some() && codes.get("k3").is_none());
}

#[test]
fn a_code_key_that_breaks_its_rule_is_refused() {
    for keys in [
        KEY_1.to_owned(),
        format!("{KEY_1},k2:{KEY_2}"),
        format!(":{KEY_1}"),
        format!("a key:{KEY_1}"),
        format!("a-kid-of-17-chars:{KEY_1}"),
        format!("k1:{}", &KEY_1[..40]),
        format!("k1:{KEY_1}{KEY_2}"),
        format!("k1:{}", KEY_1.trim_end_matches('=')),
        "k1:c2hvcnQ=".to_owned(),
        "k1:".to_owned(),
        "k1:!!!!".to_owned(),
        format!("k1:{KEY_1},k1:{KEY_2}"),
        format!("k1:{KEY_1};k2:{KEY_2}"),
        ",".to_owned(),
    ] {
        let text = expect_faults(
            Role::Worker,
            &with(production(), &[("OTP_SECRET_KEYS", &keys)]),
            &["OTP_SECRET_KEYS"],
        );
        assert!(!text.contains(&KEY_1[..40]) && !text.contains("c2hvcnQ"), "{text}");
    }
    for key in ["hunter2", "c2hvcnQ=", &KEY_1[..40]] {
        expect_refused("OTP_RECIPIENT_KEY", key);
    }
}

#[test]
fn a_prefetch_smaller_than_the_work_in_hand_is_refused() {
    expect_refused("WORKER_PREFETCH", "63");
    let settings = expect(Role::Worker, &with(production(), &[("WORKER_CONCURRENCY", "100")]));
    assert_eq!(settings.prefetch, 110);
    let equal = with(production(), &[("WORKER_CONCURRENCY", "100"), ("WORKER_PREFETCH", "100")]);
    assert_eq!(expect(Role::Worker, &equal).prefetch, 100);
}

#[test]
fn recipients_spread_over_1_16_or_256_shards() {
    for count in ["0", "3", "17", "257", "65552", "-16", "many"] {
        expect_refused("REDIS_SHARDS", count);
    }
    assert_eq!(expect(Role::Worker, &production()).redis_shards, Shards::ONE);
    for (text, count) in [("1", 1), ("16", 16), ("256", 256)] {
        let given = with(production(), &[("REDIS_SHARDS", text)]);
        assert_eq!(expect(Role::Worker, &given).redis_shards.count(), count);
    }
}

#[test]
fn a_wrong_prefix_is_one_fault_and_a_good_one_names_everything() {
    for prefix in ["amq.otpost", "with space", "ñ", &"p".repeat(65), "a:b", "a{b}"] {
        expect_refused("AMQP_PREFIX", prefix);
        expect_refused("REDIS_PREFIX", prefix);
    }
    let settings = expect(Role::Worker, &with(production(), &[("AMQP_PREFIX", "staging.otp-2_x")]));
    assert_eq!(settings.redis_prefix, "staging.otp-2_x");
}

#[test]
fn lists_and_switches_are_read_as_people_write_them() {
    let settings = expect(
        Role::Serve,
        &with(
            production(),
            &[
                ("SMS_ENABLED", "Off"),
                ("SMS_ALLOW_LANDLINE", "YES"),
                ("SMS_ALLOWED_COUNTRIES", "co, mx ,"),
                ("HTTP_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32"),
                ("REPLY_TO_ALLOWED", "replies.*"),
                ("SMS_RATE_LIMIT_PER_NUMBER", "0"),
            ],
        ),
    );
    assert!(!settings.sms_enabled && settings.allow_landline);
    let countries: Vec<_> = settings.allowed_countries.iter().flatten().collect();
    assert_eq!(countries, ["CO", "MX"]);
    assert_eq!(settings.trusted_proxies.len(), 2);
    assert_eq!(settings.reply_to_allowed, ["replies.*"]);
    assert_eq!(settings.limits[Limit::Recipient].count, 0);
    let all = expect(Role::Serve, &with(production(), &[("SMS_ALLOWED_COUNTRIES", "*")]));
    assert!(all.allowed_countries.is_none() && all.allowed_shared_codes.is_empty());
    assert!(!all.caller_codes_allowed, "a caller's code is refused by default");
    let more = [("SMS_ALLOWED_COUNTRIES", "*, +881,+882"), ("OTP_CALLER_CODES", "allow")];
    let more = expect(Role::Serve, &with(production(), &more));
    assert!(more.allowed_countries.is_none() && more.caller_codes_allowed);
    assert!(more.allowed_shared_codes.iter().eq(["+881", "+882"]));
    let only = expect(Role::Serve, &with(production(), &[("SMS_ALLOWED_COUNTRIES", "+881,mx")]));
    assert!(only.allowed_countries.iter().flatten().eq(["MX"]) && only.allowed_shared_codes.contains("+881"));
}
