//! Proofs by time and by token, and the call that asks if a webhook is ours.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use otpost::clock::Clock;
use otpost::http::Webhooks;
use otpost::provider::http_api::provider_table::Described;
use otpost::provider::http_api::receipts::HttpApiCallbacks;
use otpost::provider::{Callback, CallbackError, Callbacks as _, Provider as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::receipts::{Call, signed_by_hmac};
use super::{Vendor, reference_in};
use crate::contract::provider::Draft;
use crate::fake_vendor::FakeVendor;
use crate::harness::Embedded;
use crate::http::TestServer;

/// The shipped webhook with another proof.
fn described_with(proof: &str) -> (FakeVendor, Described) {
    let vendor = Vendor::named("webhook");
    let fake = vendor.fake();
    let text = vendor.text(&fake);
    let (before, _) = text.split_once("[providers.receipts.proof]").expect("a proof");
    let described = super::read(&format!("{before}{proof}\n"));
    (fake, described.unwrap_or_else(|faults| panic!("{faults:?}")))
}

/// Its receipts, and the body of a true one.
async fn with_proof(proof: &str) -> (HttpApiCallbacks, String) {
    let (fake, described) = described_with(proof);
    described.provider.send(&Draft::to("+573001234567").message()).await.expect("accepted");
    let reference = reference_in(fake.requests().last().expect("a request"));
    let body = format!(r#"{{"ref":"{reference}","id":"m-1","status":"delivered"}}"#);
    (described.callbacks.expect("receipts"), body)
}

fn seconds() -> i64 {
    i64::try_from(Clock::System.now().as_seconds()).expect("a time")
}

#[tokio::test]
async fn a_signed_call_is_worth_nothing_after_five_minutes() {
    let vendor = Vendor::named("webhook");
    let text = vendor.text(&vendor.fake());
    let (_, proof) = text.split_once("[providers.receipts.proof]").expect("a proof");
    let (callbacks, body) = with_proof(&format!("[providers.receipts.proof]{proof}")).await;
    let read = |timestamp: String| {
        let signature = signed_by_hmac("secret-of-WEBHOOK_SECRET", &format!("{timestamp}.{body}"));
        let call = Call {
            query: String::new(),
            signature: Some(signature),
            timestamp: Some(timestamp),
            body: body.clone(),
        };
        call.read_by(&callbacks).map(|receipts| receipts.len())
    };
    for age in [-290, 0, 290] {
        assert_eq!(read((seconds() - age).to_string()), Ok(1), "{age}");
    }
    assert_eq!(read((seconds() * 1_000).to_string()), Ok(1), "milliseconds");
    for age in [-310, 310, 86_400] {
        assert_eq!(read((seconds() - age).to_string()), Err(CallbackError::Forged), "{age}");
    }
    assert_eq!(read("soon".to_owned()), Err(CallbackError::Forged));
}

fn encoded(part: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part.to_string())
}

fn hs256(algorithm: &str, claims: &Value) -> String {
    let signed = format!("{}.{}", encoded(&json!({"alg": algorithm, "typ": "JWT"})), encoded(claims));
    let mac = Hmac::<Sha256>::new_from_slice(b"secret-of-P").expect("any key").chain_update(&signed);
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn read(callbacks: &HttpApiCallbacks, token: &str, body: &str) -> Result<usize, CallbackError> {
    let call = Call {
        query: String::new(),
        signature: Some(format!("Bearer {token}")),
        timestamp: None,
        body: body.to_owned(),
    };
    call.read_by(callbacks).map(|receipts| receipts.len())
}

#[tokio::test]
async fn a_token_proves_a_call_for_its_time_and_its_body() {
    let proof = "[providers.receipts.proof]\nkind = \"jwt\"\nalgorithm = \"HS256\"\nsecret = \"env:P\"\nbody_claim = \"payload_hash\"";
    let (callbacks, body) = with_proof(proof).await;
    let hash = hex::encode(Sha256::digest(&body));
    let claims = |iat: i64| json!({"iat": iat, "payload_hash": hash});
    let now = seconds();
    assert_eq!(read(&callbacks, &hs256("HS256", &claims(now)), &body), Ok(1));
    let until = |exp: i64| json!({"exp": exp, "payload_hash": hash});
    assert_eq!(read(&callbacks, &hs256("HS256", &until(now + 60)), &body), Ok(1));
    let good = hs256("HS256", &claims(now));
    let (unsigned, _) = good.rsplit_once('.').expect("three parts");
    for (what, token) in [
        ("another algorithm", hs256("none", &claims(now))),
        ("another algorithm", hs256("HS512", &claims(now))),
        ("too old", hs256("HS256", &claims(now - 310))),
        ("from the future", hs256("HS256", &claims(now + 310))),
        ("expired", hs256("HS256", &until(now - 1))),
        ("expired", hs256("HS256", &json!({"iat": now, "exp": now - 1, "payload_hash": hash}))),
        ("no time", hs256("HS256", &json!({"payload_hash": hash}))),
        ("a time that is no number", hs256("HS256", &json!({"iat": "now", "payload_hash": hash}))),
        ("no digest", hs256("HS256", &json!({"iat": now}))),
        ("another digest", hs256("HS256", &json!({"iat": now, "payload_hash": hex::encode([0; 32])}))),
        ("no signature", format!("{unsigned}.")),
        ("a cut signature", good[..good.len() - 2].to_owned()),
        ("no token", "x".to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(read(&callbacks, &token, &body), Err(CallbackError::Forged), "{what}: {token}");
    }
    assert_eq!(read(&callbacks, &good, &body.replace("delivered", "failed")), Err(CallbackError::Forged));
}

#[tokio::test]
async fn a_token_with_a_public_key_is_signed_by_its_owner_alone() {
    let pair = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let (owner, other) = (pair(), pair());
    let public = BASE64_STANDARD.encode(owner.public_key().as_ref());
    let proof = format!(
        "[providers.receipts.proof]\nkind = \"jwt\"\nalgorithm = \"ES256\"\npublic_key = \"{public}\"\nheader = \"X-Token\""
    );
    let (callbacks, body) = with_proof(&proof).await;
    assert_eq!(callbacks.endpoint().signature_header, "x-token");
    let token = |pair: &EcdsaKeyPair, algorithm: &str| {
        let header = encoded(&json!({"alg": algorithm}));
        let signed = format!("{header}.{}", encoded(&json!({"iat": seconds()})));
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    };
    assert_eq!(read(&callbacks, &token(&owner, "ES256"), &body), Ok(1));
    for forged in [token(&other, "ES256"), token(&owner, "HS256"), hs256("HS256", &json!({"iat": seconds()}))]
    {
        assert_eq!(read(&callbacks, &forged, &body), Err(CallbackError::Forged));
    }
}

#[tokio::test]
async fn a_challenge_is_answered_only_with_our_token() {
    let handshake = "[providers.receipts.handshake]\nchallenge = \"query:hub.challenge\"\ntoken = \"query:hub.verify_token\"\nsecret = \"env:P\"\n[providers.receipts.proof]\nkind = \"token\"\nheader = \"X-Token\"\nsecret = \"env:Q\"";
    let (callbacks, _) = with_proof(handshake).await;
    let answer = |query: &str| {
        callbacks.handshake(&Callback {
            query: Some(query),
            content_type: None,
            signature: None,
            timestamp: None,
            body: b"",
        })
    };
    let token = "hub.verify_token=secret-of-P";
    assert_eq!(answer(&format!("{token}&hub.challenge=1158201444")).as_deref(), Some("1158201444"));
    for query in [
        "hub.challenge=1".to_owned(),
        "hub.verify_token=secret-of-Q&hub.challenge=1".to_owned(),
        token.to_owned(),
        format!("{token}&hub.challenge="),
        format!("{token}&hub.challenge=%3Cscript%3E"),
        format!("{token}&hub.challenge={}", "1".repeat(300)),
        format!("{token}&hub.challenge=1&hub.challenge=2"),
    ] {
        assert_eq!(answer(&query), None, "{query}");
    }
    let (plain, _) = with_proof("[providers.receipts.proof]\nkind = \"reference\"").await;
    let call =
        Callback { query: Some(token), content_type: None, signature: None, timestamp: None, body: b"" };
    assert_eq!(plain.handshake(&call), None);
}

#[tokio::test(start_paused = true)]
async fn the_webhook_answers_a_challenge_and_refuses_another_get() {
    let handshake = "[providers.receipts.handshake]\nchallenge = \"query:c\"\ntoken = \"query:t\"\nsecret = \"env:P\"\n[providers.receipts.proof]\nkind = \"token\"\nheader = \"X-Token\"\nsecret = \"env:Q\"";
    let (_, described) = described_with(handshake);
    let callbacks = described.callbacks.expect("receipts");
    let gateway = Embedded::start();
    let server = TestServer::with_webhooks(Webhooks {
        callbacks: vec![Arc::new(callbacks)],
        receipts: gateway.tracker.clone(),
        opt_statuses: None,
    });
    let ask = async |query: &str| {
        let request = Request::get(format!("/webhooks/webhook?{query}")).body(Body::empty());
        let answer = server.ask(request.expect("a request")).await;
        (answer.status, answer.text)
    };
    assert_eq!(ask("t=secret-of-P&c=42").await, (200, "42".to_owned()));
    for query in ["t=secret-of-Q&c=42", "c=42", "t=secret-of-P", ""] {
        assert_eq!(ask(query).await.0, 403, "{query}");
    }
}
