//! Published keys over a scripted endpoint and paused time, and which keys are usable.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use super::keys::{Ignored, KEYS_MAX};
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
        Err(why) => {
            assert_eq!(ignored, [why], "{name}");
            assert!(keys.find(kid.as_deref()).or(keys.find(None)).is_none() && keys.usable() == 0, "{name}");
        }
    }
}

#[test]
fn the_kind_of_a_key_decides_what_it_is_for() {
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
fn a_key_that_could_check_nothing_or_everything_is_left_out() {
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
fn a_name_that_two_keys_have_is_nobodys_and_no_name_means_the_only_key() {
    let (keys, ignored) = read(&[rsa("a"), p256("a"), ed25519("a"), ed25519("b")]);
    assert_eq!((ignored, keys.usable()), (vec![Ignored::Duplicate; 3], 1));
    assert!(keys.find(Some("a")).is_none() && keys.find(Some("b")).is_some() && keys.find(None).is_none());
    // What is not usable anyway takes no name from others.
    let (keys, _) = read(&[rsa("a"), with(p256("a"), &json!({"use": "enc"}))]);
    assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
    assert!(keys.find(Some("")).is_none() && keys.find(Some("A")).is_none());
}

#[test]
fn what_is_no_set_or_too_large_a_one_is_refused_whole() {
    let read = |body: &[u8]| KeySet::read(body, &Validation::new(Algorithm::RS256)).err();
    for body in [&b""[..], b"[]", b"{}", b"<html>", b"{\"keys\":{}}", b"{\"keys\":[]", b"\xff"] {
        assert_eq!(read(body), Some(Fault::Unreadable));
    }
    assert_eq!(read(&set(&vec![json!(null); KEYS_MAX + 1])), Some(Fault::TooMany));
    assert_eq!(read(b"{\"keys\":[7,\"x\",null,[]]}"), None, "they spoil no other");
}

/// What an endpoint answers, after how long, and how often it was asked.
struct Script {
    answer: Mutex<Result<Vec<u8>, Fault>>,
    takes: Mutex<Duration>,
    asked: Mutex<Vec<Instant>>,
}

#[async_trait::async_trait]
impl Endpoint for Arc<Script> {
    async fn get(&self) -> Result<Vec<u8>, Fault> {
        self.asked.lock().expect("no panic").push(Instant::now());
        let takes = *self.takes.lock().expect("no panic");
        tokio::time::sleep(takes).await;
        self.answer.lock().expect("no panic").clone()
    }
}

impl Script {
    fn followed(answer: Result<Vec<u8>, Fault>, takes: Duration) -> (Arc<Script>, Arc<Jwks>) {
        let script = Arc::new(Script {
            answer: Mutex::new(answer),
            takes: Mutex::new(takes),
            asked: Mutex::default(),
        });
        let jwks = Arc::new(Jwks::new(Box::new(script.clone()), Validation::new(Algorithm::RS256)));
        tokio::spawn(jwks.clone().follow());
        (script, jwks)
    }

    fn answer(&self, answer: Result<Vec<u8>, Fault>) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }
}

const SOON: Duration = Duration::from_millis(50);
const DOWN: Fault = Fault::Unreachable("no connection");

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn found(jwks: &Jwks, kid: &str) -> Result<(), NoKey> {
    jwks.find(Some(kid)).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_before_the_keys_waits_for_them_and_not_for_long() {
    let (_, jwks) = Script::followed(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    let (_, jwks) = Script::followed(Ok(set(&[rsa("a")])), Duration::from_secs(4));
    let began = Instant::now();
    assert_eq!(found(&jwks, "a").await, Err(NoKey::Unavailable));
    assert!(began.elapsed() <= WAIT_MAX + SOON);
    assert_eq!((jwks.find(None).await.is_ok(), found(&jwks, "b").await), (true, Err(NoKey::Unknown)));
    assert!(began.elapsed() <= Duration::from_secs(4) + SOON, "the next one finds the fetch nearly done");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_it_is_first_used() {
    let (script, jwks) = Script::followed(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    pass(Duration::from_secs(90)).await;
    script.answer(Ok(set(&[rsa("a"), p256("b")])));
    assert_eq!((script.asked(), found(&jwks, "b").await, script.asked()), (1, Ok(()), 2));
    // One that vanishes is gone with the next good answer.
    script.answer(Ok(set(&[p256("b")])));
    pass(REFRESH_EVERY + ASKED_EVERY_MIN + SOON).await;
    assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Err(NoKey::Unknown), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_names_is_one_question_a_minute_and_waits_for_nothing_else() {
    let (script, jwks) = Script::followed(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    let began = Instant::now();
    for round in 0..600 {
        let asked: Vec<_> = (0..20)
            .map(|at| {
                let jwks = jwks.clone();
                tokio::spawn(async move { found(&jwks, &format!("{round}-{at}")).await })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.expect("no panic"), Err(NoKey::Unknown));
        }
        assert_eq!(found(&jwks, "a").await, Ok(()));
        pass(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(632), "{:?}", began.elapsed());
    let asked = script.asked.lock().expect("no panic");
    assert!(asked.len() >= 9, "{}", asked.len());
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= ASKED_EVERY_MIN), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_wait_for_an_endpoint_that_hangs() {
    let (script, jwks) = Script::followed(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    *script.takes.lock().expect("no panic") = Duration::from_secs(3_600);
    pass(2 * ASKED_EVERY_MIN).await;
    let began = Instant::now();
    let asking: Vec<_> = (0..2 * WAITING_MAX)
        .map(|at| {
            let jwks = jwks.clone();
            tokio::spawn(async move { (found(&jwks, &at.to_string()).await, began.elapsed()) })
        })
        .collect();
    let mut waited = 0;
    for answer in asking {
        let (answer, elapsed) = answer.await.expect("no panic");
        assert_eq!(answer, Err(NoKey::Unavailable));
        waited += usize::from(elapsed > SOON);
        assert!(elapsed <= WAIT_MAX + SOON, "{elapsed:?}");
    }
    assert_eq!((waited, script.asked()), (WAITING_MAX, 2));
    assert_eq!(found(&jwks, "a").await, Ok(()), "who is known waits for nobody");
}

#[tokio::test(start_paused = true)]
async fn keys_outlive_an_endpoint_that_is_down_or_talks_nonsense_for_a_day() {
    let (script, jwks) = Script::followed(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    for fault in [DOWN, Fault::Status(302), Fault::TooLong] {
        script.answer(Err(fault));
        pass(Duration::from_secs(6 * 3_600)).await;
        assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Ok(()), Err(NoKey::Unavailable)));
    }
    script.answer(Ok(b"<html>".to_vec()));
    pass(Duration::from_secs(4 * 3_600)).await;
    assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Ok(()), Err(NoKey::Unavailable)));
    pass(Duration::from_secs(3 * 3_600)).await;
    assert_eq!(found(&jwks, "a").await, Err(NoKey::Unavailable), "a day is over");
    let asked = script.asked.lock().expect("no panic").clone();
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= RETRY_FIRST), "it is not pressed");
    // The same answer as before the outage counts as a new one.
    script.answer(Ok(set(&[rsa("a")])));
    pass(2 * RETRY_MAX + SOON).await;
    assert_eq!((found(&jwks, "a").await, found(&jwks, "b").await), (Ok(()), Err(NoKey::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_withdraws_all_its_keys_is_believed() {
    let (script, jwks) = Script::followed(Ok(set(&[rsa("a")])), SOON);
    assert_eq!(found(&jwks, "a").await, Ok(()));
    script.answer(Ok(set(&[])));
    pass(REFRESH_EVERY + ASKED_EVERY_MIN + SOON).await;
    assert_eq!(found(&jwks, "a").await, Err(NoKey::Unknown));
}
