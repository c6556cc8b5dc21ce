//! The settings that k8s/ and packaging/systemd set: complete but for the values that only an operator knows.

use super::*;

const BASE: &str = "k8s/base/settings.env";
const PRODUCTION: &str = "k8s/overlays/production/settings.env";
const DEVELOPMENT: &str = "k8s/overlays/development/settings.env";
const SYSTEMD: &str = "packaging/systemd/otpost.env";
const ACCOUNT: [(&str, &str); 2] =
    [("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"), ("TWILIO_FROM_NUMBER", "+15005550006")];
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----";

/// The variables of a file of `NAME=value` lines; systemd allows quotes.
fn variables(path: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    lines.map(pair).collect()
}

/// The secrets as files, and the variables of a pod or unit of a role that name them.
struct Secrets(Vec<(&'static str, File)>);

impl Secrets {
    fn of(role: Role) -> Secrets {
        let mut files = vec![
            ("AMQP_URL_FILE", File::of("amqps://otpost:hunter2@rabbit.internal")),
            ("REDIS_URL_FILE", File::of("rediss://otpost:hunter2@redis.internal")),
            ("OTP_SECRET_KEYS_FILE", File::of(format!("k1:{KEY_1}"))),
            ("OTP_RECIPIENT_KEY_FILE", File::of(KEY_2)),
            ("TWILIO_AUTH_TOKEN_FILE", File::of("hunter2-token")),
        ];
        if role == Role::Http {
            files.push(("JWT_PUBLIC_KEY_FILE", File::of(PUBLIC_KEY)));
        }
        Secrets(files)
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, file)| (*name, file.path())).collect()
    }
}

/// Later variables replace earlier ones.
fn merged<'a>(sources: impl IntoIterator<Item = Vec<(&'a str, &'a str)>>) -> Pairs<'a> {
    sources.into_iter().fold(Vec::new(), |base, changes| with(base, &changes))
}

fn borrowed(variables: &[(String, String)]) -> Pairs<'_> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn production_needs_nothing_but_the_account_and_the_secrets() {
    let (base, production, systemd) = (variables(BASE), variables(PRODUCTION), variables(SYSTEMD));
    for role in [Role::Worker, Role::Http] {
        let secrets = Secrets::of(role);
        let kubernetes = merged([borrowed(&base), borrowed(&production), secrets.variables()]);
        let units = merged([borrowed(&systemd), secrets.variables()]);
        for pairs in [kubernetes, units] {
            let failure = read(role, &pairs).err().expect("the account is a placeholder");
            let is_account = |name: &String| ACCOUNT.iter().any(|(placeholder, _)| name == placeholder);
            assert!(failure.names.iter().all(is_account), "{role:?}: {}", failure.text);
            let settings = expect(role, &with(pairs, &ACCOUNT));
            assert!(settings.notices.is_empty(), "{role:?}: {:?}", settings.notices);
            assert_eq!(settings.environment, Environment::Production);
            assert_eq!(settings.shutdown_grace, Duration::from_secs(25));
        }
    }
}

#[test]
fn the_development_overlay_needs_no_secret() {
    let (base, development) = (variables(BASE), variables(DEVELOPMENT));
    for role in [Role::Worker, Role::Http] {
        let settings = expect(role, &merged([borrowed(&base), borrowed(&development)]));
        assert_eq!(settings.environment, Environment::Development);
        assert!(settings.notices.is_empty(), "{role:?}: {:?}", settings.notices);
    }
}
