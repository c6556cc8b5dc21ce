//! Requests for a code by a back end: `POST /api/v1/otp/send` and `GET /api/v1/otp/status/{request_id}`.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use otpost::config::{Jwt, JwtKey};
use otpost::domain::channel::Channel;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::time_zone::Zone;
use otpost::http::Tokens;
use serde_json::{Value, json};

use super::broken::{Broken, Fails};
use super::send::decoded;
use super::{
    ALICE, ANA, AUDIENCE, Answer, CODE, HOUR, ISSUER, SECRET, TestServer, alice, post, service, token,
};

pub const SEND: &str = "/api/v1/otp/send";
const STATUS: &str = "/api/v1/otp/status/";

/// The token of a service that may send, with changes.
pub fn sender(changes: &Value) -> String {
    let mut claims = json!({"sub": "shop", "scope": "otp:send", "phone_number": null, "email": null, "name": null,
        "locale": null, "zoneinfo": null});
    for (name, value) in changes.as_object().expect("an object of claims") {
        claims[name] = value.clone();
    }
    token(&claims)
}

fn shop() -> String {
    sender(&json!({}))
}

async fn ask(server: &TestServer, body: &Value) -> Answer {
    server.post(SEND, &shop(), body).await
}

async fn ask_keyed(server: &TestServer, token: &str, key: &str, body: &str) -> Answer {
    let mut request = post(SEND, token, body.to_owned());
    request.headers_mut().insert("idempotency-key", HeaderValue::from_str(key).expect("a value"));
    server.ask(request).await
}

async fn status(server: &TestServer, token: &str, request_id: &str) -> Answer {
    let request = Request::get(format!("{STATUS}{request_id}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty());
    server.ask(request.expect("a request")).await
}

fn id(answer: &Value) -> &str {
    answer["request_id"].as_str().expect("an id")
}

/// Nothing was published.
#[track_caller]
fn expect_idle(server: &TestServer, case: &str) {
    assert_eq!(server.broker.waiting(), 0, "{case}");
}

#[tokio::test]
async fn a_back_end_asks_for_a_code_with_the_fields_of_a_message() {
    let server = TestServer::start();
    let answer = ask(
        &server,
        &json!({"to": "300 123 4567", "channel": "sms", "purpose": "login", "user_id": "u-1", "user_name": "Ana",
            "client_ip": "2001:db8::7", "locale": "es_CO", "timezone": "America/Bogota", "template": "promo"}),
    )
    .await
    .expect(202);
    let expected = json!({"request_id": answer["request_id"], "status": "queued", "channel": "sms",
        "to": "+57******4567", "resend_after": 30, "code_length": 6});
    assert_eq!(answer, expected);
    let queued = server.queued().await;
    let request = decoded(&queued[0]);
    assert_eq!((request.id.as_str(), request.to.as_ref()), (id(&answer), ALICE));
    assert_eq!((request.purpose.as_str(), request.user_id.as_deref()), ("login", Some("u-1")));
    assert_eq!((request.user_name.as_deref(), request.template.as_deref()), (Some("Ana"), Some("promo")));
    assert_eq!(request.client_ip.map(|ip| ip.to_string()).as_deref(), Some("2001:db8::7"));
    assert_eq!(
        (request.locale.as_deref(), request.timezone.as_ref().map(Zone::name)),
        (Some("es_CO"), Some("America/Bogota"))
    );
    assert!(request.requested_at.is_some() && request.code.is_none() && request.autofill.is_none());
}

#[tokio::test]
async fn what_a_back_end_leaves_out_is_not_made_up_from_its_token_or_its_connection() {
    let server = TestServer::with(|api| api.trusted_proxies = vec!["192.0.2.0/24".parse().expect("a net")]);
    for body in [
        json!({"to": ALICE}),
        json!({"to": ALICE, "channel": null, "purpose": null, "user_id": null, "user_name": null, "client_ip": null,
            "locale": null, "timezone": null, "template": null}),
    ] {
        let claims =
            json!({"name": "Shop", "locale": "en", "zoneinfo": "UTC", "phone_number": "+573109876543"});
        let mut request = post(SEND, &sender(&claims), body.to_string());
        let forwarded = HeaderValue::from_static("198.51.100.7");
        request.headers_mut().insert("x-forwarded-for", forwarded);
        server.ask(request).await.expect(202);
    }
    for body in server.queued().await {
        let request = decoded(&body);
        assert_eq!((request.to.as_ref(), request.purpose.as_str()), (ALICE, "verification"));
        assert_eq!((request.client_ip, request.user_id, request.user_name), (None, None, None));
        assert!(request.locale.is_none() && request.timezone.is_none() && request.template.is_none());
    }
}

#[tokio::test]
async fn an_address_is_sent_to_by_e_mail() {
    let server = TestServer::start();
    for body in [json!({"to": "Ana@Shop.example"}), json!({"to": ANA, "channel": "email"})] {
        let answer = ask(&server, &body).await.expect(202);
        assert_eq!((&answer["channel"], &answer["to"]), (&json!("email"), &json!("a***@s***.example")));
    }
    let queued = server.queued_by(Channel::Email).await;
    assert_eq!(queued.len(), 2);
    assert!(queued.iter().all(|body| decoded(body).to == ANA));
}

#[tokio::test]
async fn a_field_that_is_not_listed_is_refused_by_name() {
    let server = TestServer::start();
    for (field, value) in [
        ("code", json!("123456")),
        ("otp_code", json!("123456")),
        ("request_id", json!("r1")),
        ("requested_at", json!("2026-11-22T13:36:16Z")),
        ("not_after", json!(null)),
        ("autofill", json!({"webotp_domain": "shop.example"})),
        ("userId", json!("u-1")),
        ("To", json!(ALICE)),
    ] {
        let answer = ask(&server, &json!({"to": ALICE, field: value})).await;
        let detail = answer.expect_problem(400, "invalid_request")["detail"].to_string();
        assert!(detail.contains(&format!("`{field}` is not known")), "{detail}");
        answer.expect_nothing_of(&["123456", "300123"]);
    }
    for field in ["+573001234567", "ana@shop.example", "482913", "", "ñ\u{202e}", &"x".repeat(65)] {
        let answer = ask(&server, &json!({"to": ALICE, field: 1})).await;
        answer.expect_problem(400, "invalid_request");
        answer.expect_nothing_of(&["300123", "ana@shop", "482913", "ñ", "xxxx"]);
    }
    expect_idle(&server, "a refused body");
}

#[tokio::test]
async fn a_field_that_breaks_its_rule_is_refused_like_one_of_a_message() {
    let server = TestServer::start();
    let long = "x".repeat(321);
    for (body, words) in [
        (json!({}), "`to` must be a string of 1 to 320 characters; got nothing"),
        (json!({"to": null}), "`to` must be"),
        (json!({"to": 573_001_234_567_u64}), "`to` must be"),
        (json!({"to": [ALICE]}), "`to` must be"),
        (json!({ "to": long }), "`to` must be"),
        (json!({"to": ALICE, "channel": "fax"}), "`channel` must be"),
        (json!({"to": ALICE, "channel": 1}), "`channel` must be"),
        (json!({"to": ALICE, "purpose": "Log in"}), "`purpose` must be"),
        (json!({"to": ALICE, "user_id": ""}), "`user_id` must be"),
        (json!({"to": ALICE, "user_id": "u".repeat(256)}), "`user_id` must be"),
        (json!({"to": ALICE, "client_ip": "localhost"}), "`client_ip` must be"),
        (json!({"to": ALICE, "client_ip": "203.0.113.7:443"}), "`client_ip` must be"),
        (json!({"to": ALICE, "locale": "español"}), "`locale` must be"),
        (json!({"to": ALICE, "timezone": "Mars/Base"}), "`timezone` must be"),
        (json!({"to": ALICE, "locale": 7}), "`locale` must be"),
        (json!({"to": ALICE, "timezone": ["UTC"]}), "`timezone` must be"),
        (json!({"to": ALICE, "user_name": {}}), "`user_name` must be"),
        (json!({"to": ALICE, "template": "../x"}), "`template` must be"),
    ] {
        let answer = ask(&server, &body).await;
        let detail = answer.expect_problem(422, "invalid_request")["detail"].to_string();
        assert!(detail.contains(words), "{body}: {detail}");
        answer.expect_nothing_of(&["300123", "Mars", "localhost", "203.0.113"]);
    }
    for (body, code) in [
        (json!({"to": "hello"}), "invalid_recipient"),
        (json!({"to": ANA, "channel": "sms"}), "invalid_recipient"),
        (json!({"to": ALICE, "channel": "email"}), "invalid_recipient"),
        (json!({"to": "+576012345678"}), "landline"),
        (json!({"to": "+12015550123"}), "country_not_allowed"),
    ] {
        let answer = ask(&server, &body).await;
        let detail = answer.expect_problem(422, code)["detail"].to_string();
        assert!(!detail.contains("token"), "{detail}");
        answer.expect_nothing_of(&["shop.example", "300123", "6012345", "2015550"]);
    }
    let off = TestServer::with(|api| api.rules.email_enabled = false);
    ask(&off, &json!({ "to": ANA })).await.expect_problem(422, "channel_disabled");
    expect_idle(&off, "a disabled channel");
    expect_idle(&server, "a refused field");
}

#[tokio::test]
async fn half_a_character_in_a_field_is_read_like_that_of_a_message() {
    let server = TestServer::start();
    let send = async |body: &str| server.ask(post(SEND, &shop(), body.to_owned())).await;
    send(r#"{"to":"+57300123\ud83d"}"#).await.expect_problem(422, "invalid_request");
    send(r#"{"to":"+573001234567","to":"+573109876543"}"#).await.expect_problem(400, "malformed_json");
    expect_idle(&server, "a refused body");
    send(r#"{"to":"+573001234567","user_name":"Ana \ud83d"}"#).await.expect(202);
    assert_eq!(decoded(&server.queued().await[0]).user_name, None, "it does not matter");
    send(r#"{"to":"+573109876543","locale":"\udc00","timezone":"\ud83d"}"#).await.expect(202);
    let bodies = server.queued().await;
    let queued = decoded(bodies.last().expect("a request"));
    assert!(queued.locale.is_none() && queued.timezone.is_none(), "they do not matter");
}

#[tokio::test]
async fn only_a_named_service_with_the_scope_may_send() {
    let server = TestServer::start();
    let body = json!({ "to": ALICE });
    for (changes, expected, code) in [
        (json!({"scope": null}), 403, "insufficient_scope"),
        (json!({"scope": "otp:verify otp:admin"}), 403, "insufficient_scope"),
        (json!({"scope": "otp:sender xotp:send OTP:SEND"}), 403, "insufficient_scope"),
        (json!({"sub": null}), 401, "invalid_token"),
        (json!({"sub": ""}), 401, "invalid_token"),
        (json!({"sub": null, "client_id": ""}), 401, "invalid_token"),
        (json!({"sub": "s".repeat(256), "client_id": "c".repeat(256)}), 401, "invalid_token"),
        (json!({"aud": "another-service"}), 401, "invalid_token"),
        (json!({"aud": null}), 401, "invalid_token"),
        (json!({"iss": "https://other.example"}), 401, "invalid_token"),
        (json!({"exp": 1}), 401, "invalid_token"),
    ] {
        let token = sender(&changes);
        server.post(SEND, &token, &body).await.expect_problem(expected, code);
        status(&server, &token, "r1").await.expect_problem(expected, code);
    }
    for token in [alice(), service()] {
        server.post(SEND, &token, &body).await.expect_problem(403, "insufficient_scope");
    }
    expect_idle(&server, "a refused token");
    for changes in
        [json!({}), json!({"sub": null, "client_id": "shop"}), json!({"scope": "profile otp:send"})]
    {
        server.post(SEND, &sender(&changes), &body).await.expect(202);
    }
}

#[tokio::test]
async fn a_service_key_names_one_request_of_one_service_to_one_recipient() {
    let server = TestServer::start();
    let bob = r#"{"to":"+573109876543"}"#;
    let alice = r#"{"to":"+573001234567"}"#;
    let mut ids = BTreeSet::new();
    for (changes, key, body) in [
        (json!({}), "k1", alice),
        (json!({}), "k2", alice),
        (json!({}), "k1", bob),
        (json!({"sub": "other"}), "k1", alice),
        (json!({"sub": null, "client_id": "shop"}), "k1", alice),
        (json!({"sub": "shopk", "client_id": "shop"}), "1", alice),
        (json!({}), "k1", r#"{"to":"ana@shop.example"}"#),
    ] {
        let answer = ask_keyed(&server, &sender(&changes), key, body).await.expect(202);
        let again = ask_keyed(&server, &sender(&changes), key, body).await.expect(202);
        assert_eq!(answer["request_id"], again["request_id"]);
        assert!(ids.insert(id(&answer).to_owned()), "{changes} {key} {body}");
    }
    let named = |word: &str| ids.iter().any(|id| id.contains(word));
    assert!(!named("shop") && !named("k1") && !named("3001234567"), "{ids:?}");
    // The client stays the same when the issuer adds other claims.
    let both = sender(&json!({"client_id": "app", "name": "Shop", "scope": "otp:send otp:verify"}));
    let answer = ask_keyed(&server, &both, "k1", alice).await.expect(202);
    assert!(ids.contains(id(&answer)));
}

#[tokio::test]
async fn the_same_subject_of_another_issuer_is_another_service() {
    let any_issuer =
        Jwt { key: JwtKey::Secret(SECRET.into()), issuer: None, audience: Some(AUDIENCE.to_owned()) };
    let server = TestServer::with(|api| api.tokens = Tokens::new(&any_issuer).expect("a secret"));
    let mut made = Vec::new();
    for (round, issuer) in (0_u32..).zip([json!(ISSUER), json!("https://other.example"), json!(null)]) {
        server.pass(HOUR * round);
        let token = sender(&json!({ "iss": issuer }));
        let answer = ask_keyed(&server, &token, "k1", r#"{"to":"+573001234567"}"#).await.expect(202);
        server.send_code(id(&answer), CODE).await;
        made.push((token, id(&answer).to_owned()));
    }
    for (token, own) in &made {
        for (_, request_id) in &made {
            let expected = if request_id == own { 200 } else { 404 };
            assert_eq!(status(&server, token, request_id).await.status, expected);
        }
    }
}

#[tokio::test]
async fn a_reused_key_with_another_body_is_refused_while_the_first_request_waits_in_the_queue() {
    let server = TestServer::start();
    let full = json!({"to": ALICE, "purpose": "login", "user_id": "u", "user_name": "Ana", "client_ip": "192.0.2.9",
        "locale": "es-CO", "timezone": "UTC", "template": "a"});
    ask_keyed(&server, &shop(), "k", &full.to_string()).await.expect(202);
    for (field, value) in [
        ("purpose", json!("verification")),
        ("purpose", json!(null)),
        ("user_id", json!("v")),
        ("user_id", json!(null)),
        ("user_name", json!("Eva")),
        ("client_ip", json!("192.0.2.10")),
        ("client_ip", json!(null)),
        ("locale", json!("es-MX")),
        ("timezone", json!("Etc/GMT+1")),
        ("template", json!("b")),
        ("template", json!(null)),
    ] {
        let mut body = full.clone();
        body[field] = value;
        let answer = ask_keyed(&server, &shop(), "k", &body.to_string()).await;
        answer.expect_problem(422, "idempotency_key_reused");
        answer.expect_nothing_of(&["300123", "192.0.2"]);
    }
    assert_eq!(server.queued().await.len(), 1);
}

#[tokio::test]
async fn two_spellings_of_one_body_are_one_request() {
    let server = TestServer::start();
    let mut ids = BTreeSet::new();
    for body in [
        r#"{"to":"+573001234567","client_ip":"192.0.2.9","locale":"es-CO"}"#,
        r#" { "locale" : "es-CO", "client_ip" : "192.0.2.9" , "to" : "+573001234567" } "#,
        r#"{"to":"\u002b57 300 123-4567","client_ip":"::ffff:192.0.2.9","locale":"ES_co","user_id":null}"#,
        r#"{"to":"3001234567","channel":"sms","purpose":"verification","client_ip":"192.0.2.9","locale":"es-CO"}"#,
    ] {
        ids.insert(id(&ask_keyed(&server, &shop(), "k", body).await.expect(202)).to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn a_reused_key_with_another_body_is_refused_after_the_request_has_ended() {
    let server = TestServer::start();
    let body = json!({"to": ALICE, "user_name": "Ana"}).to_string();
    let first = ask_keyed(&server, &shop(), "k", &body).await.expect(202);
    server.send_code(id(&first), CODE).await;
    let again = ask_keyed(&server, &shop(), "k", &body).await.expect(202);
    assert_eq!((&again["request_id"], &again["status"]), (&first["request_id"], &json!("sent")));
    assert_eq!(again["replayed"], true, "a repeat is not refused by a cooldown");
    let other = json!({"to": ALICE, "user_name": "Eva"}).to_string();
    ask_keyed(&server, &shop(), "k", &other).await.expect_problem(422, "idempotency_key_reused");
    ask_keyed(&server, &shop(), "k2", &other).await.expect_problem(429, "cooldown");
    ask_keyed(&server, &shop(), "k2", &body).await.expect_problem(429, "cooldown");
    server.pass(HOUR * 24);
    ask_keyed(&server, &shop(), "k", &other).await.expect(202);
}

#[tokio::test]
async fn of_two_bodies_under_one_key_at_once_one_is_published() {
    let server = TestServer::start();
    let bodies: Vec<String> =
        (0..8).map(|n| json!({"to": ALICE, "user_name": format!("Ana {n}")}).to_string()).collect();
    let token = shop();
    let answers =
        futures_util::future::join_all(bodies.iter().map(|body| ask_keyed(&server, &token, "k", body)));
    let answers = answers.await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 422).count(), 7);
    assert_eq!(server.queued().await.len(), 1);
}

#[tokio::test]
async fn a_key_that_breaks_its_rule_is_refused_before_it_is_bound() {
    let server = TestServer::start();
    let body = json!({ "to": ALICE }).to_string();
    for key in [vec![b' '], Vec::new(), vec![b'k'; 256], "Secreto-ñ".as_bytes().to_vec(), b"a\tb".to_vec()] {
        let mut request = post(SEND, &shop(), body.clone());
        let value = HeaderValue::from_bytes(&key).expect("a header value");
        request.headers_mut().insert("idempotency-key", value);
        let answer = server.ask(request).await;
        answer.expect_problem(400, "invalid_request");
        answer.expect_nothing_of(&["Secreto", "kkk"]);
    }
    let mut twice = post(SEND, &shop(), body);
    for key in ["k1", "k1"] {
        twice.headers_mut().append("idempotency-key", HeaderValue::from_static(key));
    }
    server.ask(twice).await.expect_problem(400, "invalid_request");
    expect_idle(&server, "a refused key");
}

#[tokio::test]
async fn without_a_key_every_request_of_a_service_is_another_one() {
    let server = TestServer::start();
    let body = json!({ "to": ALICE });
    let (first, second) = (ask(&server, &body).await.expect(202), ask(&server, &body).await.expect(202));
    assert_ne!(first["request_id"], second["request_id"]);
}

#[tokio::test]
async fn the_limits_of_recipient_user_and_address_hold_for_a_service() {
    let limits = Limits::default().with(Limit::All, 0).with(Limit::User, 2).with(Limit::Ip, 1);
    let server = TestServer::with(|api| api.limits = limits);
    let fields = |user: &str, ip: &str| json!({"to": "+573109876543", "user_id": user, "client_ip": ip});
    // Without a worker three times the limit are published, then nothing.
    for _ in 0..3 {
        ask(&server, &fields("u1", "192.0.2.1")).await.expect(202);
    }
    ask(&server, &fields("u2", "192.0.2.1")).await.expect_problem(429, "rate_limited");
    for last in 2..5 {
        ask(&server, &fields("u1", &format!("192.0.2.{last}"))).await.expect(202);
    }
    ask(&server, &fields("u1", "192.0.2.9")).await.expect_problem(429, "rate_limited");
    // Without a user the recipient counts.
    let mut published = 0;
    while ask(&server, &json!({ "to": ALICE })).await.status == 202 {
        published += 1;
    }
    assert_eq!(published, 3 * limits[Limit::Recipient].count);
    assert_eq!(server.queued().await.len(), 6 + published as usize);
    server.send_code("r1", CODE).await;
    ask(&server, &json!({"to": ALICE, "user_id": "u3"})).await.expect_problem(429, "cooldown");
}

#[tokio::test]
async fn a_status_is_shown_to_the_service_that_sent_and_to_no_other_caller() {
    let server = TestServer::start();
    let answer = ask(&server, &json!({ "to": ALICE })).await.expect(202);
    let request_id = id(&answer).to_owned();
    let unknown = status(&server, &shop(), &request_id).await;
    unknown.expect_problem(404, "unknown_request");
    server.send_code(&request_id, CODE).await;
    let found = status(&server, &shop(), &request_id).await.expect(200);
    assert_eq!((&found["status"], &found["channel"]), (&json!("sent"), &json!("sms")));
    for changes in [
        json!({"sub": "other"}),
        json!({"sub": null, "client_id": "shop"}),
        json!({"sub": "shop2"}),
        json!({"sub": "user-1", "phone_number": ALICE}),
    ] {
        let answer = status(&server, &sender(&changes), &request_id).await;
        answer.expect_problem(404, "unknown_request");
        assert_eq!(answer.text, unknown.text, "another service's request is like an unknown one");
    }
    // Nor can a person's status, or a request of the queue, be read.
    let by_person = server.request_code().await;
    assert_eq!(by_person.status, 429);
    server.pass(HOUR);
    let by_person = server.request_code().await.expect(202);
    server.send_code(id(&by_person), CODE).await;
    let prefix = &request_id[..request_id.len() - 33];
    for other in [id(&by_person), "orders%2F7", prefix, &format!("{prefix}-"), &request_id[1..]] {
        status(&server, &shop(), other).await.expect_problem(404, "unknown_request");
    }
    let as_person = Request::get(format!("/api/v1/auth/otp-status/{request_id}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", token(&json!({"sub": "shop"}))))
        .body(Body::empty());
    server.ask(as_person.expect("a request")).await.expect_problem(404, "unknown_request");
    status(&server, &shop(), &"x".repeat(129)).await.expect_problem(422, "invalid_request");
}

#[tokio::test]
async fn a_status_names_the_channel_of_an_e_mail() {
    let server = TestServer::start();
    let answer = ask(&server, &json!({ "to": ANA })).await.expect(202);
    server.send_code_for(id(&answer), CODE, ANA, "verification", "k1").await;
    assert_eq!(status(&server, &shop(), id(&answer)).await.expect(200)["channel"], "email");
}

#[tokio::test(start_paused = true)]
async fn a_store_or_a_queue_that_fails_answers_503_and_leaves_the_key_usable() {
    let server = TestServer::over(Broken(Fails::WithAnError));
    let body = json!({ "to": ALICE }).to_string();
    for key in ["k1", "k2"] {
        let answer = ask_keyed(&server, &shop(), key, &body).await;
        answer.expect_problem(503, "store_unavailable");
        answer.expect_nothing_of(&["hunter2", "10.9.8.7"]);
    }
    status(&server, &shop(), &format!("service-sms-{}-0", "0".repeat(16)))
        .await
        .expect_problem(404, "unknown_request");
    let server = TestServer::start();
    server.broker.fail_next_publishes(1);
    ask_keyed(&server, &shop(), "k1", &body).await.expect_problem(503, "queue_unavailable");
    ask_keyed(&server, &shop(), "k1", &body).await.expect(202);
    assert_eq!(server.queued().await.len(), 1);
}
