//! Settings: what is asked for, what is refused, and that no value is ever told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use otpost::app;
use otpost::config::{
    EmailCarrier, Environment, JwtKey, Role, Settings, Shown, TwilioSender, signing_secret,
};
use otpost::domain::code::CodeKeyring;
use secrecy::ExposeSecret as _;

use crate::real;

type Pairs<'a> = Vec<(&'a str, &'a str)>;

const KEY_1: &str = "b25lIGtleSBvZiBleGFjdGx5IHRoaXJ0eS10d28gYiE=";
const KEY_2: &str = "c2Vjb25kIGtleSBvZiBleGFjdGx5IHRoaXJ0eS10d28=";
const DEV_KEY: &str = "ZGV2ZWxvcG1lbnQgb25seSwga25vd24gdG8gYWxsISE=";
const DEV_RECIPIENT_KEY: &str = "ZGV2ZWxvcG1lbnQgcmVjaXBpZW50IGtleSwgcHVibGk=";
const DEV_JWT_SECRET: &str = "otpost development secret, known to everybody";
const JWKS_URL: &str = "https://issuer.example/jwks";
const JWT_SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

/// Everything that production needs.
fn production() -> Pairs<'static> {
    vec![
        ("AMQP_URL", "amqps://otpost:hunter2@rabbit.internal"),
        ("REDIS_URL", "rediss://otpost:hunter2@redis.internal"),
        ("OTP_SECRET_KEYS", "k1:b25lIGtleSBvZiBleGFjdGx5IHRoaXJ0eS10d28gYiE="),
        ("OTP_RECIPIENT_KEY", KEY_2),
        ("JWT_SECRET", JWT_SECRET),
        ("JWT_AUDIENCE", "shop"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "hunter2-token"),
        ("TWILIO_FROM_NUMBER", "+15005550006"),
    ]
}

/// The given variables instead of those of the same name; an empty one is as good as none.
fn with<'a>(base: Pairs<'a>, changes: &[(&'a str, &'a str)]) -> Pairs<'a> {
    let mut pairs = base;
    pairs.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    pairs.extend_from_slice(changes);
    pairs
}

fn read_os(role: Role, variables: Vec<(OsString, OsString)>, dotenv: &Path) -> Result<Settings, Told> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _inside = runtime.enter();
    Settings::read(role, variables.into_iter(), dotenv, app::faults).map_err(|faults| Told {
        names: faults.faults.iter().map(|fault| fault.name.clone()).collect(),
        text: format!("{faults} {:?}", faults.faults),
        shown: faults.shown,
    })
}

fn read_with(role: Role, pairs: &[(&str, &str)], dotenv: &Path) -> Result<Settings, Told> {
    let variables = pairs.iter().map(|(name, value)| (name.into(), value.into()));
    read_os(role, variables.collect(), dotenv)
}

fn read(role: Role, pairs: &[(&str, &str)]) -> Result<Settings, Told> {
    read_with(role, pairs, Path::new("/nowhere/.env"))
}

/// What faults tell.
#[derive(Debug)]
struct Told {
    names: Vec<String>,
    text: String,
    shown: Vec<Shown>,
}

#[track_caller]
fn expect(role: Role, pairs: &[(&str, &str)]) -> Settings {
    read(role, pairs).unwrap_or_else(|told| panic!("{}", told.text))
}

#[track_caller]
fn expect_faults(role: Role, pairs: &[(&str, &str)], names: &[&str]) -> String {
    let told = read(role, pairs).err().expect("the settings must be refused");
    let mut expected: Vec<_> = names.to_vec();
    let mut got = told.names.clone();
    expected.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, expected, "{}", told.text);
    told.text
}

#[track_caller]
fn expect_faults_or_none(role: Role, pairs: &[(&str, &str)], names: &[&str]) {
    let told = read(role, pairs).err().map(|told| told.names).unwrap_or_default();
    assert_eq!(told, names, "{role:?}");
}

/// One more variable, which is refused by itself and without its value.
#[track_caller]
fn expect_refused(name: &str, value: &str) {
    let text = expect_faults(Role::Serve, &with(production(), &[(name, value)]), &[name]);
    assert!(!text.contains(value), "{text}");
}

/// A file of a test's own, gone when dropped.
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
    settings.codes.as_deref().map(CodeKeyring::kids)
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
    // Nobody can say of a key by itself that it is wrong.
    let names: Vec<&str> =
        bad.iter().map(|(name, _)| *name).filter(|name| *name != "SENDGRID_API_KEY").collect();
    let text = expect_faults(Role::Serve, &with(production(), &bad), &names);
    for told in ["hunter2", "77777", "7.7777", "staging", "spaces"] {
        assert!(!text.contains(told), "{told} is told: {text}");
    }
}

#[test]
fn what_would_fail_a_start_is_told_beside_every_other_fault() {
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
    let told = read(Role::Serve, &with(production(), &planted)).err().expect("faults");
    assert!(told.names.len() >= 4 && !told.text.contains("planted"), "{}", told.text);
    assert!(told.shown.len() > 40 && !format!("{:?}", told.shown).contains("planted"), "{:?}", told.shown);
}

#[test]
fn an_unset_environment_is_production_and_every_missing_setting_is_named_at_once() {
    let broker_and_store = ["AMQP_URL", "REDIS_URL", "OTP_SECRET_KEYS", "OTP_RECIPIENT_KEY"];
    let twilio = ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM_NUMBER"];
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
fn everything_that_is_needed_is_enough() {
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
        let settings = expect(role, &production());
        assert_eq!(settings.environment, Environment::Production);
        assert_eq!(settings.notices, Vec::<String>::new());
    }
    let settings = expect(Role::Serve, &production());
    assert_eq!((settings.amqp_prefix.as_str(), settings.redis_prefix.as_str()), ("otpost", "otpost"));
    assert_eq!(settings.code_life, Duration::from_secs(600));
    assert_eq!((settings.concurrency, settings.prefetch), (64, 71));
    assert_eq!((settings.limits.number.count, settings.limits.wrong_per_challenge), (5, 5));
    assert!(settings.sms_enabled && settings.log_json && settings.trusted_proxies.is_empty());
}

#[test]
fn a_laptop_needs_nothing() {
    let settings = expect(Role::Dev, &[]);
    assert!(settings.is_development() && settings.twilio.is_none());
    assert!(settings.amqp_url.is_none() && settings.redis_url.is_none(), "both are in memory");
    assert_eq!(kids(&settings), Some(",dev,"));
    assert_eq!(settings.jwt.as_ref().and_then(signing_secret), Some(DEV_JWT_SECRET));
    assert!(expect(Role::Dev, &[("ENVIRONMENT", "production")]).is_development());
    let worker = expect(Role::Worker, &[("ENVIRONMENT", "development")]);
    let url = worker.amqp_url.as_ref().map(|url| url.expose_secret().to_owned());
    assert_eq!(url.as_deref(), Some("amqp://guest:guest@127.0.0.1:5672/%2f"));
}

#[test]
fn production_refuses_the_keys_that_everybody_knows() {
    expect_refused("JWT_SECRET", DEV_JWT_SECRET);
    expect_refused("OTP_RECIPIENT_KEY", DEV_RECIPIENT_KEY);
    // Whatever it is called, and whatever stands beside it.
    for keys in [
        format!("dev:{DEV_KEY}"),
        format!("k1:{DEV_KEY}"),
        format!("k1:{KEY_1},k2:{DEV_KEY}"),
        format!("dev:{DEV_KEY},k1:{KEY_1}"),
    ] {
        expect_refused("OTP_SECRET_KEYS", &keys);
    }
    let laptop = expect(Role::Worker, &[("ENVIRONMENT", "development")]);
    assert_eq!(kids(&laptop), Some(",dev,"));
}

#[test]
fn a_secret_may_be_in_a_file_and_is_trimmed() {
    let (keys, url) = (File::of(format!("\n k2:{KEY_2} , k1:{KEY_1}\n\n")), File::of("rediss://u:p@redis\n"));
    let pairs = with(
        production(),
        &[
            ("OTP_SECRET_KEYS", ""),
            ("OTP_SECRET_KEYS_FILE", keys.path()),
            ("REDIS_URL", ""),
            ("REDIS_URL_FILE", url.path()),
        ],
    );
    let settings = expect(Role::Serve, &pairs);
    assert_eq!(kids(&settings), Some(",k2,k1,"));
    let url = settings.redis_url.as_ref().map(|url| url.expose_secret().to_owned());
    assert_eq!(url.as_deref(), Some("rediss://u:p@redis"));
    assert_eq!(settings.notices, Vec::<String>::new());
}

#[test]
fn a_public_key_may_be_in_a_file() {
    let pem = File::of(include_str!("keys/p256.public.pem"));
    let pairs = with(production(), &[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY_FILE", pem.path())]);
    let jwt = expect(Role::Http, &pairs).jwt.expect("a key");
    assert!(matches!(&jwt.key, JwtKey::Pem(pem) if pem.ends_with("-----END PUBLIC KEY-----")));
    assert!(signing_secret(&jwt).is_none());
}

#[test]
fn a_secret_file_that_cannot_be_used_is_a_fault() {
    #[track_caller]
    fn check(path: &str, and: &[(&str, &str)], names: &[&str]) {
        let pairs = with(production(), &[("JWT_SECRET", ""), ("JWT_SECRET_FILE", path)]);
        let text = expect_faults(Role::Http, &with(pairs, and), names);
        assert!(!text.contains(path) && !text.contains("hunter2"), "{text}");
    }
    let (good, empty) = (File::of(JWT_SECRET), File::of("\n"));
    let (binary, large) = (File::of([0xff, 0xfe]), File::of("hunter2".repeat(20_000)));
    check("/nowhere/hunter2", &[], &["JWT_SECRET_FILE", "JWT_SECRET"]);
    check(binary.path(), &[], &["JWT_SECRET_FILE", "JWT_SECRET"]);
    check(large.path(), &[], &["JWT_SECRET_FILE", "JWT_SECRET"]);
    check(env!("CARGO_MANIFEST_DIR"), &[], &["JWT_SECRET_FILE", "JWT_SECRET"]);
    check(empty.path(), &[], &["JWT_SECRET"]);
    check(good.path(), &[("JWT_SECRET", JWT_SECRET)], &["JWT_SECRET_FILE"]);
}

#[test]
fn a_file_for_what_is_no_secret_is_taken_for_a_mistake() {
    let file = File::of("AC00000000000000000000000000000002");
    let pairs = with(production(), &[("TWILIO_ACCOUNT_SID_FILE", file.path())]);
    let notices = expect(Role::Serve, &pairs).notices;
    assert!(notices.iter().any(|notice| notice.contains("TWILIO_ACCOUNT_SID_FILE")), "{notices:?}");
}

#[test]
fn a_dotenv_file_is_read_in_development_only_and_never_over_the_environment() {
    let file = File::of("SMS_BRAND=FromFile\nOTP_CODE_LENGTH=8\n# a comment\nexport SMS_ENCODING=unicode\n");
    let read = |role, pairs: &[(&str, &str)]| read_with(role, pairs, &file.0).map_err(|told| told.text);
    let brand_and_length = |settings: Result<Settings, String>| {
        settings.map(|settings| (settings.brand.clone(), settings.code_length.get(), settings.gsm7))
    };
    let from_file = Ok(("FromFile".to_owned(), 8, false));
    assert_eq!(brand_and_length(read(Role::Dev, &[])), from_file);
    assert_eq!(brand_and_length(read(Role::Worker, &[("ENVIRONMENT", "development")])), from_file);
    let settings = read(Role::Dev, &[("SMS_BRAND", "FromOutside")]);
    assert_eq!(brand_and_length(settings), Ok(("FromOutside".to_owned(), 8, false)));
    for pairs in [production(), with(production(), &[("ENVIRONMENT", "production")])] {
        assert_eq!(brand_and_length(read(Role::Serve, &pairs)), Ok(("MeStore".to_owned(), 6, true)));
    }
}

#[test]
fn an_empty_variable_hides_nothing_that_a_dotenv_file_says() {
    let file = File::of("SMS_BRAND=FromFile\n");
    for empty in ["", " "] {
        let settings = read_with(Role::Dev, &[("SMS_BRAND", empty)], &file.0);
        assert_eq!(
            settings.map(|settings| settings.brand).map_err(|told| told.text),
            Ok("FromFile".to_owned())
        );
    }
}

#[test]
fn a_broken_dotenv_file_is_a_fault_where_it_is_read_and_nothing_of_it_is_told() {
    let file = File::of("SMS_BRAND=Good\nJWT SECRET hunter2\n");
    let told = read_with(Role::Dev, &[], &file.0).err().expect("a fault");
    assert_eq!(told.names, [".env"]);
    assert!(!told.text.contains("hunter2"), "{}", told.text);
    assert!(read_with(Role::Serve, &production(), &file.0).is_ok(), "production does not read it");
}

#[test]
fn a_dotenv_file_cannot_say_that_this_is_development() {
    let file = File::of("ENVIRONMENT=development\n");
    for pairs in [vec![], vec![("ENVIRONMENT", "production")], vec![("ENVIRONMENT", "")]] {
        let told = read_with(Role::Worker, &pairs, &file.0).err().expect("faults");
        assert!(told.names.contains(&"OTP_SECRET_KEYS".to_owned()), "{}", told.text);
    }
}

#[test]
fn an_empty_variable_is_no_variable() {
    let empty = [
        "OTP_CODE_LENGTH",
        "SMS_BRAND",
        "AMQP_PREFIX",
        "HTTP_TRUSTED_PROXIES",
        "TWILIO_API_BASE_URL",
        "RUST_LOG",
        "JWT_PUBLIC_KEY",
        "JWT_SECRET_FILE",
        "LOG_FORMAT",
    ];
    for value in ["", "  ", "\t\n"] {
        let changes: Vec<_> = empty.iter().map(|name| (*name, value)).collect();
        let settings = expect(Role::Serve, &with(production(), &changes));
        assert_eq!((settings.code_length.get(), settings.brand.as_str()), (6, "MeStore"));
        assert!(settings.shown.iter().filter(|shown| empty.contains(&shown.name)).all(|shown| !shown.given));
    }
    let spaced = expect(Role::Serve, &with(production(), &[("OTP_CODE_LENGTH", " 8 ")]));
    assert_eq!(spaced.code_length.get(), 8);
}

#[test]
fn what_is_not_utf_8_is_a_fault_only_if_it_is_ours() {
    let read = |name: &[u8], value: &[u8]| {
        let pairs = production().into_iter().map(|(name, value)| (name.into(), value.into()));
        let foreign = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        read_os(Role::Serve, pairs.chain([foreign]).collect(), Path::new("/nowhere/.env"))
    };
    assert!(read(b"LS_COLORS", b"\xff").is_ok());
    assert!(read(b"\xff\xfe", b"x").is_ok());
    let told = read(b"SMS_BRAND", b"hunter2\xff").err().expect("a fault");
    assert_eq!(told.names, ["SMS_BRAND"]);
    assert!(!told.text.contains("hunter2"), "{}", told.text);
}

#[test]
fn a_misspelt_setting_is_noticed_without_its_value() {
    let misspelt = [
        ("OTP_CODE_LENGHT", "hunter2"),
        ("SMS_BRAND_NAME", "hunter2"),
        ("TWILIO_TOKEN", "hunter2"),
        ("JWT_SECRET_KEY", "hunter2"),
        ("SENDGRID_KEY", "hunter2"),
    ];
    let notices = expect(Role::Serve, &with(production(), &misspelt)).notices;
    assert_eq!(notices.len(), misspelt.len(), "{notices:?}");
    for ((name, _), notice) in misspelt.iter().zip({
        let mut sorted = notices.clone();
        sorted.sort_by_key(|notice| misspelt.iter().position(|(name, _)| notice.starts_with(name)));
        sorted
    }) {
        assert!(notice.starts_with(name) && !notice.contains("hunter2"), "{notice}");
    }
    assert!(expect(Role::Serve, &with(production(), &[("PATH", "/bin"), ("HOME", "/")])).notices.is_empty());
}

#[test]
fn a_setting_of_another_version_is_noticed_whatever_it_begins_with() {
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let notices = expect(Role::Serve, &with(production(), &[(name, "hunter2")])).notices;
    assert_eq!(notices, [format!("{name} is set, but not supported by this version: it has no effect")]);
}

#[test]
fn a_grace_that_cuts_slow_sends_off_is_noticed_where_messages_are_sent() {
    let short = with(production(), &[("SHUTDOWN_GRACE_SECONDS", "14")]);
    for role in [Role::Worker, Role::Serve, Role::Show] {
        let notices = expect(role, &short).notices;
        assert!(matches!(&notices[..], [only] if only.starts_with("SHUTDOWN_GRACE_SECONDS")), "{notices:?}");
    }
    assert!(expect(Role::Http, &short).notices.is_empty());
    let enough = with(production(), &[("SHUTDOWN_GRACE_SECONDS", "15")]);
    assert!(expect(Role::Worker, &enough).notices.is_empty());
}

#[test]
fn what_is_shown_is_every_setting_and_no_secret() {
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
    // The list of raw settings, from its source: a setting that nobody shows is a setting that nobody reads.
    let raw = include_str!("../../src/config/raw.rs");
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
    let keys = format!("k2:{KEY_2},k1:{KEY_1}");
    let settings = expect(Role::Worker, &with(production(), &[("OTP_SECRET_KEYS", &keys)]));
    let codes = settings.codes.as_deref().expect("keys");
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
fn plain_http_to_the_provider_stays_on_this_machine() {
    for url in [
        "http://127.0.0.1:8099",
        "http://127.0.0.1",
        "http://127.1.2.3:1/base",
        "http://localhost:8099/",
        "http://localhost",
        "https://api.twilio.com",
        "https://proxy.example/twilio",
    ] {
        let settings = expect(Role::Worker, &with(production(), &[("TWILIO_API_BASE_URL", url)]));
        assert_eq!(settings.twilio.expect("an account").base_url, url);
    }
    for url in [
        "http://api.twilio.com",
        "http://10.0.0.1:8099",
        "http://127.0.0.1.evil.example",
        "http://127.evil.example/",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://localhost:80@evil.example",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1:80@evil.example/",
        "http://evil.example/127.0.0.1",
        "http://evil.example#localhost",
        "http:///127.0.0.1",
        "HTTP://127.0.0.1",
        "ftp://127.0.0.1",
        "api.twilio.com",
    ] {
        expect_refused("TWILIO_API_BASE_URL", url);
    }
}

#[test]
fn an_account_is_whole_or_refused() {
    let api_key = ("TWILIO_API_KEY_SID", "SK00000000000000000000000000000001");
    let service = ("TWILIO_MESSAGING_SERVICE_SID", "MG00000000000000000000000000000001");
    let check = |changes: &[(&str, &str)], names: &[&str]| {
        expect_faults(Role::Worker, &with(production(), changes), names);
    };
    check(&[("TWILIO_AUTH_TOKEN", "")], &["TWILIO_AUTH_TOKEN"]);
    check(&[("TWILIO_AUTH_TOKEN", " , ")], &["TWILIO_AUTH_TOKEN"]);
    check(&[("TWILIO_ACCOUNT_SID", "")], &["TWILIO_ACCOUNT_SID"]);
    check(&[("TWILIO_FROM_NUMBER", "")], &["TWILIO_FROM_NUMBER"]);
    check(&[api_key], &["TWILIO_API_KEY_SECRET"]);
    check(&[("TWILIO_API_KEY_SID", "SK1"), ("TWILIO_API_KEY_SECRET", "s")], &["TWILIO_API_KEY_SID"]);
    check(&[("TWILIO_MESSAGING_SERVICE_SID", "MG1")], &["TWILIO_MESSAGING_SERVICE_SID"]);
    let account = |changes: &[(&str, &str)]| {
        expect(Role::Worker, &with(production(), changes)).twilio.expect("an account")
    };
    let rotating =
        account(&[("TWILIO_AUTH_TOKEN", "new, old"), ("TWILIO_FROM_NUMBER", "+15005550006, 85432")]);
    assert_eq!(rotating.password.expose_secret(), "new", "the first signs");
    let numbers = ["+15005550006", "85432"].map(str::to_owned).to_vec();
    assert_eq!(rotating.sender, Some(TwilioSender::Numbers(numbers)));
    let keyed = account(&[api_key, ("TWILIO_API_KEY_SECRET", "s"), ("TWILIO_AUTH_TOKEN", ""), service]);
    assert_eq!((keyed.user.as_str(), keyed.password.expose_secret()), (api_key.1, "s"));
    assert_eq!(keyed.sender, Some(TwilioSender::Service(service.1.to_owned())));
}

const VERIFY: &str = "VA00000000000000000000000000000001";

#[test]
fn verify_is_chosen_whole_or_not_at_all() {
    let (chosen, sid) = (("SMS_PROVIDER", "verify"), ("TWILIO_VERIFY_SERVICE_SID", VERIFY));
    let url = "TWILIO_VERIFY_BASE_URL";
    // No sender of ours is needed: the service has its own.
    let settings = expect(Role::Worker, &with(production(), &[chosen, sid, ("TWILIO_FROM_NUMBER", "")]));
    let twilio = settings.twilio.expect("an account");
    let service = twilio.verify.expect("a service");
    assert_eq!((service.sid.as_str(), service.base_url.as_str()), (VERIFY, "https://verify.twilio.com"));
    assert!(twilio.sender.is_none());
    for role in [Role::Worker, Role::Http, Role::Serve, Role::Show] {
        expect_faults(role, &with(production(), &[chosen]), &[sid.0]);
        expect_faults(role, &with(production(), &[chosen, (sid.0, "VA1")]), &[sid.0]);
        for bad in ["http://verify.example", "https://user:hunter2@verify.example", "verify.twilio.com"] {
            expect_faults(role, &with(production(), &[chosen, sid, (url, bad)]), &[url]);
        }
    }
    let local = with(production(), &[chosen, sid, (url, "http://127.0.0.1:4010")]);
    let service = expect(Role::Http, &local).twilio.expect("an account").verify.expect("a service");
    assert_eq!(service.base_url, "http://127.0.0.1:4010");
    expect_faults(Role::Worker, &with(production(), &[("SMS_PROVIDER", "pigeon")]), &["SMS_PROVIDER"]);
}

#[test]
fn what_is_set_for_verify_without_choosing_it_is_noticed() {
    for (name, value) in
        [("TWILIO_VERIFY_SERVICE_SID", VERIFY), ("TWILIO_VERIFY_BASE_URL", "https://x.example")]
    {
        let settings = expect(Role::Worker, &with(production(), &[(name, value)]));
        assert!(settings.twilio.expect("an account").verify.is_none());
        let notice = format!("{name} is set, but SMS_PROVIDER is not verify: it has no effect");
        assert_eq!(settings.notices, [notice]);
    }
    let callback = ("TWILIO_STATUS_CALLBACK_URL", "https://otp.example/webhooks/twilio/status");
    let chosen = [("SMS_PROVIDER", "verify"), ("TWILIO_VERIFY_SERVICE_SID", VERIFY), callback];
    let notices = expect(Role::Worker, &with(production(), &chosen)).notices;
    assert!(matches!(&notices[..], [only] if only.starts_with(callback.0)), "{notices:?}");
}

#[test]
fn who_checks_codes_of_verify_needs_the_account() {
    let changes = [
        ("SMS_PROVIDER", "verify"),
        ("TWILIO_VERIFY_SERVICE_SID", VERIFY),
        ("TWILIO_ACCOUNT_SID", ""),
        ("TWILIO_AUTH_TOKEN", ""),
    ];
    for role in [Role::Http, Role::Worker, Role::Serve] {
        expect_faults(role, &with(production(), &changes), &["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"]);
    }
    expect(Role::Store, &with(production(), &changes));
}

#[test]
fn who_only_takes_twilios_calls_needs_no_sender() {
    let callback = ("TWILIO_STATUS_CALLBACK_URL", "https://otp.example/webhooks/twilio/status");
    let changes = [callback, ("TWILIO_FROM_NUMBER", "")];
    for role in [Role::Http, Role::Store, Role::Offline] {
        let twilio = expect(role, &with(production(), &changes)).twilio.expect("an account");
        assert!(twilio.sender.is_none() && twilio.status_callback.is_some() && twilio.tokens.len() == 1);
    }
    for role in [Role::Worker, Role::Serve, Role::Dev] {
        expect_faults(role, &with(production(), &changes), &["TWILIO_FROM_NUMBER"]);
    }
    // One that is set must still be right.
    expect_faults(
        Role::Http,
        &with(production(), &[("TWILIO_FROM_NUMBER", "a b c d e f g")]),
        &["TWILIO_FROM_NUMBER"],
    );
}

#[test]
fn with_an_api_key_and_no_token_receipts_are_asked_for_and_that_is_said() {
    let keyed = [
        ("TWILIO_API_KEY_SID", "SK00000000000000000000000000000001"),
        ("TWILIO_API_KEY_SECRET", "s"),
        ("TWILIO_STATUS_CALLBACK_URL", "https://otp.example/webhooks/twilio/status"),
    ];
    for (token, reported) in [("", false), ("hunter2-token", true)] {
        let changes = [&keyed[..], &[("TWILIO_AUTH_TOKEN", token)]].concat();
        let settings = expect(Role::Serve, &with(production(), &changes));
        let twilio = settings.twilio.expect("an account");
        assert_eq!(
            (twilio.status_callback.is_some(), twilio.tokens.len()),
            (reported, usize::from(reported))
        );
        assert_eq!((twilio.user.as_str(), twilio.password.expose_secret()), (keyed[0].1, "s"));
        let said = settings.notices.iter().any(|notice| notice.contains("receipts are asked for instead"));
        assert_eq!(said, !reported, "{:?}", settings.notices);
        assert!(settings.receipt_wait.is_some(), "they are asked for");
    }
}

#[test]
fn tokens_are_checked_with_exactly_one_key_for_an_audience() {
    let pem = include_str!("keys/rsa.public.pem");
    let check = |changes: &[(&str, &str)], names: &[&str]| {
        expect_faults(Role::Http, &with(production(), changes), names);
    };
    check(&[("JWT_PUBLIC_KEY", pem)], &["JWT_PUBLIC_KEY"]);
    check(&[("JWT_JWKS_URL", JWKS_URL)], &["JWT_JWKS_URL"]);
    check(&[("JWT_PUBLIC_KEY", pem), ("JWT_JWKS_URL", JWKS_URL)], &["JWT_PUBLIC_KEY", "JWT_JWKS_URL"]);
    check(&[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY", pem), ("JWT_JWKS_URL", JWKS_URL)], &["JWT_JWKS_URL"]);
    check(&[("JWT_JWKS_URL", "http://issuer.example/jwks")], &["JWT_JWKS_URL"]);
    check(&[("JWT_AUDIENCE", "")], &["JWT_AUDIENCE"]);
    check(&[("JWT_SECRET", "")], &["JWT_SECRET"]);
    expect_refused("JWT_SECRET", &"s".repeat(31));
    expect(Role::Http, &with(production(), &[("JWT_SECRET", &"s".repeat(32))]));
    let jwt = expect(Role::Http, &with(production(), &[("JWT_ISSUER", "https://issuer.example")]))
        .jwt
        .expect("a key");
    assert_eq!(
        (jwt.issuer.as_deref(), jwt.audience.as_deref()),
        (Some("https://issuer.example"), Some("shop"))
    );
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
    assert_eq!(settings.limits.number.count, 0);
    let all = expect(Role::Serve, &with(production(), &[("SMS_ALLOWED_COUNTRIES", "*")]));
    assert!(all.allowed_countries.is_none());
}

const FROM: (&str, &str) = ("EMAIL_FROM", "MeStore <codes@shop.example>");
const API_KEY: (&str, &str) = ("SENDGRID_API_KEY", "SG.hunter2");
const BY_SMTP: (&str, &str) = ("EMAIL_PROVIDER", "smtp");
const SMTP_URL: (&str, &str) = ("SMTP_URL", "smtps://u:hunter2@mail.example:465");

#[test]
fn emails_are_shown_in_development_and_in_production_nothing_set_turns_them_off() {
    for role in [Role::Dev, Role::Worker] {
        // What is not begun needs not be whole: it may come from a file that all environments have.
        for some in [vec![], vec![FROM], vec![BY_SMTP]] {
            let settings = expect(role, &with(vec![("ENVIRONMENT", "development")], &some));
            assert!(settings.email_enabled && settings.email.is_none());
        }
    }
    let silent = expect(Role::Worker, &production());
    assert!(!silent.email_enabled && silent.email.is_none() && silent.notices.is_empty());
    let off = expect(Role::Worker, &with(production(), &[FROM, ("EMAIL_OTP_ENABLED", "false")]));
    assert!(!off.email_enabled, "what is off needs not be whole");
}

#[test]
fn who_asks_for_emails_in_production_must_say_who_carries_them() {
    let asked = ("EMAIL_OTP_ENABLED", "true");
    for role in [Role::Worker, Role::Serve, Role::Show] {
        let text = expect_faults(role, &with(production(), &[asked]), &["EMAIL_OTP_ENABLED"]);
        assert!(text.contains("SENDGRID_API_KEY and EMAIL_FROM"), "{text}");
        for (some, missing) in [
            (vec![API_KEY], vec!["EMAIL_FROM"]),
            (vec![FROM], vec!["SENDGRID_API_KEY"]),
            (vec![FROM, SMTP_URL], vec!["SENDGRID_API_KEY"]),
            (vec![FROM, BY_SMTP, API_KEY], vec!["SMTP_URL"]),
            (vec![BY_SMTP], vec!["EMAIL_FROM", "SMTP_URL"]),
        ] {
            expect_faults(role, &with(production(), &some), &missing);
        }
    }
    expect_faults(Role::Dev, &[API_KEY], &["EMAIL_FROM"]);
    // Who only takes requests and reports sends nothing, and knows that others do.
    for some in [asked, API_KEY, FROM] {
        assert!(expect(Role::Http, &with(production(), &[some])).email_enabled);
    }
    assert!(!expect(Role::Http, &production()).email_enabled);
}

#[test]
fn a_carrier_of_emails_is_what_was_set() {
    let carrier = |some: &[(&str, &str)]| {
        let settings = expect(Role::Worker, &with(production(), some));
        assert!(settings.email_enabled);
        settings.email.expect("a carrier")
    };
    let EmailCarrier::SendGrid(sendgrid) = carrier(&[FROM, API_KEY]) else { panic!("SendGrid by default") };
    assert_eq!(
        (sendgrid.from.name(), sendgrid.from.address().as_str()),
        (Some("MeStore"), "codes@shop.example")
    );
    assert_eq!(sendgrid.api_key.expose_secret(), API_KEY.1);
    assert_eq!(sendgrid.base_url, "https://api.sendgrid.com");
    let EmailCarrier::Smtp(smtp) = carrier(&[FROM, API_KEY, BY_SMTP, SMTP_URL]) else {
        panic!("as asked for")
    };
    assert_eq!(smtp.url.expose_secret(), SMTP_URL.1);
    for url in ["http://127.0.0.1:4010", "https://api.eu.sendgrid.com"] {
        let at = carrier(&[FROM, API_KEY, ("SENDGRID_API_BASE_URL", url)]);
        assert!(matches!(at, EmailCarrier::SendGrid(at) if at.base_url == url));
    }
    expect_refused("SENDGRID_API_BASE_URL", "http://api.sendgrid.com");
    for from in
        ["hunter2", "Shop <a@hunter2.example>, b@hunter2.example", "a@hunter2.example\r\nBcc: x@y.example"]
    {
        let told = expect_faults(
            Role::Worker,
            &with(production(), &[API_KEY, ("EMAIL_FROM", from)]),
            &["EMAIL_FROM"],
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn published_keys_come_over_tls_or_from_this_machine() {
    let with_url = |url| with(production(), &[("JWT_SECRET", ""), ("JWT_JWKS_URL", url)]);
    for url in [
        "http://hunter2.example/jwks",
        "http://127.0.0.1.hunter2.example/jwks",
        "ftp://hunter2.example/jwks",
        "hunter2",
        "https://user:hunter2@issuer.example/jwks",
        "https://issuer.example/jwks#hunter2",
        "https://[hunter2",
    ] {
        let text = expect_faults(Role::Http, &with_url(url), &["JWT_JWKS_URL"]);
        assert!(!text.contains("hunter2"), "{text}");
    }
    for url in [JWKS_URL, "http://127.0.0.1:9/jwks", "http://localhost/jwks"] {
        let jwt = expect(Role::Http, &with_url(url)).jwt.expect("a source of keys");
        assert!(matches!(&jwt.key, JwtKey::Jwks(known) if known == url) && signing_secret(&jwt).is_none());
    }
    let development = [("ENVIRONMENT", "development"), ("JWT_JWKS_URL", "http://issuer:8000/jwks")];
    let jwt = expect(Role::Http, &development).jwt.expect("a source of keys");
    assert!(matches!(jwt.key, JwtKey::Jwks(_)), "and not the secret that everybody knows");
}

#[test]
fn where_keys_are_published_is_shown_without_what_could_be_a_secret() {
    let pairs = |url, issuer| {
        with(production(), &[("JWT_SECRET", ""), ("JWT_JWKS_URL", url), ("JWT_ISSUER", issuer)])
    };
    let shown = |shown: &[Shown]| {
        let shown = shown.iter().find(|shown| shown.name == "JWT_JWKS_URL").expect("it is shown");
        shown.value.clone()
    };
    let settings = expect(Role::Http, &pairs("https://issuer.example/jwks?key=hunter2", "https://i.example"));
    assert_eq!(shown(&settings.shown), "https://issuer.example/jwks");
    assert!(settings.notices.is_empty(), "{:?}", settings.notices);
    let told = read(Role::Http, &pairs("https://u:hunter2@issuer.example/jwks", "")).err().expect("a fault");
    assert_eq!(shown(&told.shown), "(set)");
    let settings = expect(Role::Http, &pairs(JWKS_URL, ""));
    assert!(
        matches!(&settings.notices[..], [only] if only.starts_with("JWT_JWKS_URL is set without JWT_ISSUER")),
        "{:?}",
        settings.notices
    );
}
