//! Sources of settings: the environment, files of secrets, a `.env` file.

use super::*;

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
    let pem = File::of(include_str!("../keys/p256.public.pem"));
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
fn a_file_for_a_setting_that_is_no_secret_causes_a_notice() {
    let file = File::of("AC00000000000000000000000000000002");
    let pairs = with(production(), &[("TWILIO_ACCOUNT_SID_FILE", file.path())]);
    let notices = expect(Role::Serve, &pairs).notices;
    assert!(notices.iter().any(|notice| notice.contains("TWILIO_ACCOUNT_SID_FILE")), "{notices:?}");
}

#[test]
fn a_dotenv_file_is_read_in_development_only_and_never_over_the_environment() {
    let file = File::of("SMS_BRAND=FromFile\nOTP_CODE_LENGTH=8\n# a comment\nexport SMS_ENCODING=unicode\n");
    let read = |role, pairs: &[(&str, &str)]| read_with(role, pairs, &file.0).map_err(|failure| failure.text);
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
fn an_empty_variable_does_not_hide_one_of_a_dotenv_file() {
    let file = File::of("SMS_BRAND=FromFile\n");
    for empty in ["", " "] {
        let settings = read_with(Role::Dev, &[("SMS_BRAND", empty)], &file.0);
        assert_eq!(
            settings.map(|settings| settings.brand).map_err(|failure| failure.text),
            Ok("FromFile".to_owned())
        );
    }
}

#[test]
fn a_broken_dotenv_file_is_an_error_that_repeats_none_of_it() {
    let file = File::of("SMS_BRAND=Good\nJWT SECRET hunter2\n");
    let failure = read_with(Role::Dev, &[], &file.0).err().expect("a fault");
    assert_eq!(failure.names, [".env"]);
    assert!(!failure.text.contains("hunter2"), "{}", failure.text);
    assert!(read_with(Role::Serve, &production(), &file.0).is_ok(), "production does not read it");
}

#[test]
fn a_dotenv_file_cannot_set_the_environment_to_development() {
    let file = File::of("ENVIRONMENT=development\n");
    for pairs in [vec![], vec![("ENVIRONMENT", "production")], vec![("ENVIRONMENT", "")]] {
        let failure = read_with(Role::Worker, &pairs, &file.0).err().expect("faults");
        assert!(failure.names.contains(&"OTP_SECRET_KEYS".to_owned()), "{}", failure.text);
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
fn a_variable_that_is_not_utf_8_is_an_error_only_if_it_is_ours() {
    let read = |name: &[u8], value: &[u8]| {
        let pairs = production().into_iter().map(|(name, value)| (name.into(), value.into()));
        let foreign = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        read_os(Role::Serve, pairs.chain([foreign]).collect(), Path::new("/nowhere/.env"))
    };
    assert!(read(b"LS_COLORS", b"\xff").is_ok());
    assert!(read(b"\xff\xfe", b"x").is_ok());
    let failure = read(b"SMS_BRAND", b"hunter2\xff").err().expect("a fault");
    assert_eq!(failure.names, ["SMS_BRAND"]);
    assert!(!failure.text.contains("hunter2"), "{}", failure.text);
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
fn a_setting_of_another_version_causes_a_notice_whatever_its_prefix() {
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let notices = expect(Role::Serve, &with(production(), &[(name, "hunter2")])).notices;
    assert_eq!(notices, [format!("{name} is set, but not supported by this version: it has no effect")]);
}

#[test]
fn the_variables_of_kubernetes_services_cause_no_notice_and_a_misspelt_setting_beside_them_does() {
    let of_service = |service: &str| {
        ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "SERVICE_PORT_HTTP_2", "PORT", "PORT_80_TCP"]
            .into_iter()
            .chain(["PORT_80_TCP_PROTO", "PORT_80_TCP_PORT", "PORT_80_TCP_ADDR", "PORT_53_UDP_ADDR"])
            .map(|rest| format!("{service}_{rest}"))
            .collect::<Vec<_>>()
    };
    for service in ["OTP", "SMS", "SMS_GATEWAY", "EMAIL", "SMTP", "TWILIO", "SENDGRID", "WORKER", "JWT"] {
        let names = of_service(service);
        let variables: Pairs<'_> = names.iter().map(|name| (name.as_str(), "tcp://10.0.0.7:80")).collect();
        let notices = expect(Role::Serve, &with(production(), &variables)).notices;
        assert!(notices.is_empty(), "{notices:?}");
        // Without the host there is no such service.
        let without = expect(Role::Serve, &with(production(), &variables[1..])).notices;
        assert_eq!(without.len(), names.len() - 1, "{without:?}");
        let misspelt =
            ["OTP_CODE_LENGHT", "OTP_PORT_HTTP", "OTP_PORT_80_HTTP", "OTP_PORTS", "OTP_PORT_80_TCP_X"];
        for name in misspelt {
            let notices = expect(Role::Serve, &with(with(production(), &variables), &[(name, "7")])).notices;
            assert_eq!(notices.len(), 1, "{notices:?}");
            assert!(notices[0].starts_with(&format!("{name} is set")), "{notices:?}");
        }
    }
}
