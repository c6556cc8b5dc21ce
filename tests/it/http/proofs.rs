//! Proofs of verified codes, read as a receiver does: with the published keys alone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use jsonwebtoken::jwk::{Jwk, JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use otpost::clock::Clock;
use otpost::config::{JwtKey, ProofSettings};
use otpost::domain::time::UnixMillis;
use otpost::http::{ProofKeyError, ProofSigner, Tokens};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    ALICE, ANA, Answer, CODE, START, TestServer, VERIFY_EMAIL, VERIFY_PHONE, VERIFY_SERVICE, alice, claims,
    jwt, service,
};
use crate::real::Redis;

const P256: &str = include_str!("../keys/p256.private.pem");
const ED25519: &str = include_str!("../keys/ed25519.private.pem");
const KEYS: &str = "/.well-known/jwks.json";
const RECEIVER: &str = "https://shop.example";
const ISSUER: &str = "https://otp.example.co";
const NOW: UnixMillis = UnixMillis(1_800_000_123_456);

fn settings(keys: &str) -> ProofSettings {
    ProofSettings { keys: keys.into(), issuer: ISSUER.to_owned(), audience: RECEIVER.to_owned() }
}

fn signer(keys: &str) -> Result<ProofSigner, ProofKeyError> {
    ProofSigner::new(&settings(keys))
}

fn server(keys: &str) -> TestServer {
    let proofs = signer(keys).expect("keys");
    TestServer::with(|api| {
        api.proofs = Some(proofs);
        api.clock = Clock::Tokio { from: NOW, started: tokio::time::Instant::now() };
    })
}

async fn published(server: &TestServer) -> Answer {
    server.ask(Request::get(KEYS).body(Body::empty()).expect("a request")).await
}

/// The claims of a proof, checked with the published key that it names.
async fn checked(server: &TestServer, proof: &str) -> Value {
    let keys: JwkSet = serde_json::from_value(published(server).await.json()).expect("a key set");
    let header = decode_header(proof).expect("a header");
    assert_eq!(header.typ.as_deref(), Some("otp-proof+jwt"));
    let key = keys.find(header.kid.as_deref().expect("a kid")).expect("it is published");
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[RECEIVER]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "iat", "jti"]);
    let key = DecodingKey::from_jwk(key).expect("a key");
    // The clock of the server stands in the future, so that only `exp` decides.
    decode::<Value>(proof, &key, &validation).expect("it is valid").claims
}

fn proof_in(answer: &Answer) -> String {
    answer.expect(200)["proof"].as_str().expect("a proof").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_right_code_gives_a_proof_that_the_published_keys_check() {
    for keys in [P256, ED25519] {
        let server = server(keys);
        server.send_code("orders/7", CODE).await;
        let body = json!({"to": ALICE, "otp_code": CODE, "nonce": "n-0S6_WzA2Mj"});
        let answer = server.post(VERIFY_SERVICE, &service(), &body).await;
        let proof = proof_in(&answer);
        let claims = checked(&server, &proof).await;
        let jti = claims["jti"].as_str().expect("an id").to_owned();
        assert_eq!(jti.len(), 22, "128 bits: {jti}");
        let expected = json!({
            "iss": ISSUER, "aud": RECEIVER, "iat": 1_800_000_123, "exp": 1_800_000_423, "jti": jti,
            "nonce": "n-0S6_WzA2Mj", "purpose": "verification", "request_id": "orders/7", "phone_number": ALICE,
        });
        assert_eq!(claims, expected);
        // Beside the proof the answer stays masked.
        assert!(!answer.text.replace(&proof, "").contains("300123"), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn two_proofs_have_two_ids() {
    let server = server(ED25519);
    let mut ids = Vec::new();
    for (request, purpose, seconds) in [("r1", "login", 0), ("r2", "payment", 60)] {
        server.pass(Duration::from_secs(seconds));
        server.send_code_for(request, CODE, ALICE, purpose, "k1").await;
        let body = json!({"to": ALICE, "otp_code": CODE, "purpose": purpose});
        let proof = proof_in(&server.post(VERIFY_SERVICE, &service(), &body).await);
        let claims = checked(&server, &proof).await;
        assert_eq!((&claims["purpose"], &claims["request_id"]), (&json!(purpose), &json!(request)));
        ids.push(claims["jti"].clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn only_the_proof_of_a_person_names_a_subject() {
    for (path, token, to, claim, sub) in [
        (VERIFY_PHONE, alice(), ALICE, "phone_number", json!("user-1")),
        (VERIFY_EMAIL, alice(), ANA, "email", json!("user-1")),
        (VERIFY_SERVICE, service(), ANA, "email", Value::Null),
    ] {
        let server = server(P256);
        server.send_code_for("r1", CODE, to, "verification", "k1").await;
        let proof = proof_in(&server.post(path, &token, &json!({"to": to, "otp_code": CODE})).await);
        let claims = checked(&server, &proof).await;
        assert_eq!((&claims[claim], &claims["sub"], &claims["nonce"]), (&json!(to), &sub, &Value::Null));
        let other = if claim == "email" { "phone_number" } else { "email" };
        assert!(claims.get(other).is_none(), "{claims}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_breaks_its_rule_counts_nothing() {
    let server = server(ED25519);
    server.send_code("r1", CODE).await;
    for (nonce, shape) in [
        (json!(""), "a string of 0 characters"),
        (json!("a b"), "a string of 3 characters"),
        (json!("ñ"), "a string of 1 character"),
        (json!("x".repeat(129)), "a string of 129 characters"),
        (json!(7), "a number"),
    ] {
        for (path, token) in [(VERIFY_PHONE, alice()), (VERIFY_SERVICE, service())] {
            let body = json!({"to": ALICE, "otp_code": "000000", "nonce": nonce});
            let problem = server.post(path, &token, &body).await.expect_problem(422, "invalid_request");
            let detail = format!("`nonce` must be 1 to 128 visible ASCII characters; got {shape}");
            assert_eq!(problem["detail"], detail);
        }
    }
    let longest = "x".repeat(128);
    let body = json!({"to": ALICE, "otp_code": CODE, "nonce": longest});
    let proof = proof_in(&server.post(VERIFY_SERVICE, &service(), &body).await);
    assert_eq!(checked(&server, &proof).await["nonce"], longest);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_first_right_check_gives_a_proof() {
    let server = server(ED25519);
    server.send_code("r1", CODE).await;
    let check = async |code: &str| {
        server.post(VERIFY_SERVICE, &service(), &json!({"to": ALICE, "otp_code": code})).await
    };
    check("000000").await.expect_nothing_of(&["eyJ"]);
    proof_in(&check(CODE).await);
    let repeated = check(CODE).await;
    repeated.expect_problem(409, "code_used");
    repeated.expect_nothing_of(&["eyJ"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_record_or_a_key_a_right_code_gives_no_proof() {
    for (server, is_recorded) in [(server(ED25519), false), (TestServer::start(), true)] {
        server.send_code("r1", CODE).await;
        if !is_recorded {
            server.store.forget_requests();
        }
        let body = json!({"to": ALICE, "otp_code": CODE});
        let answer = server.post(VERIFY_SERVICE, &service(), &body).await.expect(200);
        assert!(answer.get("proof").is_none(), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_keys_are_published_without_their_secrets_and_the_first_signs() {
    for [first, second] in [[P256, ED25519], [ED25519, P256]] {
        let server = server(&format!("{first}{second}"));
        let answer = published(&server).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        let keys = answer.json()["keys"].as_array().expect("keys").clone();
        assert_eq!(keys.len(), 2);
        for key in &keys {
            let is_ec = key["kty"] == "EC";
            let names = if is_ec { "alg crv kid kty use x y" } else { "alg crv kid kty use x" };
            let found: Vec<&str> = key.as_object().expect("a key").keys().map(String::as_str).collect();
            assert_eq!(found.join(" "), names, "{key}");
            assert_eq!(
                (&key["alg"], &key["use"]),
                (&json!(if is_ec { "ES256" } else { "EdDSA" }), &json!("sig"))
            );
            let jwk: Jwk = serde_json::from_value(key.clone()).expect("a key");
            assert_eq!(key["kid"], jwk.thumbprint(ThumbprintHash::SHA256).expect("a digest"));
        }
        server.send_code("r1", CODE).await;
        let body = json!({"to": ALICE, "otp_code": CODE});
        let proof = proof_in(&server.post(VERIFY_SERVICE, &service(), &body).await);
        assert_eq!(keys[0]["kid"], decode_header(&proof).expect("a header").kid.expect("a kid"));
        checked(&server, &proof).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_published_set_is_empty() {
    assert_eq!(published(&TestServer::start()).await.json(), json!({"keys": []}));
}

#[test]
fn only_a_few_own_private_keys_are_taken() {
    let own = || EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key");
    let is_unusable = |keys: &str| matches!(signer(keys), Err(ProofKeyError::Unusable));
    assert!(
        !own().as_bytes().is_empty()
            && signer(ED25519).is_ok()
            && signer(&format!("\n{P256}\n\n{ED25519}")).is_ok()
    );
    for keys in [
        "",
        "hunter2",
        include_str!("../keys/p256.public.pem"),
        include_str!("../keys/rsa.private.pem"),
        &format!("{ED25519}hunter2"),
        &format!("hunter2 {ED25519}"),
        &P256[..P256.len() - 20],
        // Five keys.
        &[P256, ED25519, P256, ED25519, P256].concat(),
    ] {
        assert!(is_unusable(keys), "{} bytes", keys.len());
    }
    assert!(matches!(signer(&format!("{P256}{P256}")), Err(ProofKeyError::Repeated)));
    // RFC 8037 A.1.
    let published = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                     -----END PRIVATE KEY-----\n";
    assert!(matches!(signer(published), Err(ProofKeyError::Published)));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_checks_tokens_makes_no_proof_and_a_proof_is_no_token() {
    for (private, public) in [
        (P256, include_str!("../keys/p256.public.pem")),
        (ED25519, include_str!("../keys/ed25519.public.pem")),
    ] {
        let tokens = || Tokens::new(&jwt(JwtKey::Pem(public.to_owned()))).expect("a key");
        let own = signer(private).expect("a key");
        assert!(matches!(tokens().apart_from(&own), Err(ProofKeyError::ChecksTokens)));
        let other = if private == P256 { ED25519 } else { P256 };
        assert!(tokens().apart_from(&signer(other).expect("a key")).is_ok());
        // The same claims with the type of a proof are refused, by any key.
        let server = TestServer::with(|api| api.tokens = tokens());
        let (algorithm, key) = match private {
            P256 => (Algorithm::ES256, EncodingKey::from_ec_pem(private.as_bytes())),
            _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(private.as_bytes())),
        };
        let key = key.expect("a key");
        for (typ, code) in [
            ("JWT", Ok("no_pending_code")),
            ("otp-proof+jwt", Err("invalid_token")),
            ("application/OTP-Proof+JWT", Err("invalid_token")),
        ] {
            let header = Header { typ: Some(typ.to_owned()), ..Header::new(algorithm) };
            let token = encode(&header, &claims(&json!({})), &key).expect("a token");
            let answer = server.post(VERIFY_PHONE, &token, &json!({"otp_code": CODE})).await;
            match code {
                Ok(code) => answer.expect_problem(404, code),
                Err(code) => answer.expect_problem(401, code),
            };
        }
    }
}

/// It may be that of a request whose caller chose this code.
#[tokio::test]
async fn there_is_no_proof_while_another_record_of_the_recipient_cannot_be_read() {
    for is_damaged in [false, true] {
        let redis = Redis::fresh();
        let store = Arc::new(redis.store());
        let proofs = signer(P256).expect("keys");
        let server = TestServer::with(|api| {
            api.proofs = Some(proofs);
            api.verifier.store = store.clone();
            api.store = store.clone();
        });
        for (nth, request, purpose) in [(0, "orders/7", "login"), (1, "orders/8", "verification")] {
            store.set_time(START.plus(Duration::from_secs(60 * nth)));
            server.send_code_over(&*store, request, CODE, ALICE, purpose, "k1").await;
        }
        if is_damaged {
            redis.replace([b"qh", &Sha256::digest("orders/7")[..16]].concat(), "SET", &[b"garbage"]);
        }
        let answer = server.check_code(VERIFY_SERVICE, CODE).await.expect(200);
        assert_eq!(
            (&answer["verified"], answer.get("proof").is_none()),
            (&json!(true), is_damaged),
            "{answer}"
        );
    }
}
