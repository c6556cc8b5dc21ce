//! Published keys over a scripted endpoint and paused time, and which keys are usable.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm as Signing, EncodingKey};
use serde_json::{Value, json};

use super::fetch_error::KEYS_MAX;
use super::keys::Ignored;
use super::*;
use crate::http::token_key::Algorithm;

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/it/keys/", $name, ".private.pem"))
    };
}

fn published(key: &EncodingKey, algorithm: Signing, kid: &str) -> Value {
    let mut key =
        serde_json::to_value(Jwk::from_encoding_key(key, algorithm).expect("a key")).expect("plain data");
    key["kid"] = kid.into();
    key
}

fn rsa(kid: &str) -> Value {
    published(&EncodingKey::from_rsa_pem(pem!("rsa")).expect("a key"), Signing::RS256, kid)
}

fn p256(kid: &str) -> Value {
    published(&EncodingKey::from_ec_pem(pem!("p256")).expect("a key"), Signing::ES256, kid)
}

fn ed25519(kid: &str) -> Value {
    published(&EncodingKey::from_ed_pem(pem!("ed25519")).expect("a key"), Signing::EdDSA, kid)
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
    KeySet::read(&set(keys)).expect("a set")
}

#[track_caller]
fn expect_key(name: &str, key: Value, expected: Result<Algorithm, Ignored>) {
    let kid = key["kid"].as_str().map(str::to_owned);
    let (keys, ignored) = read(&[key]);
    match expected {
        Ok(algorithm) => {
            let key = keys.find(kid.as_deref()).unwrap_or_else(|| panic!("{name}: {ignored:?}"));
            assert_eq!((key.algorithm(), keys.usable()), (algorithm, 1), "{name}");
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
    let zeros = modulus([vec![0; 9], vec![0x80], vec![1; 255]].concat());
    expect_key("zeros in front", with(rsa("a"), &json!({"n": zeros, "e": "AAAAAQAB"})), Ok(Algorithm::RS256));
    expect_key("8192 bits", with(rsa("a"), &json!({"n": big(1_024)})), Ok(Algorithm::RS256));
    for changes in [
        json!({"n": big(128)}),
        json!({"n": modulus([vec![0x7f], vec![1; 255]].concat())}),
        json!({"n": modulus([vec![0; 256], vec![0x80], vec![1; 127]].concat())}),
        json!({"n": modulus([vec![0x80], vec![1; 254], vec![2]].concat())}),
        json!({"n": modulus(vec![0; 256])}),
        json!({"n": 7}),
        json!({"n": format!("{}=", big(256))}),
        json!({"n": big(256).replacen('A', "+", 1)}),
        json!({"e": "AgAAAAAB"}),
        json!({"e": "AA"}),
        json!({"e": "AQAA"}),
        json!({"e": "Ag"}),
        json!({"e": "AQAB="}),
        json!({"e": null}),
        json!({"n": big(1_025)}),
        json!({"n": ""}),
        json!({"n": "not base64!"}),
        json!({"e": "AQ"}),
        json!({"e": "AAAB"}),
        json!({"e": ""}),
    ] {
        expect_key(&changes.to_string(), with(rsa("a"), &changes), Err(Ignored::Unfit));
    }
    for changes in [json!({"x": "AAAA"}), json!({"y": ""}), json!({"y": "="}), json!({"y": null})] {
        expect_key(&changes.to_string(), with(p256("a"), &changes), Err(Ignored::Unfit));
    }
}

#[test]
fn a_key_that_is_no_point_on_its_curve_is_ignored() {
    let point = |x: [u8; 32], y: [u8; 32]| json!({"x": BASE64URL.encode(x), "y": BASE64URL.encode(y)});
    let of = |key: &Value, name: &str| BASE64URL.decode(key[name].as_str().expect("text")).expect("base64");
    let (x, y) = (of(&p256("a"), "x"), of(&p256("a"), "y"));
    let mut aside = y.clone();
    aside[31] ^= 1;
    for changes in [
        json!({"x": BASE64URL.encode(&x[1..])}),
        json!({"y": BASE64URL.encode([&[0], &y[..]].concat())}),
        json!({"y": BASE64URL.encode(aside)}),
        json!({"x": BASE64URL.encode(&y), "y": BASE64URL.encode(&x)}),
        point([0; 32], [0; 32]),
        point([0xff; 32], [0xff; 32]),
    ] {
        expect_key(&changes.to_string(), with(p256("a"), &changes), Err(Ignored::Unfit));
    }
    for changes in
        [json!({"x": "AAAA"}), json!({"x": format!("{}=", BASE64URL.encode([9; 32]))}), json!({"x": 7})]
    {
        expect_key(&changes.to_string(), with(ed25519("a"), &changes), Err(Ignored::Unfit));
    }
    // The encodings of the points whose multiples are few, and of a y without a point.
    let mut encodings: Vec<String> = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000",
    ]
    .map(str::to_owned)
    .into();
    let negative = encodings.iter().map(|text| {
        let mut bytes = hex::decode(text).expect("digits");
        bytes[31] |= 0x80;
        hex::encode(bytes)
    });
    encodings.extend(negative.collect::<Vec<_>>());
    for text in encodings {
        let x = BASE64URL.encode(hex::decode(&text).expect("digits"));
        expect_key(&text, with(ed25519("a"), &json!({ "x": x })), Err(Ignored::Unfit));
    }
    for seed in 0..40_u8 {
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
        let x = BASE64URL.encode(aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref());
        expect_key("a point", with(ed25519("a"), &json!({ "x": x })), Ok(Algorithm::EdDSA));
    }
}

#[test]
fn a_key_of_another_kind_or_curve_is_ignored() {
    for changes in [json!({"crv": "P-384"}), json!({"crv": "secp256k1"})] {
        expect_key(&changes.to_string(), with(p256("a"), &changes), Err(Ignored::Unsupported));
    }
    for changes in [json!({"crv": "X25519"}), json!({"crv": "P-256"}), json!({"kty": "odd"})] {
        expect_key(&changes.to_string(), with(ed25519("a"), &changes), Err(Ignored::Unsupported));
    }
}

#[test]
fn a_shared_kid_finds_no_key_and_a_missing_kid_finds_the_only_key() {
    let (keys, ignored) = read(&[rsa("a"), rsa("a"), p256("a"), ed25519("a"), ed25519("b"), ed25519("b")]);
    assert_eq!((ignored, keys.usable()), (vec![Ignored::Duplicate; 3], 1));
    assert!(keys.find(Some("a")).is_none() && keys.find(Some("b")).is_some() && keys.find(None).is_none());
    // An unusable key does not make the `kid` of another one ambiguous.
    let (keys, _) = read(&[rsa("a"), with(p256("a"), &json!({"use": "enc"}))]);
    assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
    assert!(keys.find(Some("")).is_none() && keys.find(Some("A")).is_none());
}

#[test]
fn the_same_key_twice_is_one_key() {
    let without_name = |key: Value| with(key, &json!({"kid": null}));
    for key in [rsa("a"), p256("a"), ed25519("a")] {
        let more = with(key.clone(), &json!({"x5c": 7, "use": "sig"}));
        for keys in [vec![key.clone(), key.clone()], vec![key.clone(), more, key.clone()]] {
            let (keys, ignored) = read(&keys);
            assert_eq!((ignored, keys.usable()), (vec![], 1));
            assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
        }
        let unnamed = without_name(key.clone());
        assert_eq!(read(&[unnamed.clone(), unnamed.clone()]).0.usable(), 1);
        // One key under two names, or with and without one: a token without a name can only mean it.
        for other in [with(key.clone(), &json!({"kid": "b"})), unnamed] {
            let (keys, ignored) = read(&[key.clone(), other]);
            assert_eq!((ignored, keys.usable()), (vec![], 2));
            assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
        }
    }
    let (keys, _) = read(&[without_name(rsa("a")), without_name(p256("a"))]);
    assert!(keys.find(None).is_none());
}

#[test]
fn a_parameter_that_is_given_twice_spoils_its_key_only() {
    let good = ed25519("b").to_string();
    for twice in [
        r#""kid":"a""#,
        r#""k\u0069d":"c""#,
        r#""use":"sig","use":"enc""#,
        r#""alg":"EdDSA""#,
        r#""d":1,"d":1"#,
    ] {
        let odd = ed25519("a").to_string().replacen('{', &format!("{{{twice},"), 1);
        let body = format!(r#"{{"x":"\ud83d","keys":[{odd},{{"kid":"\ud83d"}},{good}]}}"#);
        let (keys, ignored) = KeySet::read(body.as_bytes()).expect("a set");
        assert_eq!((ignored.len(), keys.usable(), ignored[0]), (2, 1, Ignored::Unfit), "{twice}");
        assert!(keys.find(Some("b")).is_some());
    }
}

#[test]
fn a_malformed_or_too_large_key_set_is_refused_whole() {
    let read = |body: &[u8]| KeySet::read(body).err();
    for body in [
        &b""[..],
        b"[]",
        b"{}",
        b"<html>",
        b"{\"keys\":{}}",
        b"{\"keys\":[]",
        b"{\"keys\":[],\"keys\":[]}",
        b"\xff",
    ] {
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
        let jwks = Arc::new(Jwks::new(Box::new(script.clone())));
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
