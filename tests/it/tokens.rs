//! Bearer tokens: valid ones are accepted, others are refused without details.
//!
//! The keys under `keys/` were made for these tests and open nothing.

mod claims;
mod jwks;
mod refusals;

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use otpost::clock::Clock;
use otpost::config::{JwtKey, ProofSettings, Role, Settings};
use otpost::http::{ProofSigner, Tokens, development_token};
use serde_json::{Value, json};

use crate::http::{
    ALICE, ANA, AUDIENCE, Answer, ISSUER, SECRET, SEND_SMS, TestServer, VERIFY_EMAIL, VERIFY_PHONE,
    VERIFY_SERVICE, alice, claims, jwt, post, service, token,
};

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("keys/", $name, ".pem"))
    };
}

/// A kind of key: the signing key and the verifying key.
struct Kind {
    name: &'static str,
    algorithm: Algorithm,
    signs: EncodingKey,
    checks: fn() -> JwtKey,
}

fn kinds() -> [Kind; 4] {
    [
        Kind {
            name: "HS256",
            algorithm: Algorithm::HS256,
            signs: EncodingKey::from_secret(SECRET.as_bytes()),
            checks: || JwtKey::Secret(SECRET.into()),
        },
        Kind {
            name: "RS256",
            algorithm: Algorithm::RS256,
            signs: EncodingKey::from_rsa_pem(pem!("rsa.private").as_bytes()).expect("a key"),
            checks: || JwtKey::Pem(pem!("rsa.public").to_owned()),
        },
        Kind {
            name: "ES256",
            algorithm: Algorithm::ES256,
            signs: EncodingKey::from_ec_pem(pem!("p256.private").as_bytes()).expect("a key"),
            checks: || JwtKey::Pem(pem!("p256.public").to_owned()),
        },
        Kind {
            name: "EdDSA",
            algorithm: Algorithm::EdDSA,
            signs: EncodingKey::from_ed_pem(pem!("ed25519.private").as_bytes()).expect("a key"),
            checks: || JwtKey::Pem(pem!("ed25519.public").to_owned()),
        },
    ]
}

fn server(key: JwtKey) -> TestServer {
    TestServer::with(|api| api.tokens = Tokens::new(&jwt(key)).expect("a usable key"))
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).expect("a token")
}

/// A token with any header and signature.
fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

async fn with_token(server: &TestServer, token: &str) -> Answer {
    server.post(VERIFY_PHONE, token, &json!({"otp_code": "482913"})).await
}

/// The token was accepted: the endpoint answers that no code is pending.
#[track_caller]
fn expect_accepted(name: &str, answer: &Answer) {
    assert_eq!(answer.status, 404, "{name}: {}", answer.text);
    answer.expect_problem(404, "no_pending_code");
}

#[track_caller]
fn expect_refused(name: &str, answer: &Answer, code: &str, detail: &str) {
    assert_eq!(answer.status, 401, "{name}: {}", answer.text);
    let problem = answer.expect_problem(401, code);
    assert_eq!(problem["detail"], detail, "{name}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{name}: RFC 9110 §15.5.2 asks for WWW-Authenticate");
    answer.expect_nothing_of(&[
        "alg",
        "HS",
        "RS",
        "signature",
        "aud",
        "iss",
        AUDIENCE,
        ISSUER,
        SECRET,
        "482913",
        "300123",
        "eyJ",
    ]);
}

const INVALID: &str = "the token is not valid here";
const EXPIRED: &str = "the token has expired";
const NEEDED: &str = "a bearer token is needed";
const NO_SUBJECT: &str = "the token has no subject (`sub`)";

#[tokio::test]
async fn a_token_is_checked_with_the_algorithm_of_the_configured_key_and_no_other() {
    for checks in kinds() {
        let server = server((checks.checks)());
        for signs in kinds() {
            let answer =
                with_token(&server, &signed(signs.algorithm, &signs.signs, &claims(&json!({})))).await;
            let name = format!("{} for {}", signs.name, checks.name);
            if signs.name == checks.name {
                expect_accepted(&name, &answer);
            } else {
                expect_refused(&name, &answer, "invalid_token", INVALID);
            }
        }
    }
}

#[tokio::test]
async fn the_same_key_under_another_algorithm_is_refused() {
    let rsa = EncodingKey::from_rsa_pem(pem!("rsa.private").as_bytes()).expect("a key");
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let good = claims(&json!({}));
    let by_rsa = server(JwtKey::Pem(pem!("rsa.public").to_owned()));
    for algorithm in
        [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512]
    {
        let answer = with_token(&by_rsa, &signed(algorithm, &rsa, &good)).await;
        expect_refused(&format!("{algorithm:?}"), &answer, "invalid_token", INVALID);
    }
    let by_secret = TestServer::start();
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let answer = with_token(&by_secret, &signed(algorithm, &secret, &good)).await;
        expect_refused(&format!("{algorithm:?}"), &answer, "invalid_token", INVALID);
    }
}

#[tokio::test]
async fn a_public_key_cannot_be_used_as_a_secret() {
    for (name, pem) in
        [("rsa", pem!("rsa.public")), ("p256", pem!("p256.public")), ("ed25519", pem!("ed25519.public"))]
    {
        let server = server(JwtKey::Pem(pem.to_owned()));
        for secret in [pem, pem.trim_end()] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let answer = with_token(&server, &signed(Algorithm::HS256, &key, &claims(&json!({})))).await;
            expect_refused(name, &answer, "invalid_token", INVALID);
        }
    }
}

#[tokio::test]
async fn an_unsigned_token_or_one_signed_with_another_key_is_refused() {
    let good = claims(&json!({}));
    for kind in kinds() {
        let server = server((kind.checks)());
        for algorithm in ["none", "None", "NONE", "", kind.name] {
            for signature in ["", "AAAA"] {
                let token = unsigned(&json!({"alg": algorithm, "typ": "JWT"}), &good, signature);
                let answer = with_token(&server, &token).await;
                expect_refused(&format!("{} {algorithm:?}", kind.name), &answer, "invalid_token", INVALID);
            }
        }
        let token = signed(kind.algorithm, &kind.signs, &good);
        let (rest, signature) = token.rsplit_once('.').expect("three parts");
        let (header, _) = rest.split_once('.').expect("three parts");
        let another = BASE64URL.encode(claims(&json!({"sub": "mallory"})).to_string());
        let answer = with_token(&server, &format!("{header}.{another}.{signature}")).await;
        expect_refused("other claims", &answer, "invalid_token", INVALID);
    }
    let other = EncodingKey::from_rsa_pem(pem!("rsa-other.private").as_bytes()).expect("a key");
    let answer = with_token(
        &server(JwtKey::Pem(pem!("rsa.public").to_owned())),
        &signed(Algorithm::RS256, &other, &good),
    )
    .await;
    expect_refused("another key", &answer, "invalid_token", INVALID);
    let other = EncodingKey::from_secret(b"another secret of more than thirty-two bytes");
    let answer = with_token(&TestServer::start(), &signed(Algorithm::HS256, &other, &good)).await;
    expect_refused("another secret", &answer, "invalid_token", INVALID);
}

#[tokio::test]
async fn a_token_is_valid_in_its_time_with_its_audience_and_issuer_only() {
    let now = Clock::System.now().as_seconds();
    let server = TestServer::start();
    let fraction = f64::from(u32::try_from(now).expect("before 2106")) + 600.25;
    for changes in [
        json!({"nbf": now - 1}),
        json!({"exp": now - 5}),
        json!({"nbf": now + 5}),
        json!({"exp": fraction}),
        json!({"aud": ["other", AUDIENCE]}),
        json!({"locale": null, "name": null, "zoneinfo": null}),
        json!({"more": {"of": ["anything"]}}),
    ] {
        expect_accepted(&changes.to_string(), &with_token(&server, &token(&changes)).await);
    }
    for (changes, detail) in [
        (json!({"exp": now - 60}), EXPIRED),
        (json!({"exp": 0}), EXPIRED),
        (json!({"exp": null}), INVALID),
        (json!({"exp": "never"}), INVALID),
        (json!({"exp": -1}), INVALID),
        (json!({"nbf": now + 60}), INVALID),
        (json!({"aud": "other"}), INVALID),
        (json!({"aud": ["other"]}), INVALID),
        (json!({"aud": []}), INVALID),
        (json!({"aud": ""}), INVALID),
        (json!({"aud": format!("{AUDIENCE}-2")}), INVALID),
        (json!({"aud": null}), INVALID),
        (json!({"iss": "https://other.example"}), INVALID),
        (json!({"iss": [ISSUER, "x"]}), INVALID),
        (json!({"iss": null}), INVALID),
        (json!({"sub": null}), NO_SUBJECT),
        (json!({"sub": ""}), NO_SUBJECT),
        (json!({"sub": "s".repeat(1_000)}), NO_SUBJECT),
        (json!({"sub": 7}), NO_SUBJECT),
    ] {
        let answer = with_token(&server, &token(&changes)).await;
        expect_refused(&changes.to_string(), &answer, "invalid_token", detail);
    }
}

#[tokio::test]
async fn a_list_of_issuers_is_not_an_issuer() {
    let answer = with_token(&TestServer::start(), &token(&json!({"iss": [ISSUER]}))).await;
    expect_refused("a list", &answer, "invalid_token", INVALID);
}

#[tokio::test]
async fn anything_but_a_bearer_token_is_refused_with_the_requirement() {
    let server = TestServer::start();
    let ask = async |value: &str| {
        let mut request = post(VERIFY_PHONE, "", r#"{"otp_code":"482913"}"#);
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().insert(header::AUTHORIZATION, value);
        server.ask(request).await
    };
    let good = alice();
    for value in [
        "".to_owned(),
        "Bearer".to_owned(),
        format!("Basic {good}"),
        "Basic dXNlcjpwYXNz".to_owned(),
        format!("Bearer{good}"),
        format!("Token {good}"),
        good.clone(),
        format!("Bearer {}", "a".repeat(100_000)),
        format!("Bearer {good}ñ"),
    ] {
        let shown: String = value.chars().take(40).collect();
        expect_refused(&shown, &ask(&value).await, "unauthenticated", NEEDED);
    }
    for value in ["Bearer ", "Bearer a.b.c", "Bearer ....", "Bearer eyJ.eyJ.eyJ", "Bearer {}", "Bearer a b"] {
        let answer = ask(value).await;
        assert!(
            matches!(answer.json()["code"].as_str(), Some("invalid_token" | "unauthenticated")),
            "{value}: {}",
            answer.text
        );
        assert_eq!(answer.status, 401, "{value}");
    }
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        expect_accepted(scheme, &ask(&format!("{scheme} {good}")).await);
    }
    let nothing = Request::post(VERIFY_PHONE).body(Body::empty()).expect("a request");
    expect_refused("no header", &server.ask(nothing).await, "unauthenticated", NEEDED);
}

#[tokio::test]
async fn every_endpoint_requires_a_token() {
    let server = TestServer::start();
    for path in [SEND_SMS, VERIFY_PHONE, VERIFY_SERVICE] {
        let expired = token(&json!({"exp": 1, "scope": "otp:verify"}));
        let answer = server.post(path, &expired, &json!({})).await;
        expect_refused(path, &answer, "invalid_token", EXPIRED);
    }
    assert_eq!(server.broker.waiting(), 0);
}

#[tokio::test]
async fn a_back_end_needs_the_scope_and_a_person_needs_none() {
    let server = TestServer::start();
    let body = json!({"to": ALICE, "otp_code": "482913"});
    for scope in
        [json!(null), json!(""), json!("otp:admin"), json!("otp:verify2 xotp:verify"), json!("OTP:VERIFY")]
    {
        let answer = server.post(VERIFY_SERVICE, &token(&json!({ "scope": scope })), &body).await;
        let problem = answer.expect_problem(403, "insufficient_scope");
        assert_eq!(problem["detail"], "the token lacks `otp:verify`", "{scope}");
        answer.expect_nothing_of(&["482913", "300123", "admin"]);
    }
    for scope in ["otp:verify", "profile otp:verify", "otp:verify otp:admin"] {
        let token = token(&json!({ "scope": scope, "sub": null }));
        expect_accepted(scope, &server.post(VERIFY_SERVICE, &token, &body).await);
    }
    // The token of a service has no phone number, so it cannot verify a person's own code.
    let answer = server.post(VERIFY_PHONE, &service(), &json!({"otp_code": "482913"})).await;
    answer.expect_problem(422, "invalid_recipient");
}

#[test]
fn an_invalid_or_weak_key_is_refused_at_startup() {
    #[track_caller]
    fn check(name: &str, pem: &str, usable: bool) {
        let made = Tokens::new(&jwt(JwtKey::Pem(pem.to_owned())));
        assert_eq!(made.is_ok(), usable, "{name}");
        if let Err(error) = made {
            let error = error.to_string();
            assert!(error.starts_with("must be a public key"), "{error}");
            assert!(pem.is_empty() || !error.contains(&pem[..pem.len().min(40)]), "{error}");
        }
    }
    check("rsa", pem!("rsa.public"), true);
    check("p256", pem!("p256.public"), true);
    check("ed25519", pem!("ed25519.public"), true);
    check("nothing", "", false);
    check("no PEM", "a secret of more than thirty-two bytes", false);
    check("cut off", &pem!("rsa.public")[..200], false);
    check("1024 bits", pem!("rsa-1024.public"), false);
    check("P-384", pem!("p384.public"), false);
    check("a private key", pem!("rsa.private"), false);
    check("a private key", pem!("p256.private"), false);
}

#[tokio::test]
async fn a_development_token_is_accepted_for_its_purpose_only() {
    let variables = [("ENVIRONMENT".into(), "development".into())];
    let settings =
        Settings::read(Role::Token, variables.into_iter(), Path::new("/nowhere/.env"), |_| Vec::new());
    let jwt = settings.expect("development needs nothing").jwt.expect("a well-known secret");
    let server = TestServer::with(|api| api.tokens = Tokens::new(&jwt).expect("a secret"));
    let soon = Clock::System.now().plus(Duration::from_secs(60));
    let person = development_token(&jwt, Some(ALICE), Some(ANA), None, soon).expect("a token");
    expect_accepted("a person", &with_token(&server, &person).await);
    let by_email = server.post(VERIFY_EMAIL, &person, &json!({"otp_code": "482913"})).await;
    expect_accepted("a person, by e-mail", &by_email);
    let service = development_token(&jwt, None, None, Some("otp:verify"), soon).expect("a token");
    let body = json!({"to": ALICE, "otp_code": "482913"});
    expect_accepted("a service", &server.post(VERIFY_SERVICE, &service, &body).await);
    server.post(VERIFY_SERVICE, &person, &body).await.expect_problem(403, "insufficient_scope");
    let answer = with_token(&TestServer::start(), &person).await;
    expect_refused("in production", &answer, "invalid_token", INVALID);
}

#[tokio::test]
async fn a_header_with_an_unknown_critical_extension_is_refused() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let header = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
    let token = encode(&header, &claims(&json!({})), &key).expect("a token");
    let answer = with_token(&TestServer::start(), &token).await;
    expect_refused("RFC 7515 §4.1.11", &answer, "invalid_token", INVALID);
}
