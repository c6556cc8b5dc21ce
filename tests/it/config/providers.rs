//! The settings of providers.

use otpost::config::{SmsProvider, Twilio};

use super::*;

fn twilio_of(provider: Option<SmsProvider>) -> Twilio {
    let Some(SmsProvider::Twilio(twilio)) = provider else { panic!("no account at Twilio") };
    twilio
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
        assert_eq!(twilio_of(settings.sms_provider).base_url, url);
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
fn an_account_is_complete_or_refused() {
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
    let account =
        |changes: &[(&str, &str)]| twilio_of(expect(Role::Worker, &with(production(), changes)).sms_provider);
    let rotating =
        account(&[("TWILIO_AUTH_TOKEN", "new, old"), ("TWILIO_FROM_NUMBER", "+15005550006, 85432")]);
    assert_eq!(rotating.password.expose_secret(), "new", "the first signs our calls");
    let numbers = ["+15005550006", "85432"].map(str::to_owned).to_vec();
    assert_eq!(rotating.sender, Some(TwilioSender::Numbers(numbers)));
    let keyed = account(&[api_key, ("TWILIO_API_KEY_SECRET", "s"), ("TWILIO_AUTH_TOKEN", ""), service]);
    assert_eq!((keyed.user.as_str(), keyed.password.expose_secret()), (api_key.1, "s"));
    assert_eq!(keyed.sender, Some(TwilioSender::Service(service.1.to_owned())));
}

/// Settings that all processes share may name a key whose secret only the workers have.
#[test]
fn an_api_needs_no_secret_of_the_workers_key() {
    let api_key = ("TWILIO_API_KEY_SID", "SK00000000000000000000000000000001");
    let settings = |changes: &[(&str, &str)]| {
        let settings = expect(Role::Http, &with(production(), &[&[api_key], changes].concat()));
        let is_noted =
            settings.notices.iter().any(|notice| notice.starts_with("TWILIO_API_KEY_SID is set without"));
        assert!(is_noted, "{:?}", settings.notices);
        settings
    };
    let with_token = twilio_of(settings(&[]).sms_provider);
    assert_ne!(with_token.user, api_key.1, "the token signs its calls");
    assert!(settings(&[("TWILIO_AUTH_TOKEN", "")]).sms_provider.is_none(), "the account alone is none");
    let verify = [api_key, ("SMS_PROVIDER", "verify"), ("TWILIO_VERIFY_SERVICE_SID", VERIFY)];
    expect_faults(Role::Http, &with(production(), &verify), &["TWILIO_API_KEY_SECRET"]);
}

const VERIFY: &str = "VA00000000000000000000000000000001";

#[test]
fn verify_needs_all_of_its_settings() {
    let (chosen, sid) = (("SMS_PROVIDER", "verify"), ("TWILIO_VERIFY_SERVICE_SID", VERIFY));
    let url = "TWILIO_VERIFY_BASE_URL";
    // The service has its own senders, so ours are not required.
    let settings = expect(Role::Worker, &with(production(), &[chosen, sid, ("TWILIO_FROM_NUMBER", "")]));
    let twilio = twilio_of(settings.sms_provider);
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
    let service = twilio_of(expect(Role::Http, &local).sms_provider).verify.expect("a service");
    assert_eq!(service.base_url, "http://127.0.0.1:4010");
    expect_faults(Role::Worker, &with(production(), &[("SMS_PROVIDER", "pigeon")]), &["SMS_PROVIDER"]);
}

#[test]
fn settings_of_verify_without_choosing_it_cause_a_notice() {
    for (name, value) in
        [("TWILIO_VERIFY_SERVICE_SID", VERIFY), ("TWILIO_VERIFY_BASE_URL", "https://x.example")]
    {
        let settings = expect(Role::Worker, &with(production(), &[(name, value)]));
        assert!(twilio_of(settings.sms_provider).verify.is_none());
        let notice = format!("{name} is set, but SMS_PROVIDER is not verify: it has no effect");
        assert_eq!(settings.notices, [notice]);
    }
    for (name, value) in [
        ("TWILIO_FROM_NUMBER", "+15005550006"),
        ("TWILIO_MESSAGING_SERVICE_SID", "MG00000000000000000000000000000001"),
        ("TWILIO_API_BASE_URL", "https://x.example"),
        ("TWILIO_STATUS_CALLBACK_URL", "https://otp.example/webhooks/twilio/status"),
        ("TWILIO_SENDER_MPS", "3"),
        ("RECEIPT_WAIT_HOURS", "2"),
        ("SMS_ENCODING", "unicode"),
        ("CONTENT_RETENTION", "discard"),
        ("ADDRESS_RETENTION", "obfuscate"),
    ] {
        let chosen = [
            ("SMS_PROVIDER", "verify"),
            ("TWILIO_VERIFY_SERVICE_SID", VERIFY),
            ("TWILIO_FROM_NUMBER", ""),
            (name, value),
        ];
        let notices = expect(Role::Worker, &with(production(), &chosen)).notices;
        assert_eq!(notices, [format!("{name} is set, but SMS_PROVIDER=verify: it has no effect")]);
    }
}

#[test]
fn numbers_that_twilio_does_not_keep_need_a_policy_without_lookups() {
    let kept = |changes: &[(&str, &str)]| {
        let retention = twilio_of(expect(Role::Worker, &with(production(), changes)).sms_provider).retention;
        (retention.keeps_texts, retention.keeps_addresses)
    };
    let (discard, obfuscate) = (("CONTENT_RETENTION", "discard"), ("ADDRESS_RETENTION", "obfuscate"));
    let never = ("IN_DOUBT_POLICY", "never_resend");
    assert_eq!(kept(&[]), (true, true));
    assert_eq!(kept(&[discard]), (false, true));
    assert_eq!(kept(&[discard, obfuscate, never]), (false, false));
    for role in [Role::Worker, Role::Http, Role::Serve] {
        for policy in ["reconcile", "resend"] {
            let changes = with(production(), &[obfuscate, ("IN_DOUBT_POLICY", policy)]);
            let text = expect_faults(role, &changes, &["ADDRESS_RETENTION"]);
            assert!(text.contains("IN_DOUBT_POLICY=never_resend"), "{text}");
        }
    }
    expect_faults(Role::Worker, &with(production(), &[obfuscate]), &["ADDRESS_RETENTION"]);
    expect_refused("CONTENT_RETENTION", "drop");
    expect_refused("ADDRESS_RETENTION", "drop");
}

#[test]
fn a_process_that_checks_codes_of_verify_needs_the_account() {
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
fn a_process_that_only_accepts_callbacks_needs_no_sender() {
    let callback = ("TWILIO_STATUS_CALLBACK_URL", "https://otp.example/webhooks/twilio/status");
    let changes = [callback, ("TWILIO_FROM_NUMBER", "")];
    for role in [Role::Http, Role::Store, Role::Offline] {
        let twilio = twilio_of(expect(role, &with(production(), &changes)).sms_provider);
        assert!(twilio.sender.is_none() && twilio.status_callback.is_some() && twilio.tokens.len() == 1);
    }
    for role in [Role::Worker, Role::Serve, Role::Dev] {
        expect_faults(role, &with(production(), &changes), &["TWILIO_FROM_NUMBER"]);
    }
    // A sender that is set must still be valid.
    expect_faults(
        Role::Http,
        &with(production(), &[("TWILIO_FROM_NUMBER", "a b c d e f g")]),
        &["TWILIO_FROM_NUMBER"],
    );
}

#[test]
fn with_an_api_key_and_no_token_receipts_are_polled_and_a_notice_says_so() {
    let keyed = [
        ("TWILIO_API_KEY_SID", "SK00000000000000000000000000000001"),
        ("TWILIO_API_KEY_SECRET", "s"),
        ("TWILIO_STATUS_CALLBACK_URL", "https://otp.example/webhooks/twilio/status"),
    ];
    for (token, reported) in [("", false), ("hunter2-token", true)] {
        let changes = [&keyed[..], &[("TWILIO_AUTH_TOKEN", token)]].concat();
        let settings = expect(Role::Serve, &with(production(), &changes));
        let twilio = twilio_of(settings.sms_provider);
        assert_eq!(
            (twilio.status_callback.is_some(), twilio.tokens.len()),
            (reported, usize::from(reported))
        );
        assert_eq!((twilio.user.as_str(), twilio.password.expose_secret()), (keyed[0].1, "s"));
        let said = settings.notices.iter().any(|notice| notice.contains("receipts are polled instead"));
        assert_eq!(said, !reported, "{:?}", settings.notices);
        assert!(settings.receipt_wait.is_some(), "they are polled");
    }
}

const FROM: (&str, &str) = ("EMAIL_FROM", "MeStore <codes@shop.example>");

const API_KEY: (&str, &str) = ("SENDGRID_API_KEY", "SG.hunter2");

const BY_SMTP: (&str, &str) = ("EMAIL_PROVIDER", "smtp");

const SMTP_URL: (&str, &str) = ("SMTP_URL", "smtps://u:hunter2@mail.example:465");

#[test]
fn emails_are_simulated_in_development_and_off_in_production_without_settings() {
    for role in [Role::Dev, Role::Worker] {
        // Without a credential the rest is not required: it may come from a file that all environments share.
        for some in [vec![], vec![FROM], vec![BY_SMTP]] {
            let settings = expect(role, &with(vec![("ENVIRONMENT", "development")], &some));
            assert!(settings.email_enabled && settings.email_provider.is_none());
        }
    }
    let silent = expect(Role::Worker, &production());
    assert!(!silent.email_enabled && silent.email_provider.is_none() && silent.notices.is_empty());
    let off = expect(Role::Worker, &with(production(), &[FROM, ("EMAIL_OTP_ENABLED", "false")]));
    assert!(!off.email_enabled, "what is off needs not be whole");
}

#[test]
fn emails_in_production_need_a_provider() {
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
    // An API process sends nothing, and these settings show that workers send e-mails.
    for some in [asked, API_KEY, FROM] {
        assert!(expect(Role::Http, &with(production(), &[some])).email_enabled);
    }
    assert!(!expect(Role::Http, &production()).email_enabled);
}

#[test]
fn incomplete_settings_of_emails_cause_a_notice_of_their_effect() {
    #[track_caller]
    fn notices(base: &[(&'static str, &'static str)], some: &[(&'static str, &'static str)]) -> Vec<String> {
        expect(Role::Worker, &with(base.to_vec(), some)).notices
    }
    let development = [("ENVIRONMENT", "development")];
    let by_sendgrid = ("EMAIL_PROVIDER", "sendgrid");
    for (some, notice) in [
        (vec![FROM], "EMAIL_FROM is set, but SENDGRID_API_KEY is not: e-mails are simulated"),
        (vec![BY_SMTP], "EMAIL_PROVIDER is set, but SMTP_URL is not: e-mails are simulated"),
        (
            vec![FROM, by_sendgrid],
            "EMAIL_PROVIDER and EMAIL_FROM are set, but SENDGRID_API_KEY is not: e-mails are simulated",
        ),
        (
            vec![FROM, SMTP_URL],
            "SMTP_URL is set, but EMAIL_PROVIDER is not smtp: it has no effect, and e-mails are simulated",
        ),
        (
            vec![FROM, BY_SMTP, API_KEY],
            "SENDGRID_API_KEY is set, but EMAIL_PROVIDER is smtp: it has no effect, and e-mails are simulated",
        ),
        (vec![FROM, API_KEY, SMTP_URL], "SMTP_URL is set, but EMAIL_PROVIDER is not smtp: it has no effect"),
    ] {
        assert_eq!(notices(&development, &some), [notice]);
        assert_eq!(notices(&development, &[&some[..], &[("EMAIL_OTP_ENABLED", "false")]].concat()), [""; 0]);
    }
    for whole in [vec![], vec![FROM, API_KEY], vec![FROM, BY_SMTP, SMTP_URL]] {
        assert_eq!(notices(&development, &whole), [""; 0]);
    }
    let both = [FROM, API_KEY, BY_SMTP, SMTP_URL];
    let only = "SENDGRID_API_KEY is set, but EMAIL_PROVIDER is smtp: it has no effect";
    assert_eq!(notices(&production(), &both), [only]);
}

#[test]
fn an_http_process_without_settings_of_emails_has_a_notice_of_its_answer() {
    let notices =
        |role, some: &[(&'static str, &'static str)]| expect(role, &with(production(), some)).notices;
    let without = notices(Role::Http, &[]);
    assert!(
        matches!(&without[..], [only] if only.starts_with("EMAIL_OTP_ENABLED is not set") && only.contains("channel_disabled")),
        "{without:?}"
    );
    for some in [("EMAIL_OTP_ENABLED", "true"), ("EMAIL_OTP_ENABLED", "false"), API_KEY, FROM] {
        assert_eq!(notices(Role::Http, &[some]), [""; 0]);
    }
    assert_eq!(notices(Role::Serve, &[]), [""; 0], "it knows that there is no provider");
    assert_eq!(expect(Role::Http, &[("ENVIRONMENT", "development")]).notices, [""; 0]);
}

#[test]
fn the_provider_of_emails_is_the_one_that_is_set() {
    let provider = |some: &[(&str, &str)]| {
        let settings = expect(Role::Worker, &with(production(), some));
        assert!(settings.email_enabled);
        settings.email_provider.expect("a provider")
    };
    let EmailProvider::SendGrid(sendgrid) = provider(&[FROM, API_KEY]) else { panic!("SendGrid by default") };
    assert_eq!(
        (sendgrid.from.name(), sendgrid.from.address().as_str()),
        (Some("MeStore"), "codes@shop.example")
    );
    assert_eq!(sendgrid.api_key.expose_secret(), API_KEY.1);
    assert_eq!(sendgrid.base_url, "https://api.sendgrid.com");
    let EmailProvider::Smtp(smtp) = provider(&[FROM, API_KEY, BY_SMTP, SMTP_URL]) else {
        panic!("SMTP as chosen")
    };
    assert_eq!(smtp.url.expose_secret(), SMTP_URL.1);
    for url in ["http://127.0.0.1:4010", "https://api.eu.sendgrid.com"] {
        let at = provider(&[FROM, API_KEY, ("SENDGRID_API_BASE_URL", url)]);
        assert!(matches!(at, EmailProvider::SendGrid(at) if at.base_url == url));
    }
    expect_refused("SENDGRID_API_BASE_URL", "http://api.sendgrid.com");
    for from in
        ["hunter2", "Shop <a@hunter2.example>, b@hunter2.example", "a@hunter2.example\r\nBcc: x@y.example"]
    {
        let text = expect_faults(
            Role::Worker,
            &with(production(), &[API_KEY, ("EMAIL_FROM", from)]),
            &["EMAIL_FROM"],
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
