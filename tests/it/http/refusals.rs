//! Invalid input at every endpoint: the problem names the rule and repeats no input; nothing is published, and the
//! store is not called.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderName, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use otpost::config::JwtKey;
use otpost::domain::channel::Channel;
use otpost::http::Tokens;
use serde_json::{Value, json};

use super::{
    ALICE, ANA, Answer, CODE, SEND_EMAIL, SEND_SMS, TestServer, VERIFY_EMAIL, VERIFY_PHONE, VERIFY_SERVICE,
    claims, jwt, post, service, token,
};
use crate::harness::{FlakyStore, World};

const PUBLIC_KEY: &str = include_str!("../keys/rsa.public.pem");
const STATUS: &str = "/api/v1/auth/otp-status/http-0000000000000000-00000000000000000000000000000000";

/// An endpoint with a valid body.
const POSTS: [(&str, &str); 5] = [
    (SEND_SMS, r#"{"otp_type":"SMS"}"#),
    (SEND_EMAIL, r#"{"otp_type":"EMAIL"}"#),
    (VERIFY_PHONE, r#"{"otp_code":"739164"}"#),
    (VERIFY_EMAIL, r#"{"otp_code":"739164"}"#),
    (VERIFY_SERVICE, r#"{"to":"ana@tienda.example","otp_code":"739164"}"#),
];

/// An interface that counts all calls to the store.
struct Watched {
    server: TestServer,
    store: Arc<FlakyStore>,
}

impl Watched {
    fn open(key: JwtKey) -> Watched {
        let store = World::new().store;
        let behind = store.clone();
        let server = TestServer::with(|api| {
            api.tokens = Tokens::new(&jwt(key)).expect("a key");
            api.verifier.store = behind.clone();
            api.store = behind;
        });
        Watched { server, store }
    }

    /// Expects this status, code and part of the detail, no repeated input, and no effect.
    #[track_caller]
    fn expect(&self, name: &str, answer: &Answer, (status, code): (u16, &str), words: &str) {
        let problem = answer.expect_problem(status, code);
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(words), "{name}: {detail}");
        answer.expect_nothing_of(&["Secreto", "ana", "bob", "tienda", "739164", "3001234567", "eyJ"]);
        assert_eq!(self.store.calls.load(Ordering::SeqCst), 0, "{name}: the store was called");
        assert!(self.server.broker.is_idle(), "{name}: something was published");
    }
}

fn secret() -> JwtKey {
    JwtKey::Secret(super::SECRET.into())
}

fn signed_with(algorithm: Algorithm, key: &[u8], changes: &Value) -> String {
    let key = EncodingKey::from_secret(key);
    encode(&Header::new(algorithm), &claims(changes), &key).expect("a token")
}

fn unsigned(algorithm: &str) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    let header = part(&json!({"alg": algorithm, "typ": "JWT"}));
    format!("{header}.{}.", part(&claims(&json!({"scope": "otp:verify"}))))
}

#[tokio::test]
async fn a_header_that_matters_may_be_given_once_only() {
    let token = token(&json!({"scope": "otp:verify"}));
    for (path, body) in POSTS {
        for (name, value, status, code) in [
            ("authorization", format!("Bearer {token}"), 401, "unauthenticated"),
            ("authorization", "Bearer Secreto".to_owned(), 401, "unauthenticated"),
            ("authorization", "Basic Secreto".to_owned(), 401, "unauthenticated"),
            ("content-type", "application/json".to_owned(), 415, "unsupported_media_type"),
            ("content-type", "text/plain".to_owned(), 415, "unsupported_media_type"),
        ] {
            let watched = Watched::open(secret());
            let mut request = post(path, &token, body);
            let name: HeaderName = name.parse().expect("a name");
            request.headers_mut().append(&name, value.parse().expect("a header value"));
            let answer = watched.server.ask(request).await;
            let words = if status == 401 { "twice" } else { "application/json" };
            watched.expect(&format!("two {name} at {path}"), &answer, (status, code), words);
        }
    }
    for path in [SEND_SMS, SEND_EMAIL] {
        let watched = Watched::open(secret());
        let kind = if path == SEND_SMS { r#"{"otp_type":"SMS"}"# } else { r#"{"otp_type":"EMAIL"}"# };
        let mut request = post(path, &token, kind);
        for key in ["order-1", "order-2"] {
            request.headers_mut().append("idempotency-key", key.parse().expect("a header value"));
        }
        let answer = watched.server.ask(request).await;
        watched.expect("two keys", &answer, (400, "invalid_request"), "once");
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_by_every_endpoint() {
    let scope = json!({"scope": "otp:verify"});
    let expired = json!({"scope": "otp:verify", "exp": 1_700_000_000});
    let good = signed_with(Algorithm::HS256, super::SECRET.as_bytes(), &scope);
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (head, _) = head.rsplit_once('.').expect("three parts");
    let other = BASE64URL.encode(claims(&json!({"sub": "Secreto", "scope": "otp:verify"})).to_string());
    let bad = [
        (
            "expired",
            secret(),
            signed_with(Algorithm::HS256, super::SECRET.as_bytes(), &expired),
            "has expired",
        ),
        ("unsigned", secret(), good[..=good.len() - signature.len() - 1].to_owned(), "not valid here"),
        ("alg none", secret(), unsigned("none"), "not valid here"),
        ("alg NONE", secret(), unsigned("NONE"), "not valid here"),
        ("no alg", secret(), unsigned(""), "not valid here"),
        ("another secret", secret(), signed_with(Algorithm::HS256, &[7; 32], &scope), "not valid here"),
        (
            "another length",
            secret(),
            signed_with(Algorithm::HS512, super::SECRET.as_bytes(), &scope),
            "not valid here",
        ),
        ("other claims", secret(), format!("{head}.{other}.{signature}"), "not valid here"),
        (
            "the public key as a secret",
            JwtKey::Pem(PUBLIC_KEY.to_owned()),
            signed_with(Algorithm::HS256, PUBLIC_KEY.as_bytes(), &scope),
            "not valid here",
        ),
        ("none for a public key", JwtKey::Pem(PUBLIC_KEY.to_owned()), unsigned("none"), "not valid here"),
        ("no token", secret(), "Secreto".to_owned(), "not valid here"),
    ];
    for (name, key, token, words) in bad {
        let watched = Watched::open(key);
        for (path, body) in POSTS {
            let answer = watched.server.ask(post(path, &token, body)).await;
            watched.expect(&format!("{name} at {path}"), &answer, (401, "invalid_token"), words);
        }
        let request = Request::get(STATUS).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let answer = watched.server.ask(request.body(Body::empty()).expect("a request")).await;
        watched.expect(name, &answer, (401, "invalid_token"), words);
    }
}

#[tokio::test]
async fn a_missing_token_or_another_scheme_is_reported_as_such() {
    let watched = Watched::open(secret());
    for (path, body) in POSTS {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let answer = watched.server.ask(request.body(Body::from(body)).expect("a request")).await;
        watched.expect(path, &answer, (401, "unauthenticated"), "a bearer token is needed");
        let long = watched.server.ask(post(path, &"Secreto".repeat(2_000), body)).await;
        watched.expect(path, &long, (401, "unauthenticated"), "a bearer token is needed");
    }
    let (path, body) = POSTS[4];
    let answer = watched.server.ask(post(path, &token(&json!({})), body)).await;
    watched.expect(path, &answer, (403, "insufficient_scope"), "lacks `otp:verify`");
    for (path, body) in &POSTS[..4] {
        let answer = watched.server.ask(post(path, &token(&json!({"sub": null})), *body)).await;
        watched.expect(path, &answer, (401, "invalid_token"), "has no subject");
    }
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_not_read() {
    let watched = Watched::open(secret());
    for (path, body) in POSTS {
        for kind in
            ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=Secreto"]
        {
            let mut request = post(path, &either(), body);
            request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a header value"));
            let answer = watched.server.ask(request).await;
            watched.expect(path, &answer, (415, "unsupported_media_type"), "must be application/json");
        }
    }
}

/// The token of a person that also has the scope of a service.
fn either() -> String {
    token(&json!({"scope": "otp:verify"}))
}

#[tokio::test]
async fn a_type_of_the_other_channel_is_unknown() {
    let watched = Watched::open(secret());
    for (path, right, wrong) in [(SEND_SMS, "SMS", "EMAIL"), (SEND_EMAIL, "EMAIL", "SMS")] {
        let lower = right.to_lowercase();
        for kind in
            [json!(wrong), json!(lower), json!("Secreto"), json!(""), json!(1), json!([right]), json!(null)]
        {
            let answer = watched.server.post(path, &either(), &json!({ "otp_type": kind })).await;
            let rule = format!("`otp_type` must be \"{right}\"");
            watched.expect(path, &answer, (422, "invalid_request"), &rule);
        }
    }
}

#[tokio::test]
async fn a_malformed_code_is_not_checked() {
    let watched = Watched::open(secret());
    for path in [VERIFY_PHONE, VERIFY_EMAIL, VERIFY_SERVICE] {
        for code in [
            json!("739164".repeat(500)),
            json!("73916473916"),
            json!("⁷³⁹¹⁶⁴"),
            json!("739.164"),
            json!("739164\r\nx"),
            json!(739164),
            json!(""),
            json!(null),
        ] {
            let answer = watched.server.post(path, &either(), &json!({"to": ANA, "otp_code": code})).await;
            let rule = "`otp_code` must be a string of 4 to 10 digits; got ";
            watched.expect(path, &answer, (422, "invalid_request"), rule);
        }
    }
}

/// Invalid addresses, each with a part of its rule. Each could do harm as the recipient of an e-mail.
fn bad_addresses() -> Vec<(String, &'static str)> {
    let long_label = "a".repeat(63);
    [
        ("ana@tienda.example\r\nBcc: bob@tienda.example", "control character"),
        ("ana@tienda.example\nSubject: Secreto", "control character"),
        ("ana\u{0}@tienda.example", "control character"),
        ("ana@tienda.example,bob@tienda.example", "more than one @"),
        ("ana@tienda.example;bob@tienda.example", "more than one @"),
        ("ana@tienda.example bob@tienda.example", "more than one @"),
        ("ana,bob@tienda.example", "before the @"),
        ("Ana <ana@tienda.example>", "before the @"),
        ("<ana@tienda.example>", "before the @"),
        ("\"ana b\"@tienda.example", "before the @"),
        ("\"ana@bob\"@tienda.example", "more than one @"),
        ("ana(bob)@tienda.example", "before the @"),
        ("ana..bob@tienda.example", "before the @"),
        ("añá@tienda.example", "beyond ASCII"),
        ("ana@", "a domain name"),
        ("@tienda.example", "before the @"),
        ("ana@localhost", "a domain name"),
        ("ana@[127.0.0.1]", "a domain name"),
        ("ana@127.0.0.1", "a domain name"),
        ("ana@tien da.example", "a domain name"),
        ("ana@tienda.example>", "a domain name"),
        ("ana@-tienda.example", "a domain name"),
        ("ana@xn--\u{e9}.example", "a domain name"),
    ]
    .map(|(text, rule)| (text.to_owned(), rule))
    .into_iter()
    .chain([
        (format!("{}@tienda.example", "a".repeat(65)), "1 to 64 characters"),
        (format!("{}@{long_label}.{long_label}.{long_label}.example", "a".repeat(64)), "longer than 254"),
        (format!("ana@{}example", "tienda.".repeat(300)), "longer than 254"),
    ])
    .collect()
}

#[tokio::test]
async fn an_address_that_could_steer_an_email_is_refused_by_its_rule() {
    let watched = Watched::open(secret());
    for (address, rule) in bad_addresses() {
        let person = token(&json!({ "email": address }));
        for (path, body) in [POSTS[1], POSTS[3]] {
            let answer = watched.server.ask(post(path, &person, body)).await;
            let name = format!("{address:.60} at {path}");
            watched.expect(&name, &answer, (422, "invalid_recipient"), "the token's `email` ");
            watched.expect(&name, &answer, (422, "invalid_recipient"), rule);
        }
        let body = json!({"to": address, "channel": "email", "otp_code": CODE});
        let answer = watched.server.post(VERIFY_SERVICE, &service(), &body).await;
        watched.expect(&address, &answer, (422, "invalid_request"), "`to` ");
        watched.expect(&address, &answer, (422, "invalid_request"), rule);
    }
    for (path, body) in [POSTS[1], POSTS[3]] {
        for (email, words) in [(json!(null), "has no `email`"), (json!(""), "`email` is empty")] {
            let answer = watched.server.ask(post(path, &token(&json!({ "email": email })), body)).await;
            watched.expect(path, &answer, (422, "invalid_recipient"), words);
        }
    }
}

#[tokio::test]
async fn an_international_domain_is_an_address_in_ascii() {
    let server = TestServer::start();
    let person = token(&json!({"email": "Ana@Bücher.example"}));
    server.ask(post(SEND_EMAIL, &person, POSTS[1].1)).await.expect(202);
    let queued = server.queued_by(Channel::Email).await;
    assert_eq!(super::send::decoded(&queued[0]).to, "ana@xn--bcher-kva.example");
}

#[tokio::test]
async fn an_invalid_number_is_refused_by_its_rule() {
    let watched = Watched::open(secret());
    let bad = [
        (json!("hello Secreto"), "contains letters"),
        (json!("+57300123456789012"), "`phone_number` "),
        (json!("+573001234567,+573109876543"), "`phone_number` "),
        (json!("+573001234567\r\nTo: +573109876543"), "`phone_number` "),
        (json!(ANA), "`phone_number` "),
        (json!(""), "`phone_number` is empty"),
        (json!(null), "has no `phone_number`"),
    ];
    for (number, words) in bad {
        let person = token(&json!({ "phone_number": number }));
        for (path, body) in [POSTS[0], POSTS[2]] {
            let answer = watched.server.ask(post(path, &person, body)).await;
            watched.expect(&format!("{number} at {path}"), &answer, (422, "invalid_recipient"), words);
        }
    }
    for to in [json!("hello Secreto"), json!("12"), json!(3_001_234_567_u64), json!([ALICE]), json!(null)] {
        let answer =
            watched.server.post(VERIFY_SERVICE, &service(), &json!({"to": to, "otp_code": CODE})).await;
        watched.expect(&to.to_string(), &answer, (422, "invalid_request"), "`to` ");
    }
}
