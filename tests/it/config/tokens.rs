//! Settings for the check of tokens.

use super::*;

#[test]
fn tokens_are_checked_with_exactly_one_key_for_an_audience() {
    let pem = include_str!("../keys/rsa.public.pem");
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
    expect_refused("JWT_SECRET", &JWT_SECRET[..31]);
    expect(Role::Http, &with(production(), &[("JWT_SECRET", &JWT_SECRET[..32])]));
    let jwt = expect(Role::Http, &with(production(), &[("JWT_ISSUER", "https://issuer.example")]))
        .jwt
        .expect("a key");
    assert_eq!(
        (jwt.issuer.as_deref(), jwt.audience.as_deref()),
        (Some("https://issuer.example"), Some("shop"))
    );
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
    assert!(matches!(jwt.key, JwtKey::Jwks(_)), "and not the published development secret");
}

#[test]
fn the_url_of_published_keys_is_shown_without_possible_secrets() {
    let pairs = |url, issuer| {
        let no_emails = ("EMAIL_OTP_ENABLED", "false");
        with(production(), &[("JWT_SECRET", ""), ("JWT_JWKS_URL", url), ("JWT_ISSUER", issuer), no_emails])
    };
    let shown = |shown: &[Shown]| {
        let shown = shown.iter().find(|shown| shown.name == "JWT_JWKS_URL").expect("it is shown");
        shown.value.clone()
    };
    let settings = expect(Role::Http, &pairs("https://issuer.example/jwks?key=hunter2", "https://i.example"));
    assert_eq!(shown(&settings.shown), "https://issuer.example/jwks");
    assert!(settings.notices.is_empty(), "{:?}", settings.notices);
    let failure =
        read(Role::Http, &pairs("https://u:hunter2@issuer.example/jwks", "")).err().expect("a fault");
    assert_eq!(shown(&failure.shown), "(set)");
    let settings = expect(Role::Http, &pairs(JWKS_URL, ""));
    assert!(
        matches!(&settings.notices[..], [only] if only.starts_with("JWT_JWKS_URL is set without JWT_ISSUER")),
        "{:?}",
        settings.notices
    );
}

#[test]
fn a_proof_needs_an_own_key_and_an_audience() {
    let (p256, ed25519) =
        (include_str!("../keys/p256.private.pem"), include_str!("../keys/ed25519.private.pem"));
    let (proofs, both) = (("PROOF_AUDIENCE", "https://shop.example"), format!("{ed25519}{p256}"));
    let settings = expect(Role::Http, &with(production(), &[("PROOF_KEY", &both), proofs]));
    let made = settings.proofs.expect("proofs");
    assert_eq!((made.issuer.as_str(), made.audience.as_str()), ("otpost", "https://shop.example"));
    let check = |changes: &[(&str, &str)], names: &[&str]| {
        let text = expect_faults(Role::Http, &with(production(), changes), names);
        assert!(!text.contains("hunter2") && !text.contains("PRIVATE"), "{text}");
    };
    check(&[("PROOF_KEY", p256)], &["PROOF_AUDIENCE"]);
    check(&[("PROOF_KEY", p256), ("PROOF_AUDIENCE", &"x".repeat(256))], &["PROOF_AUDIENCE"]);
    check(&[("PROOF_KEY", p256), proofs, ("PROOF_ISSUER", "a\u{7}b")], &["PROOF_ISSUER"]);
    for key in [
        "hunter2",
        include_str!("../keys/rsa.private.pem"),
        include_str!("../keys/p256.public.pem"),
        JWT_SECRET,
    ] {
        check(&[("PROOF_KEY", key), proofs], &["PROOF_KEY"]);
    }
    let [own, other] = [include_str!("../keys/p256.public.pem"), include_str!("../keys/ed25519.public.pem")];
    check(&[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY", own), ("PROOF_KEY", p256), proofs], &["PROOF_KEY"]);
    check(&[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY", own), ("PROOF_KEY", &both), proofs], &["PROOF_KEY"]);
    check(
        &[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY", "hunter2"), ("PROOF_KEY", "x"), proofs],
        &["JWT_PUBLIC_KEY", "PROOF_KEY"],
    );
    expect(
        Role::Http,
        &with(production(), &[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY", other), ("PROOF_KEY", p256), proofs]),
    );
    // A worker makes none.
    assert!(expect(Role::Worker, &with(production(), &[("PROOF_KEY", "x")])).proofs.is_none());
    let unused = expect(Role::Http, &with(production(), &[proofs, ("EMAIL_OTP_ENABLED", "false")]));
    assert!(unused.notices.iter().any(|notice| notice == "PROOF_AUDIENCE has no effect without PROOF_KEY"));
}
