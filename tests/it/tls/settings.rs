//! The settings of TLS: errors are reported at the start, with all others, and name no file.

use otpost::app;
use otpost::config::{Role, Settings};

use super::pki::Pki;

const EXTERNAL: &str = "amqps://rabbit.internal/?auth_mechanism=external";

/// The errors of a worker in production, and the notices.
fn errors(more: &[(&str, &str)]) -> Vec<String> {
    let production = [
        ("AMQP_URL", "amqps://u:p@rabbit.internal"),
        ("REDIS_URL", "rediss://redis.internal"),
        ("OTP_SECRET_KEYS", "k1:s5VoIedjng5FOfqCH0Nkq9hJTZT9qdQnvsnGkd+AyMc="),
        ("OTP_RECIPIENT_KEY", "65U8x/WOwpfTdmrExkT5DBWiVDkcum1BCeqjaS3rM10="),
        ("SMS_BRAND", "MeStore"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "hunter2-token"),
        ("TWILIO_FROM_NUMBER", "+15005550006"),
    ];
    let changed = |name: &str| more.iter().any(|(changed, _)| *changed == name);
    let kept = production.iter().filter(|(name, _)| !changed(name));
    let variables = kept.chain(more).map(|(name, value)| (name.into(), value.into()));
    let nowhere = "/nowhere/.env".as_ref();
    match Settings::read(Role::Worker, variables, nowhere, app::config_check::config_errors) {
        Ok(settings) => settings.notices,
        Err(failed) => failed.errors.iter().map(ToString::to_string).collect(),
    }
}

fn scene() -> Option<Pki> {
    let pki = Pki::new()?;
    pki.authority("private");
    for name in ["one", "two"] {
        pki.issue("private", name, "otpost");
    }
    Some(pki)
}

#[tokio::test]
async fn files_that_belong_together_are_taken() {
    let Some(pki) = scene() else { return };
    let (ca, certificate, key) = (pki.path("private.pem"), pki.path("one.crt"), pki.path("one.key"));
    let settings = [
        ("AMQP_URL", EXTERNAL),
        ("AMQP_CA_FILE", &ca),
        ("AMQP_CLIENT_CERT_FILE", &certificate),
        ("AMQP_CLIENT_KEY_FILE", &key),
        ("REDIS_URL", "rediss+cluster://one,two"),
        ("REDIS_CA_FILE", &ca),
        ("REDIS_CLIENT_CERT_FILE", &certificate),
        ("REDIS_CLIENT_KEY_FILE", &key),
        ("EMAIL_PROVIDER", "smtp"),
        ("EMAIL_FROM", "codes@shop.example"),
        ("SMTP_URL", "smtps://u:p@mail.internal"),
        ("SMTP_CA_FILE", &ca),
    ];
    assert_eq!(errors(&settings), Vec::<String>::new());
}

#[tokio::test]
async fn each_file_that_cannot_be_used_is_reported_by_its_setting() {
    let Some(pki) = scene() else { return };
    let (ca, one, other_key) = (pki.path("private.pem"), pki.path("one.crt"), pki.path("two.key"));
    let settings = [
        ("AMQP_CA_FILE", "/nonexistent/hunter2.pem"),
        ("AMQP_CLIENT_CERT_FILE", &other_key),
        ("AMQP_CLIENT_KEY_FILE", &one),
        ("REDIS_CA_FILE", &ca),
        ("REDIS_CLIENT_CERT_FILE", &one),
        ("REDIS_CLIENT_KEY_FILE", &other_key),
        ("OTP_CODE_LENGTH", "none"),
        ("EMAIL_PROVIDER", "smtp"),
        ("EMAIL_FROM", "codes@shop.example"),
        ("SMTP_URL", "smtps://u:p@mail.internal"),
        ("SMTP_CA_FILE", "/dev/null"),
    ];
    let expected = [
        "OTP_CODE_LENGTH must be a whole number from 4 to 10",
        "AMQP_CA_FILE names a file that does not exist",
        "AMQP_CLIENT_CERT_FILE names a file without a certificate in PEM",
        "AMQP_CLIENT_KEY_FILE names a file without a private key in PEM",
        "REDIS_CLIENT_KEY_FILE names a key that does not belong to the client certificate",
        "SMTP_CA_FILE names no file",
    ];
    let found = errors(&settings);
    assert!(expected.iter().all(|line| found.iter().any(|found| found == line)), "{found:#?}");
    assert!(found.len() == expected.len() && !found.concat().contains("hunter2"), "{found:#?}");
}

#[tokio::test]
async fn settings_without_effect_or_without_their_other_half_are_refused() {
    for (settings, expected) in [
        (
            &[("AMQP_URL", "amqp://u:p@rabbit.internal"), ("AMQP_CA_FILE", "/ca")][..],
            "AMQP_CA_FILE has no effect without TLS: begin AMQP_URL with amqps, or unset it",
        ),
        (
            &[("REDIS_URL", "redis+sentinel://one/m"), ("REDIS_CLIENT_KEY_FILE", "/key")],
            "REDIS_CLIENT_KEY_FILE has no effect without TLS: begin REDIS_URL with rediss, or unset it",
        ),
        (&[("AMQP_CLIENT_CERT_FILE", "/c")], "AMQP_CLIENT_KEY_FILE must be set beside AMQP_CLIENT_CERT_FILE"),
        (
            &[("REDIS_CLIENT_KEY_FILE", "/k")],
            "REDIS_CLIENT_CERT_FILE must be set beside REDIS_CLIENT_KEY_FILE",
        ),
        (
            &[("AMQP_URL", EXTERNAL)],
            "AMQP_CLIENT_CERT_FILE must be set beside auth_mechanism=external in AMQP_URL",
        ),
        (
            &[("AMQP_URL", "amqp://rabbit.internal/?auth_mechanism=external")],
            "AMQP_URL must begin with amqps:// beside auth_mechanism=external",
        ),
        (
            &[("AMQP_URL", "amqps://u:p@rabbit.internal/?auth_mechanism=external")],
            "AMQP_URL must have no user and password beside auth_mechanism=external",
        ),
        (&[("SMTP_CA_FILE", "/ca")], "SMTP_CA_FILE is set, but EMAIL_PROVIDER is not smtp: it has no effect"),
        (
            &[
                ("EMAIL_PROVIDER", "smtp"),
                ("EMAIL_FROM", "codes@shop.example"),
                ("SMTP_URL", "smtp://127.0.0.1:587"),
                ("SMTP_CA_FILE", "/ca"),
            ],
            "SMTP_CA_FILE has no effect: SMTP_URL leads to this machine, without TLS",
        ),
    ] {
        let found = errors(settings);
        assert!(found.iter().any(|line| line == expected), "{found:#?}");
    }
}
