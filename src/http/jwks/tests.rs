//! Published keys over a scripted endpoint and paused time, and which keys are usable.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use super::fetch_error::KEYS_MAX;
use super::keys::Ignored;
use super::*;

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/it/keys/", $name, ".private.pem"))
    };
}

fn published(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut key =
        serde_json::to_value(Jwk::from_encoding_key(key, algorithm).expect("a key")).expect("plain data");
    key["kid"] = kid.into();
    key
}

fn rsa(kid: &str) -> Value {
    published(&EncodingKey::from_rsa_pem(pem!("rsa")).expect("a key"), Algorithm::RS256, kid)
}

fn p256(kid: &str) -> Value {
    published(&EncodingKey::from_ec_pem(pem!("p256")).expect("a key"), Algorithm::ES256, kid)
}

fn ed25519(kid: &str) -> Value {
    published(&EncodingKey::from_ed_pem(pem!("ed25519")).expect("a key"), Algorithm::EdDSA, kid)
}

fn with(mut key: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("members") {
        key[name] = value.clone();
    }
    key.as_object_mut().expect("members").retain(|_, value| !value.is_null());
    key
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn read(keys: &[Value]) -> (KeySet, Vec<Ignored>) {
    KeySet::read(&set(keys), &Validation::new(Algorithm::RS256)).expect("a set")
}

#[track_caller]
fn expect_key(name: &str, key: Value, expected: Result<Algorithm, Ignored>) {
    let kid = key["kid"].as_str().map(str::to_owned);
    let (keys, ignored) = read(&[key]);
    match expected {
        Ok(algorithm) => {
            let key = keys.find(kid.as_deref()).unwrap_or_else(|| panic!("{name}: {ignored:?}"));
            assert_eq!((&key.validation.algorithms[..], keys.usable()), (&[algorithm][..], 1), "{name}");
            assert!(ignored.is_empty(), "{name}");
        }
        Err(reason) => {
            assert_eq!(ignored, [reason], "{name}");
            assert!(keys.find(kid.as_deref()).or(keys.find(None)).is_none() && keys.usable() == 0, "{name}");
        }
    }
}

#[test]
fn the_kind_of_a_key_determines_its_algorithm() {
    expect_key("RSA", rsa("a"), Ok(Algorithm::RS256));
    expect_key("P-256", p256("a"), Ok(Algorithm::ES256));
    expect_key("Ed25519", ed25519("a"), Ok(Algorithm::EdDSA));
    for (name, key, algorithm) in [
        ("RSA", rsa("a"), Algorithm::RS256),
        ("P-256", p256("a"), Algorithm::ES256),
        ("Ed25519", ed25519("a"), Algorithm::EdDSA),
    ] {
        for changes in [
            json!({"alg": null}),
            json!({"kid": null}),
            json!({"use": "sig"}),
            json!({"key_ops": ["verify"]}),
            json!({"x5c": ["MIIB"], "x5t": "x", "more": {"of": 1}}),
        ] {
            expect_key(&format!("{name} {changes}"), with(key.clone(), &changes), Ok(algorithm));
        }
        for changes in [json!({"use": "enc"}), json!({"use": "odd"}), json!({"key_ops": ["encrypt"]})] {
            expect_key(&format!("{name} {changes}"), with(key.clone(), &changes), Err(Ignored::OtherUse));
        }
        for algorithm in ["HS256", "RS512", "PS256", "ES384", "RSA-OAEP", "none", "rs256", ""] {
            let key = with(key.clone(), &json!({ "alg": algorithm }));
            expect_key(&format!("{name} for {algorithm}"), key, Err(Ignored::Unsupported));
        }
        expect_key("private", with(key.clone(), &json!({"d": "AAAA"})), Err(Ignored::Private));
        expect_key("symmetric", with(key.clone(), &json!({"kty": "oct"})), Err(Ignored::Symmetric));
        expect_key("both", with(key.clone(), &json!({"k": "AAAA"})), Err(Ignored::Symmetric));
        expect_key("a number", with(key, &json!({"alg": 7})), Err(Ignored::Unfit));
    }
    expect_key("RS256 of a point", with(p256("a"), &json!({"alg": "RS256"})), Err(Ignored::Unsupported));
    let secret = json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"});
    expect_key("a secret", with(secret, &json!({"kid": "a"})), Err(Ignored::Symmetric));
}

#[test]
fn a_key_that_would_accept_no_signature_or_every_signature_is_ignored() {
    let modulus = |bytes: Vec<u8>| BASE64URL.encode(bytes);
    let big = |bytes: usize| modulus([vec![0x80], vec![1; bytes - 1]].concat());
    expect_key("2048 bits", with(rsa("a"), &json!({"n": big(256)})), Ok(Algorithm::RS256));
    expect_key("8192 bits", with(rsa("a"), &json!({"n": big(1_024)})), Ok(Algorithm::RS256));
    for changes in [
        json!({"n": big(128)}),
        json!({"n": modulus([vec![0x7f], vec![1; 255]].concat())}),
        json!({"n": modulus([vec![0; 256], vec![0x80], vec![1; 127]].concat())}),
        json!({"n": big(1_025)}),
        json!({"n": ""}),
        json!({"n": "not base64!"}),
        json!({"e": "AQ"}),
        json!({"e": "AAAB"}),
        json!({"e": ""}),
    ] {
        expect_key(&changes.to_string(), with(rsa("a"), &changes), Err(Ignored::Unfit));
    }
    for changes in [json!({"x": "AAAA"}), json!({"y": ""}), json!({"y": "="})] {
        expect_key(&changes.to_string(), with(p256("a"), &changes), Err(Ignored::Unfit));
    }
    expect_key("short", with(ed25519("a"), &json!({"x": "AAAA"})), Err(Ignored::Unfit));
    for changes in [json!({"crv": "P-384"}), json!({"crv": "secp256k1"}), json!({"y": null})] {
        expect_key(&changes.to_string(), with(p256("a"), &changes), Err(Ignored::Unsupported));
    }
    for changes in [json!({"crv": "X25519"}), json!({"crv": "P-256"}), json!({"kty": "odd"})] {
        expect_key(&changes.to_string(), with(ed25519("a"), &changes), Err(Ignored::Unsupported));
    }
}

#[test]
fn a_shared_kid_finds_no_key_and_a_missing_kid_finds_the_only_key() {
    let (keys, ignored) = read(&[rsa("a"), p256("a"), ed25519("a"), ed25519("b")]);
    assert_eq!((ignored, keys.usable()), (vec![Ignored::Duplicate; 3], 1));
    assert!(keys.find(Some("a")).is_none() && keys.find(Some("b")).is_some() && keys.find(None).is_none());
    // An unusable key does not make the `kid` of another one ambiguous.
    let (keys, _) = read(&[rsa("a"), with(p256("a"), &json!({"use": "enc"}))]);
    assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
    assert!(keys.find(Some("")).is_none() && keys.find(Some("A")).is_none());
}

#[test]
fn a_malformed_or_too_large_key_set_is_refused_whole() {
    let read = |body: &[u8]| KeySet::read(body, &Validation::new(Algorithm::RS256)).err();
    for body in [&b""[..], b"[]", b"{}", b"<html>", b"{\"keys\":{}}", b"{\"keys\":[]", b"\xff"] {
        assert_eq!(read(body), Some(FetchError::Unreadable));
    }
    assert_eq!(read(&set(&vec![json!(null); KEYS_MAX + 1])), Some(FetchError::TooMany));
    assert_eq!(read(b"{\"keys\":[7,\"x\",null,[]]}"), None, "an unreadable key does not spoil the set");
}

/// An endpoint with a scripted answer and delay, and the times of its fetches.
struct Script {
    answer: Mutex<Result<Vec<u8>, FetchError>>,
    delay: Mutex<Duration>,
    fetches: Mutex<Vec<Instant>>,
}

#[async_trait::async_trait]
impl Endpoint for Arc<Script> {
    async fn get(&self) -> Result<Vec<u8>, FetchError> {
        self.fetches.lock().expect("no panic").push(Instant::now());
        let delay = *self.delay.lock().expect("no panic");
        tokio::time::sleep(delay).await;
        self.answer.lock().expect("no panic").clone()
    }
}

impl Script {
    fn start(answer: Result<Vec<u8>, FetchError>, delay: Duration) -> (Arc<Script>, Arc<Jwks>) {
        let script = Arc::new(Script {
            answer: Mutex::new(answer),
            delay: Mutex::new(delay),
            fetches: Mutex::default(),
        });
        let jwks = Arc::new(Jwks::new(Box::new(script.clone()), Validation::new(Algorithm::RS256)));
        tokio::spawn(jwks.clone().refresh());
        (script, jwks)
    }

    fn answer(&self, answer: Result<Vec<u8>, FetchError>) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn fetch_count(&self) -> usize {
        self.fetches.lock().expect("no panic").len()
    }
}

const SOON: Duration = Duration::from_millis(50);
const DOWN: FetchError = FetchError::Unreachable("no connection");

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn found(jwks: &Jwks, kid: &str) -> Result<(), NoKey> {
    jwks.find(Some(kid)).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_request_before_the_first_keys_waits_for_them_briefly() {
    let (_, jwks) = Script::start(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    let (_, jwks) = Script::start(Ok(set(&[rsa("a")])), Duration::from_secs(4));
    let began = Instant::now();
    assert_eq!(found(&jwks, "a").await, Err(NoKey::Unavailable));
    assert!(began.elapsed() <= WAIT_MAX + SOON);
    assert_eq!((jwks.find(None).await.is_ok(), found(&jwks, "b").await), (true, Err(NoKey::Unknown)));
    assert!(began.elapsed() <= Duration::from_secs(4) + SOON, "the next one finds the fetch nearly done");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_it_is_first_used() {
    let (script, jwks) = Script::start(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    pass(Duration::from_secs(90)).await;
    script.answer(Ok(set(&[rsa("a"), p256("b")])));
    assert_eq!((script.fetch_count(), found(&jwks, "b").await, script.fetch_count()), (1, Ok(()), 2));
    // A withdrawn key is gone after the next successful fetch.
    script.answer(Ok(set(&[p256("b")])));
    pass(REFRESH_EVERY + FETCH_INTERVAL_MIN + SOON).await;
    assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Err(NoKey::Unknown), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn many_unknown_kids_cause_one_fetch_a_minute_and_delay_no_known_one() {
    let (script, jwks) = Script::start(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    let began = Instant::now();
    for round in 0..600 {
        let requests: Vec<_> = (0..20)
            .map(|at| {
                let jwks = jwks.clone();
                tokio::spawn(async move { found(&jwks, &format!("{round}-{at}")).await })
            })
            .collect();
        for answer in requests {
            assert_eq!(answer.await.expect("no panic"), Err(NoKey::Unknown));
        }
        assert_eq!(found(&jwks, "a").await, Ok(()));
        pass(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(632), "{:?}", began.elapsed());
    let fetches = script.fetches.lock().expect("no panic");
    assert!(fetches.len() >= 9, "{}", fetches.len());
    assert!(fetches.windows(2).all(|pair| pair[1] - pair[0] >= FETCH_INTERVAL_MIN), "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_requests_that_wait_for_a_hanging_endpoint_is_bounded() {
    let (script, jwks) = Script::start(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    *script.delay.lock().expect("no panic") = Duration::from_secs(3_600);
    pass(2 * FETCH_INTERVAL_MIN).await;
    let began = Instant::now();
    let requests: Vec<_> = (0..2 * WAITING_MAX)
        .map(|at| {
            let jwks = jwks.clone();
            tokio::spawn(async move { (found(&jwks, &at.to_string()).await, began.elapsed()) })
        })
        .collect();
    let mut waited = 0;
    for answer in requests {
        let (answer, elapsed) = answer.await.expect("no panic");
        assert_eq!(answer, Err(NoKey::Unavailable));
        waited += usize::from(elapsed > SOON);
        assert!(elapsed <= WAIT_MAX + SOON, "{elapsed:?}");
    }
    assert_eq!((waited, script.fetch_count()), (WAITING_MAX, 2));
    assert_eq!(found(&jwks, "a").await, Ok(()), "a known key needs no wait");
}

#[tokio::test(start_paused = true)]
async fn keys_stay_valid_for_a_day_while_the_endpoint_fails_or_answers_nonsense() {
    let (script, jwks) = Script::start(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    for fault in [DOWN, FetchError::Status(302), FetchError::TooLong] {
        script.answer(Err(fault));
        pass(Duration::from_secs(6 * 3_600)).await;
        assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Ok(()), Err(NoKey::Unavailable)));
    }
    script.answer(Ok(b"<html>".to_vec()));
    pass(Duration::from_secs(4 * 3_600)).await;
    assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Ok(()), Err(NoKey::Unavailable)));
    pass(Duration::from_secs(3 * 3_600)).await;
    assert_eq!(found(&jwks, "a").await, Err(NoKey::Unavailable), "a day is over");
    let fetches = script.fetches.lock().expect("no panic").clone();
    assert!(
        fetches.windows(2).all(|pair| pair[1] - pair[0] >= RETRY_FIRST),
        "the endpoint is not overloaded"
    );
    // The same answer as before the outage counts as a new one.
    script.answer(Ok(set(&[rsa("a")])));
    pass(2 * RETRY_MAX + SOON).await;
    assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Ok(()), Err(NoKey::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_may_withdraw_all_its_keys() {
    let (script, jwks) = Script::start(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    script.answer(Ok(set(&[])));
    pass(REFRESH_EVERY + FETCH_INTERVAL_MIN + SOON).await;
    assert_eq!(found(&jwks, "a").await, Err(NoKey::Unknown));
}
