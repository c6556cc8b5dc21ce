//! Sources of settings: the environment, files of secrets, a `.env` file.

use super::*;

#[test]
fn a_secret_may_be_in_a_file_and_is_trimmed() {
    let (keys, url) = (File::of(format!("\n k2:{KEY_3} , k1:{KEY_1}\n\n")), File::of("rediss://u:p@redis\n"));
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
    let (mark, nul) = (File::of("\u{feff}\r\n"), File::of(format!("{JWT_SECRET}\0")));
    let utf_16 = File::of(JWT_SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    for path in ["/nowhere/hunter2", env!("CARGO_MANIFEST_DIR"), "/dev/zero"] {
        check(path, &[], &["JWT_SECRET_FILE", "JWT_SECRET"]);
    }
    for file in [&binary, &large, &empty, &mark, &nul, &utf_16] {
        check(file.path(), &[], &["JWT_SECRET_FILE", "JWT_SECRET"]);
        let development = [("ENVIRONMENT", "development"), ("JWT_SECRET_FILE", file.path())];
        assert!(read(Role::Http, &development).is_err(), "it must not fall back to the public secret");
    }
    check(good.path(), &[("JWT_SECRET", JWT_SECRET)], &["JWT_SECRET_FILE"]);
}

#[test]
fn a_secret_file_is_read_without_its_byte_order_mark_and_line_ends() {
    for (before, after) in
        [("\u{feff}", "\r\n"), ("\u{feff}", ""), ("", "\r\n\r\n"), ("\n", " \n"), (" ", "\t")]
    {
        let file = File::of(format!("{before}{JWT_SECRET}{after}"));
        let pairs = with(production(), &[("JWT_SECRET", ""), ("JWT_SECRET_FILE", file.path())]);
        let jwt = expect(Role::Http, &pairs).jwt.expect("a key");
        assert_eq!(signing_secret(&jwt), Some(JWT_SECRET), "{before:?} {after:?}");
    }
    let marked = format!("\u{feff}{JWT_SECRET}");
    let pairs = with(production(), &[("JWT_SECRET", &marked)]);
    let jwt = expect(Role::Http, &pairs).jwt.expect("a key");
    assert_eq!(signing_secret(&jwt), Some(JWT_SECRET), "a mark in the variable");
}

#[test]
fn a_secret_file_with_two_readings_is_refused_by_its_setting() {
    for content in [
        format!("{JWT_SECRET}\u{feff}"),
        format!("{JWT_SECRET}\u{feff}\n"),
        format!("{}\u{200b}{}", &JWT_SECRET[..20], &JWT_SECRET[20..]),
        format!("\"{JWT_SECRET}\"\n"),
        format!("'{JWT_SECRET}'"),
        format!("{JWT_SECRET}\nhunter2\n"),
        format!("# the secret\n{JWT_SECRET}\n"),
        format!("{JWT_SECRET}\r{JWT_SECRET}"),
        format!("{JWT_SECRET}\n\n{JWT_SECRET}"),
        format!("{JWT_SECRET}\u{2028}x"),
        format!("{JWT_SECRET}\0"),
        format!("{JWT_SECRET}\0\n"),
        format!("{JWT_SECRET}\u{1b}[0m"),
        format!("JWT_SECRET={JWT_SECRET}\n"),
        format!("export JWT_SECRET='{JWT_SECRET}'\n"),
    ] {
        let file = File::of(&content);
        for base in [production(), vec![("ENVIRONMENT", "development")]] {
            let pairs = with(base, &[("JWT_SECRET", ""), ("JWT_SECRET_FILE", file.path())]);
            let failure = read(Role::Http, &pairs).err().unwrap_or_else(|| panic!("{content:?} was taken"));
            assert_eq!(failure.names[0], "JWT_SECRET_FILE", "{content:?}: {}", failure.text);
            assert!(!failure.text.contains("hunter2"), "{}", failure.text);
        }
    }
    let pem = include_str!("../keys/p256.public.pem");
    for content in [format!("{pem}\u{feff}"), format!("\"{pem}\""), pem.replace('\n', "\u{200b}\n")] {
        let file = File::of(content);
        let pairs = with(production(), &[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY_FILE", file.path())]);
        let failure = read(Role::Http, &pairs).err().expect("a fault");
        assert_eq!(failure.names[0], "JWT_PUBLIC_KEY_FILE", "{}", failure.text);
    }
    let windows = File::of(format!("\u{feff}{}", pem.replace('\n', "\r\n")));
    expect(Role::Http, &with(production(), &[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY_FILE", windows.path())]));
}

#[test]
fn a_secret_variable_with_an_invisible_character_is_refused() {
    for (name, value) in [
        ("JWT_SECRET", format!("{JWT_SECRET}\u{feff}")),
        ("JWT_SECRET", format!("{}\u{200b}{}", &JWT_SECRET[..20], &JWT_SECRET[20..])),
        ("TWILIO_AUTH_TOKEN", "hunter2-token\u{feff}".to_owned()),
        ("TWILIO_AUTH_TOKEN", "hunter2-\u{7f}token".to_owned()),
    ] {
        expect_refused(name, &value);
        let quoted = File::of(format!("{name}='{value}'\n"));
        let failure = read_with(Role::Dev, &[], &quoted.0).err().expect("a fault");
        assert!(failure.names[0] == name || failure.names == [".env"], "{}", failure.text);
    }
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

/// The brand, the code length, and the e-mail sender of a `.env`.
#[track_caller]
fn expect_dotenv(content: impl AsRef<[u8]>, brand: &str) {
    let file = File::of(&content);
    let shown = String::from_utf8_lossy(content.as_ref()).into_owned();
    let settings =
        read_with(Role::Dev, &[], &file.0).unwrap_or_else(|failure| panic!("{shown:?}: {}", failure.text));
    assert_eq!(settings.brand, brand, "{shown:?}");
}

/// The faults of a `.env` that also has a wrong code length, which must be found beside them.
#[track_caller]
fn expect_dotenv_refused(content: impl AsRef<[u8]>, lines: &[usize]) {
    let content = [content.as_ref(), b"\nOTP_CODE_LENGTH=none"].concat();
    let file = File::of(&content);
    let shown = String::from_utf8_lossy(&content).into_owned();
    let failure = read_with(Role::Dev, &[], &file.0).err().unwrap_or_else(|| panic!("{shown:?} was taken"));
    let names = [vec![".env"; lines.len()], vec!["OTP_CODE_LENGTH"]].concat();
    assert_eq!(failure.names, names, "{shown:?}: {}", failure.text);
    for line in lines {
        assert!(failure.text.contains(&format!(".env line {line} ")), "{shown:?}: {}", failure.text);
    }
    assert!(!failure.text.contains("hunter2"), "{}", failure.text);
}

#[test]
fn a_dotenv_file_is_read_as_people_write_it() {
    for content in [
        "\u{feff}SMS_BRAND=My Shop",
        "\u{feff}SMS_BRAND=My Shop\r\nOTP_CODE_LENGTH=8\r\n",
        "SMS_BRAND=My Shop   \n",
        "  export  SMS_BRAND = My Shop",
        "SMS_BRAND=My Shop # the name",
        "SMS_BRAND=My Shop\t#",
        "SMS_BRAND='My Shop'",
        "SMS_BRAND=\"My Shop\" # the name",
        "# SMS_BRAND=Other\n\n   # more\nSMS_BRAND=My Shop",
        "OTHER=\"-----BEGIN-----\nabc==\n-----END-----\"\nSMS_BRAND=My Shop",
        "OTHER=\nSMS_BRAND=My Shop",
        "SMS_BRAND=\nSMS_ENCODING=gsm7\nexport OTHER=x\nOTHER_2='SMS_BRAND=No'\nOTHER_3=\"'\"",
    ] {
        let brand = if content.contains("My Shop") { "My Shop" } else { "MeStore" };
        expect_dotenv(content, brand);
    }
    expect_dotenv("SMS_BRAND=a#b", "a#b");
    expect_dotenv("SMS_BRAND=#b", "#b");
    expect_dotenv("SMS_BRAND=a=b", "a=b");
    for brand in ["$A", "a$", "A$HOME", "a$$b", "$HOME"] {
        expect_dotenv(format!("SMS_BRAND={brand}"), brand);
        expect_dotenv(format!("SMS_BRAND=\"{brand}\""), brand);
    }
    expect_dotenv("SMS_BRAND='a${HOME}\\b'", "a${HOME}\\b");
    expect_dotenv("SMS_BRAND='\"#\"'", "\"#\"");
    expect_dotenv("SMS_BRAND=\"a\\\"b\\\\c\\$d\"", "a\"b\\c$d");
    expect_dotenv("", "MeStore");
    expect_dotenv("SMS_BRAND= # none", "MeStore");
    expect_dotenv("\u{feff}", "MeStore");
}

#[test]
fn the_sender_of_the_documentation_needs_no_quotes_in_a_dotenv_file() {
    let file = File::of("EMAIL_FROM=Shop <codes@shop.example>\nSENDGRID_API_KEY=SG.a$b\n");
    let settings = read_with(Role::Dev, &[], &file.0).unwrap_or_else(|failure| panic!("{}", failure.text));
    let Some(EmailProvider::SendGrid(provider)) = settings.email_provider else { panic!("no provider") };
    assert_eq!(provider.api_key.expose_secret(), "SG.a$b");
}

#[test]
fn a_broken_line_of_a_dotenv_file_is_refused_by_its_number_and_the_rest_is_read() {
    expect_dotenv_refused("SMS_BRAND=Good\nJWT SECRET hunter2\n", &[2]);
    for line in [
        "hunter2",
        "=hunter2",
        "JWT-SECRET=hunter2",
        "JWT_SECRET: hunter2",
        "export JWT_SECRET",
        "2JWT_SECRET=hunter2",
        "\u{feff}JWT_SECRET=hunter2",
        "SMS_BRAND='hunter2",
        "SMS_BRAND=\"hunter2",
        "SMS_BRAND=hunter2'",
        "SMS_BRAND=hun\"ter2\"",
        "SMS_BRAND='hunter2' hunter2",
        "SMS_BRAND=\"hunter2\"hunter2",
        "SMS_BRAND=\"hunter2\\q\"",
        "SMS_BRAND=hunter2\\ hunter2",
        "SMS_BRAND=hunter2 #1",
        "SMS_BRAND=a${hunter2}",
        "SMS_BRAND=\"a${hunter2}\"",
        "SMS_BRAND=hunter2\0",
        "SMS_BRAND='hunter2\u{1b}'",
        "SMS_BRAND=hunter2\rOTHER=x",
    ] {
        expect_dotenv_refused(format!("# first\n{line}"), &[2]);
    }
    expect_dotenv_refused("hunter2\n\nhunter2\nX=1\nhunter2", &[1, 3, 5]);
    expect_dotenv_refused("SMS_BRAND=a\nX=1\nSMS_BRAND=hunter2", &[3]);
    expect_dotenv_refused(b"X=1\nSMS_BRAND=hunter2\xff\n", &[2]);
    // A quote that ends on a later line swallows no setting.
    expect_dotenv_refused("SMS_BRAND=\"hunter2\nEMAIL_FROM=\"Shop <codes@shop.example>\"", &[1]);
}

#[test]
fn a_dotenv_that_is_no_text_file_is_one_fault() {
    #[track_caller]
    fn check(path: &Path, words: &str) {
        let failure = read_with(Role::Dev, &[("OTP_CODE_LENGTH", "none")], path).err().expect("a fault");
        assert_eq!(failure.names, [".env", "OTP_CODE_LENGTH"], "{}", failure.text);
        assert!(failure.text.contains(words) && !failure.text.contains("hunter2"), "{}", failure.text);
        let faults = read_with(Role::Serve, &production(), path).err();
        assert!(faults.is_none(), "production does not read it");
    }
    let utf_16 = |bytes: fn(u16) -> [u8; 2]| {
        let units = "\u{feff}SMS_BRAND=hunter2\n".encode_utf16();
        File::of(units.flat_map(bytes).collect::<Vec<u8>>())
    };
    check(&utf_16(u16::to_le_bytes).0, "UTF-16");
    check(&utf_16(u16::to_be_bytes).0, "UTF-16");
    check(&File::of("SMS_BRAND=hunter2\n".repeat(10_000)).0, "64 KiB");
    check(Path::new(env!("CARGO_MANIFEST_DIR")), "no file");
    let link = std::env::temp_dir().join(real::unique("link"));
    std::os::unix::fs::symlink("/nowhere/hunter2", &link).expect("a writable folder");
    check(&link, "symbolic link");
    drop(std::fs::remove_file(&link));
    std::os::unix::fs::symlink(&link, &link).expect("a writable folder");
    check(&link, "cannot be read");
    drop(std::fs::remove_file(&link));
    let unmarked = "SMS_BRAND=hunter2".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let failure = read_with(Role::Dev, &[], &File::of(unmarked).0).err().expect("a fault");
    assert!(failure.names == [".env"] && !failure.text.contains("hunter2"), "{}", failure.text);
    let many = File::of("hunter2\n".repeat(2_000));
    let failure = read_with(Role::Dev, &[], &many.0).err().expect("faults");
    assert!(failure.names.len() <= 21 && failure.text.contains("1980"), "{}", failure.text);
}

#[test]
fn a_dotenv_that_is_not_read_is_mentioned() {
    for (content, environment) in
        [("ENVIRONMENT=production\n", ""), ("ENVIRONMENT=production\n", "production"), ("hunter2 \0", "")]
    {
        let file = File::of(content);
        let failure =
            read_with(Role::Worker, &[("ENVIRONMENT", environment)], &file.0).err().expect("faults");
        assert!(failure.text.contains(".env is here and not read"), "{}", failure.text);
        assert!(!failure.text.contains("hunter2"), "{}", failure.text);
        let settings = read_with(Role::Serve, &with(production(), &[("ENVIRONMENT", environment)]), &file.0);
        let notices = settings.map(|settings| settings.notices).map_err(|failure| failure.text);
        assert!(
            notices.as_ref().is_ok_and(|notices| notices
                .iter()
                .any(|notice| notice.starts_with(".env is here and not read"))),
            "{notices:?}"
        );
    }
    let absent = read(Role::Worker, &[]).err().expect("faults");
    assert!(!absent.text.contains(".env"), "{}", absent.text);
}

#[test]
fn a_dotenv_that_names_another_environment_causes_a_notice() {
    let notices = |content: &str, role, pairs: &[(&str, &str)]| {
        let settings = read_with(role, pairs, &File::of(content).0);
        settings.map(|settings| settings.notices).unwrap_or_else(|failure| panic!("{}", failure.text))
    };
    let development = [("ENVIRONMENT", "development")];
    for (role, pairs) in [(Role::Dev, &[][..]), (Role::Worker, &development)] {
        for value in ["production", "staging", "'production'"] {
            let notices = notices(&format!("ENVIRONMENT={value}\n"), role, pairs);
            assert!(notices.iter().any(|notice| notice.contains(".env sets ENVIRONMENT")), "{notices:?}");
        }
        assert_eq!(notices("ENVIRONMENT=development\nOTHER=1\n", role, pairs), Vec::<String>::new());
    }
    let contradiction = notices("ENVIRONMENT=development\n", Role::Serve, &production());
    assert!(contradiction.iter().any(|notice| notice.contains(".env sets ENVIRONMENT")), "{contradiction:?}");
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
        assert_eq!((settings.code_length.get(), settings.amqp_prefix.as_str()), (6, "otpost"));
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
fn the_name_of_a_variable_cannot_write_on_a_terminal_or_forge_a_line() {
    let odd = [("OTP_X\u{1b}[31m\u{202e}\nY", "hunter2")];
    let notices = expect(Role::Serve, &with(production(), &odd)).notices;
    let name = "OTP_X\u{fffd}[31m\u{fffd}\u{fffd}Y";
    assert_eq!(notices, [format!("{name} is set, but is no setting of otpost: is it misspelt?")]);
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
