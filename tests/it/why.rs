//! The history of a request, the last requests of a recipient, and the kill switch, over HTTP and by the commands of
//! the real binary on the real Redis.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::domain::address::Address;
use otpost::domain::challenge::ChallengeId;
use otpost::domain::channel::Channel;
use otpost::domain::history::{Attempt, HistoryEvent, RequestHistory};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::request_id::RequestId;
use otpost::domain::send_failure::RefusalReason;
use otpost::domain::send_failure::SendFailure;
use otpost::provider::DeliveryReceipt;
use otpost::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, Grant, Lease, LimitSubject, NewReceipt,
    ProposedChallenge, Refund, Store,
};
use serde_json::{Value, json};

use crate::contract::store::{LIMITS, limits};
use crate::harness::{ALICE, BOB, Embedded, Options, RECIPIENT_KEY, number, region, within};
use crate::http::{Answer, TestServer, post, service, token};
use crate::promises::secrets::{captured_log, has_run, start_capturing};
use crate::real::{Redis, redis_url};
use crate::scripted::Script;

const REQUESTS: &str = "/api/v1/sms/requests";
const ALICE_DIGITS: &str = "3001234567";
const MASKED: &str = "+57******4567";

/// The HTTP interface on the store of a running worker.
fn server(gateway: &Embedded) -> TestServer {
    TestServer::with(|api| {
        api.store = gateway.world.store.clone();
        api.recipient_keyring = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        api.clock = gateway.world.clock;
    })
}

fn get(id: &str, token: Option<&str>) -> Request<Body> {
    let request = Request::get(format!("{REQUESTS}/{id}"));
    let request = match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    request.body(Body::empty()).expect("a request")
}

async fn why(gateway: &Embedded, id: &str) -> Value {
    server(gateway).ask(get(id, Some(&service()))).await.expect(200)
}

async fn last(gateway: &Embedded, to: &str) -> Value {
    server(gateway).post(REQUESTS, &service(), &json!({"to": to})).await.expect(200)
}

async fn report(gateway: &Embedded, id: &str, message: u32, status: DeliveryStatus) {
    let report = DeliveryReceipt {
        request_id: RequestId::parse(id).expect("valid"),
        to: number(ALICE).into(),
        message_id: format!("SM{message:032x}"),
        status,
        provider_code: None,
        reason: RefusalReason::Other,
    };
    gateway.tracker.process("scripted", &report).await.expect("it is taken");
}

/// The entries of a timeline: `what` and `answer`.
fn events(response: &Value) -> Vec<(&str, &str)> {
    let word = |line: &'_ Value, name| line[name].as_str().map(str::to_owned).unwrap_or_default();
    let lines = response["timeline"].as_array().expect("a list");
    assert!(lines.iter().all(|line| !word(line, "text").is_empty() && word(line, "at").ends_with('Z')));
    lines.iter().map(|line| (line["what"].as_str().unwrap(), line["answer"].as_str().unwrap_or(""))).collect()
}

/// A request that is throttled, then in doubt, then found, and delivered. Returns the codes that were sent.
async fn eventful(gateway: &mut Embedded, id: &str) -> Vec<String> {
    let throttled = SendFailure::Throttled { provider_code: Some(20429), retry_after: None };
    gateway.world.provider.script_next([Script::Fail(throttled), Script::AcceptAndLoseAnswer]);
    gateway.request(id, ALICE).await.expect_sent();
    report(gateway, id, 2, DeliveryStatus::Sent).await;
    report(gateway, id, 2, DeliveryStatus::Delivered).await;
    gateway.result().await.expect("delivered", None);
    gateway.posted().into_iter().map(|posted| posted.code).collect()
}

#[tokio::test(start_paused = true)]
async fn the_history_of_a_request_is_in_order() {
    let mut gateway = Embedded::start();
    let codes = eventful(&mut gateway, "r1").await;
    let response = why(&gateway, "r1").await;
    assert_eq!(
        events(&response),
        [
            ("admitted", ""),
            ("tried", "throttled"),
            ("tried", "in_doubt"),
            ("looked_up", "found"),
            ("ended", "sent"),
            ("receipt", "delivered"),
        ],
        "{response}"
    );
    let tried = &response["timeline"][1];
    assert_eq!((&tried["attempt"], &tried["provider_code"]), (&json!(1), &json!(20429)));
    assert_eq!(response["timeline"][5]["text"], "the provider reports: delivered; published");
    let mut times: Vec<&str> =
        response["timeline"].as_array().unwrap().iter().map(|l| l["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    times.dedup();
    assert!(times.len() > 1, "the second attempt came later");

    for (name, value) in [
        ("request_id", json!("r1")),
        ("to", json!(MASKED)),
        ("purpose", json!("verification")),
        ("state", json!("ended")),
        ("status", json!("sent")),
        ("text", json!("sent; the provider reports: delivered")),
        ("attempts", json!(2)),
        ("provider_message_id", json!(format!("SM{:032x}", 2))),
    ] {
        assert_eq!(response[name], value, "{response}");
    }
    assert_eq!((&response["code"]["state"], &response["code"]["tries"]), (&json!("open"), &json!(0)));
    gateway.verify(ALICE, codes.last().expect("it was sent")).await;
    assert_eq!(why(&gateway, "r1").await["code"]["state"], "used");
}

#[tokio::test(start_paused = true)]
async fn a_live_request_shows_its_pause() {
    let gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.world.provider.fail_next([SendFailure::Throttled { provider_code: None, retry_after: None }]);
    gateway.publish(&crate::harness::request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.world.store.inner.set_kill_switch(Some("test")).await.expect("answers");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let response = why(&gateway, "r1").await;
    assert_eq!(
        events(&response),
        [("admitted", ""), ("tried", "throttled"), ("held", "kill_switch")],
        "{response}"
    );
    assert_eq!((&response["state"], &response["attempts"]), (&json!("waiting"), &json!(1)), "{response}");
    assert_eq!(response["text"], "it waits to be sent; a worker has it, or crashed with it");
    assert!(response["deadline"].is_string() && response.get("status").is_none(), "{response}");
    let response = last(&gateway, ALICE).await;
    assert_eq!(
        response["requests"][0]["text"], "it waits to be sent; a worker has it, or crashed with it",
        "{response}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_requests_of_a_number_are_newest_first_with_their_outcomes() {
    let mut options = Options::default();
    options.limits[Limit::Recipient].count = 2;
    let mut gateway = Embedded::with(options);
    for id in ["r1", "r2", "r3"] {
        gateway.request(id, ALICE).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    gateway.request("other", BOB).await.expect_sent();
    let response = last(&gateway, "300 123 4567").await;
    assert_eq!(response["to"], MASKED);
    let requests = response["requests"].as_array().expect("a list");
    let row =
        |row: &Value| [&row["request_id"], &row["state"], &row["status"], &row["reason"]].map(Value::clone);
    let rows: Vec<_> = requests.iter().map(row).collect();
    let expected = [
        ["r3", "ended", "rejected", "rate_limited"],
        ["r2", "ended", "sent", ""],
        ["r1", "ended", "sent", ""],
    ];
    let expected =
        expected.map(|row| row.map(|word| if word.is_empty() { Value::Null } else { json!(word) }));
    assert_eq!(rows, expected);

    // The record of a rejection is kept for 15 minutes, its entry in the list for a day.
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(last(&gateway, ALICE).await["requests"][0]["state"], "forgotten");
    assert_eq!(last(&gateway, "+573200000000").await["requests"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn an_id_of_any_visible_characters_is_found_percent_encoded() {
    let mut gateway = Embedded::start();
    let every: String = ('!'..='~').collect();
    for (id, path) in [
        ("orders/7", "orders%2F7"),
        ("orders/7", "orders%2f7"),
        ("50%", "50%25"),
        ("%2F", "%252F"),
        ("a+b?c#d", "a+b%3Fc%23d"),
        ("..", "%2E%2E"),
        (&every, &every.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()),
        (&"x".repeat(128), &"x".repeat(128)),
    ] {
        gateway.request(id, &format!("+57300123{:04}", id.len())).await;
        assert_eq!(why(&gateway, path).await["request_id"], id);
    }
    let server = server(&gateway);
    let ask = async |path: &str| server.ask(get(path, Some(&service()))).await;
    for path in ["%20", "a%00b", "%FF", "%C3%B1", "x%0A", &"x".repeat(129)] {
        let problem = ask(path).await.expect_problem(422, "invalid_request");
        assert_eq!(problem["detail"], "`request_id` must be 1 to 128 visible ASCII characters", "{path}");
    }
    ask("orders/7").await.expect_problem(404, "not_found");
    ask("unknown").await.expect_problem(404, "unknown_request");
    ask("orders").await.expect_problem(404, "unknown_request").as_object().expect("an object");
}

#[tokio::test(start_paused = true)]
async fn only_a_named_operator_gets_an_answer() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    let server = server(&gateway);
    let both = async |token: Option<&str>| -> [Answer; 2] {
        let mut request = post(REQUESTS, token.unwrap_or_default(), json!({"to": ALICE}).to_string());
        if token.is_none() {
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        [server.ask(get("r1", token)).await, server.ask(request).await]
    };
    for answer in both(None).await {
        answer.expect_problem(401, "unauthenticated");
    }
    for claims in [json!({}), json!({"scope": "otp:verify otp:administrator"}), json!({"scope": "OTP:ADMIN"})]
    {
        for answer in both(Some(&token(&claims))).await {
            answer.expect_problem(403, "insufficient_scope");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"insufficient_scope\""));
            answer.expect_nothing_of(&[MASKED, "r1", "admitted"]);
        }
    }
    for sub in [json!(null), json!(""), json!("x".repeat(256))] {
        for answer in both(Some(&token(&json!({"scope": "otp:admin", "sub": sub})))).await {
            answer.expect_problem(401, "invalid_token");
        }
    }
    for answer in both(Some(&token(&json!({"scope": "profile otp:admin"})))).await {
        answer.expect(200);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_name_no_number_and_a_store_that_is_down_are_problems() {
    let gateway = Embedded::start();
    let server = server(&gateway);
    for body in [json!({}), json!({"to": "12"}), json!({"to": 573_001_234_567_u64}), json!({"to": null})] {
        server.post(REQUESTS, &service(), &body).await.expect_problem(422, "invalid_request");
    }
    let answer = server.ask(Request::get(REQUESTS).body(Body::empty()).expect("a request")).await;
    answer.expect_problem(405, "method_not_allowed");
    gateway.world.store.gone.store(true, Ordering::SeqCst);
    server.ask(get("r1", Some(&service()))).await.expect_problem(503, "store_unavailable");
    server.post(REQUESTS, &service(), &json!({"to": ALICE})).await.expect_problem(503, "store_unavailable");
}

#[tokio::test(start_paused = true)]
async fn every_query_of_an_operator_is_in_the_audit_log() {
    start_capturing();
    let gateway = Embedded::start();
    let server = server(&gateway);
    let sub = format!("ops\n{{\"audit\":false}}\u{1b}[2J\u{202e}ñ{}", "x".repeat(200));
    let admin = token(&json!({"sub": sub, "scope": "otp:admin"}));
    let before = admin_requests();
    server.ask(get("r%2F1", Some(&admin))).await.expect_problem(404, "unknown_request");
    server.post(REQUESTS, &admin, &json!({"to": ALICE})).await.expect(200);
    server.ask(get("r1", Some(&token(&json!({}))))).await.expect_problem(403, "insufficient_scope");
    let log = captured_log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let audit: Vec<&Value> = lines.iter().filter(|line| line["fields"]["audit"] == true).collect();
    assert_eq!(audit.len(), 2, "{log}");
    let shown = format!("ops?{{\"audit\":false}}?[2J??{}", "x".repeat(200));
    for line in &audit {
        assert_eq!((&line["level"], &line["target"]), (&json!("INFO"), &json!("otpost::audit")), "{line}");
        assert_eq!(
            (&line["fields"]["sub"], &line["fields"]["message"]),
            (&json!(shown), &json!("operator query"))
        );
    }
    let about = |line: &Value| ["action", "request_id", "to"].map(|name| line["fields"][name].clone());
    assert_eq!(about(audit[0]), [json!("request"), json!("r/1"), Value::Null]);
    assert_eq!(about(audit[1]), [json!("requests"), Value::Null, json!(MASKED)]);
    assert!(!has_run(&log, ALICE_DIGITS), "{log}");
    assert!(admin_requests() >= before + 2);
}

/// The queries of operators that this process has counted.
fn admin_requests() -> u64 {
    let metrics = otpost::telemetry::metrics::render();
    let counts = metrics.lines().filter(|line| line.starts_with("otpost_operator_requests_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().expect("a count")).sum()
}

#[tokio::test(start_paused = true)]
async fn a_timeline_has_no_code_no_full_number_and_no_address() {
    let mut gateway = Embedded::with(Options { caller_codes_allowed: true, ..Options::default() });
    let mut codes = eventful(&mut gateway, "r1").await;
    let full = json!({"code": "98761234", "user_id": "user-7", "user_name": "Ana", "client_ip": "10.1.2.3"});
    gateway
        .world
        .provider
        .fail_next([SendFailure::NotConnected { detail: "refused by 10.9.8.7".to_owned() }]);
    gateway.publish(&crate::harness::with("own", ALICE, full));
    gateway.result().await.expect_sent();
    gateway.verify(ALICE, "11112222").await;
    codes.push("98761234".to_owned());
    let mut response = vec![last(&gateway, ALICE).await.to_string()];
    for id in ["r1", "own"] {
        let answer = why(&gateway, id).await;
        assert!(!events(&answer).is_empty());
        response.push(answer.to_string());
    }
    let secrets = [ALICE_DIGITS, "11112222", "user-7", "Ana", "10.1.2.3", "10.9.8.7"];
    for secret in codes.iter().map(String::as_str).chain(secrets) {
        for text in &response {
            assert!(!has_run(text, secret), "{secret} is in: {text}");
        }
    }
}

/// The binary, in production, on one prefix of the real Redis.
pub fn otpost(redis: &Redis, arguments: &[&str]) -> Output {
    otpost_at(&redis_url(), &redis.prefix, arguments)
}

pub fn otpost_at(url: &str, prefix: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_otpost"))
        .args(arguments)
        .env_clear()
        .env("REDIS_URL", url)
        .env("REDIS_PREFIX", prefix)
        .env("OTP_RECIPIENT_KEY", BASE64.encode(RECIPIENT_KEY))
        .output()
        .expect("the binary starts")
}

#[track_caller]
pub fn said(output: &Output, exit: i32) -> (String, String) {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).expect("text"));
    assert_eq!(output.status.code(), Some(exit), "{out}{err}");
    (out, err)
}

#[track_caller]
pub fn rows(output: &Output, exit: i32) -> Vec<Value> {
    let (out, err) = said(output, exit);
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out:?} is no list; {err}"))
}

/// Writes a request into the store as a worker does: admitted, attempted, completed.
pub async fn seed(store: &dyn Store, to: &str, id: &str, end: Status, error: Option<OutcomeError>) {
    let recipient = recipient(to);
    let request = RequestId::parse(id).expect("an id");
    let limits = Limits { cooldown: Duration::ZERO, ..limits() };
    let shown = Address::parse(to, region()).expect("a recipient").to_string();
    let user = Some(RecipientKeyring::new(&RECIPIENT_KEY).user("ana"));
    let mut history = RequestHistory { to: shown, user, ..RequestHistory::default() };
    let subject = LimitSubject { recipient, purpose: "login", user: None, ip: None, network: None };
    let lease = Lease { subject, request_id: &request, token: 1 };
    let digest = Digest16::from_bytes([7; 16]);
    let admit = AdmissionInput {
        lease,
        requested_at: None,
        not_after: None,
        code_life: Duration::from_secs(600),
        lease_duration: Duration::from_secs(20),
        proposal: ProposedChallenge {
            id: ChallengeId::from_digest(digest),
            kid: "k1",
            digest,
            callers_code: false,
        },
        code_key_ids: ",k1,",
        limits: &limits,
        reject_if_new: None,
        gate_closed: false,
        crash_suspect_leases_min: u32::MAX,
        country: None,
        history: &history.clone(),
        spend: None,
    };
    let Ok(Admission::Granted(Grant { challenge, now, expires_at, .. })) = store.admit(&admit).await else {
        panic!("the send must be granted");
    };
    history.challenge = Some(challenge.as_str().to_owned());
    history.add(now, HistoryEvent::Admitted(1));
    let throttled = SendFailure::Throttled { provider_code: Some(20429), retry_after: None };
    history.add(now, HistoryEvent::Attempted(Attempt::failed(1, None, &throttled, 12)));
    let refused = Outcome::with_error(end, now, "login", OutcomeError::of(ErrorCode::Internal));
    let sent = error.is_none();
    let outcome = Outcome {
        error,
        attempts: if sent { 2 } else { 1 },
        provider: Some("twilio".to_owned()),
        provider_message_id: sent.then(|| format!("SM{:032x}", 7)),
        expires_at: Some(expires_at),
        history,
        ..refused
    };
    let refund = if sent { Refund::None } else { Refund::Full };
    let completion = CompletionInput {
        lease,
        outcome: &outcome,
        refund,
        limits: &LIMITS,
        found_by_lookup: false,
        message_is_unnamed: false,
        suppression: None,
        poll_receipt_after: None,
        spent: None,
    };
    assert_eq!(store.complete(&completion).await.expect("answers"), CompletionAnswer::Recorded);
}

fn recipient(to: &str) -> Digest16 {
    let channel = if to.contains('@') { Channel::Email } else { Channel::Sms };
    RecipientKeyring::new(&RECIPIENT_KEY).address(channel, to)
}

async fn deliver(store: &dyn Store, to: &str, id: &str) {
    for published in [false, true] {
        let track = NewReceipt {
            recipient: recipient(to),
            request_id: &RequestId::parse(id).expect("an id"),
            message_id: &format!("SM{:032x}", 7),
            status: DeliveryStatus::Delivered,
            provider_code: None,
            published,
            suppression: None,
        };
        store.record_receipt(&track).await.expect("answers");
    }
}

#[tokio::test]
async fn the_command_explains_a_request_by_its_id_with_or_without_its_number() {
    let redis = Redis::fresh();
    let store = redis.store();
    seed(&store, ALICE, "orders/7", Status::Sent, None).await;
    deliver(&store, ALICE, "orders/7").await;
    let (out, _) = said(&otpost(&redis, &["why", "orders/7"]), 0);
    let lines: Vec<&str> = out.lines().collect();
    let head = format!(
        "orders/7  to {MASKED}, login: sent; the provider reports: delivered; message SM{:032x}, attempts 2",
        7
    );
    assert_eq!(lines[0], head);
    let expected = [
        "admitted as the 1st send to this recipient within a day",
        "attempt 1: the provider asked to wait (20429: too many requests), after 12 ms",
        "ended as sent",
        "the provider reports: delivered; published",
    ];
    for (line, text) in lines[1..5].iter().zip(expected) {
        let (time, words) = line.trim().split_once("  ").expect("a time and words");
        assert!(
            otpost::domain::time::UnixMillis::parse_rfc3339(time).is_some() && time.ends_with('Z'),
            "{line}"
        );
        assert_eq!(words, text);
    }
    assert!(lines[5].starts_with("  the code is unused and valid until "), "{out}");
    let others = "  if other recipients share this id, --to RECIPIENT shows theirs";
    assert_eq!(lines[6..], [others], "{out}");
    seed(&store, BOB, "orders/7", Status::Sent, None).await;
    assert_eq!(said(&otpost(&redis, &["why", "orders/7"]), 0).0, out, "its first recipient still");
    let (of_bob, _) = said(&otpost(&redis, &["why", "orders/7", "--to", BOB]), 0);
    assert!(!of_bob.contains(MASKED) && !of_bob.contains(others), "{of_bob}");

    let printed = rows(&otpost(&redis, &["--json", "why", "orders/7", "--to", ALICE]), 0);
    assert_eq!(printed.len(), 1);
    assert_eq!(
        events(&printed[0]),
        [("admitted", ""), ("tried", "throttled"), ("ended", "sent"), ("receipt", "delivered")]
    );
    assert_eq!(printed[0]["code"]["state"], "open");

    let (out, err) = said(&otpost(&redis, &["why", "unknown", "--to", BOB]), 3);
    assert!(
        out.is_empty() && err.starts_with("otpost: no record of this request to this recipient"),
        "{err}"
    );
    let (_, err) = said(&otpost(&redis, &["why", "unknown"]), 3);
    assert!(err.starts_with("otpost: no record of this request is kept"), "{err}");
    assert!(rows(&otpost(&redis, &["why", "unknown", "--json"]), 3).is_empty());
}

#[tokio::test]
async fn the_command_lists_the_requests_of_a_user() {
    let redis = Redis::fresh();
    let store = redis.store();
    seed(&store, ALICE, "r1", Status::Sent, None).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    seed(&store, BOB, "r2", Status::Sent, None).await;
    let (out, _) = said(&otpost(&redis, &["why", "--user", "ana"]), 0);
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(lines[1], ["r1", "sent", MASKED], "{out}");
    assert_eq!((lines.len(), lines[0][0]), (2, "r2"), "the newest first: {out}");
    let printed = rows(&otpost(&redis, &["why", "--user", "ana", "--json"]), 0);
    assert_eq!((printed.len(), &printed[1]["to"]), (2, &json!(MASKED)));
    let (out, err) = said(&otpost(&redis, &["why", "--user", "berta"]), 3);
    assert!(out.is_empty() && err.starts_with("otpost: no request of this user is recorded"), "{err}");
    assert!(rows(&otpost(&redis, &["why", "--user", "berta", "--json"]), 3).is_empty());
    said(&otpost(&redis, &["why", "r1", "--user", "ana"]), 2);
}

#[tokio::test]
async fn the_command_lists_the_last_requests_of_a_number() {
    let redis = Redis::fresh();
    let store = redis.store();
    seed(&store, ALICE, "r1", Status::Sent, None).await;
    deliver(&store, ALICE, "r1").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let refused =
        OutcomeError { provider_code: Some(21211), ..OutcomeError::of(ErrorCode::ProviderRejected) };
    seed(&store, ALICE, "r2", Status::Failed, Some(refused)).await;
    let (out, _) = said(&otpost(&redis, &["why", "--to", "300 123 4567"]), 0);
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(lines, [vec!["r2", "failed", "provider_rejected"], vec!["r1", "sent", "delivered"]], "{out}");
    let printed = rows(&otpost(&redis, &["why", "--to", ALICE, "--json"]), 0);
    assert_eq!(
        (printed.len(), &printed[0]["reason"], &printed[1]["receipt"]),
        (2, &json!("provider_rejected"), &json!("delivered"))
    );

    let (out, err) = said(&otpost(&redis, &["why", "--to", BOB]), 3);
    assert!(out.is_empty() && err.starts_with("otpost: no request to this recipient"), "{err}");
    assert!(rows(&otpost(&redis, &["why", "--to", BOB, "--json"]), 3).is_empty());
    for wrong in
        [&["why"] as &[&str], &["why", "--to", "12"], &["why", "two words"], &["why", &"x".repeat(129)]]
    {
        said(&otpost(&redis, wrong), 2);
    }
}

#[tokio::test]
async fn the_commands_show_no_code_and_no_full_number() {
    let redis = Redis::fresh();
    seed(&redis.store(), ALICE, "r1", Status::Sent, None).await;
    for arguments in [
        &["why", "r1"] as &[&str],
        &["why", "r1", "--json"],
        &["why", "r1", "--to", ALICE, "--json"],
        &["why", "--to", ALICE],
        &["why", "--to", ALICE, "--json"],
    ] {
        let (out, err) = said(&otpost(&redis, arguments), 0);
        assert!(!has_run(&format!("{out}{err}"), ALICE_DIGITS), "{arguments:?}: {out}{err}");
        assert!(
            !out.contains(&BASE64.encode(RECIPIENT_KEY)) && !out.contains(recipient(ALICE).as_str()),
            "{out}"
        );
    }
    let (out, err) = said(&otpost(&redis, &["why", "--to", "+5730012345678"]), 2);
    assert!(!format!("{out}{err}").contains("300123"), "{err}");
}

#[tokio::test]
async fn the_kill_switch_command_shows_the_state_before_and_after() {
    let redis = Redis::fresh();
    let store = redis.store();
    let kill_switch = |arguments: &[&str]| otpost(&redis, &[&["kill-switch"], arguments].concat());
    assert_eq!(said(&kill_switch(&["status"]), 0).0, "kill switch  off: messages are sent\n");
    let (out, _) = said(&kill_switch(&["on", "--reason", "número en ataque"]), 0);
    assert_eq!(
        out,
        "kill switch  on since just now: nothing is sent; reason: número en ataque\n\
         before       off: messages are sent\n"
    );
    assert!(store.heartbeat(1, false).await.expect("answers").kill_switch_on, "the workers see it");
    let since = store.kill_switch().await.expect("answers").expect("it is on").since.to_string();
    let on = json!({"on": true, "since": since, "reason": "número en ataque"});
    assert_eq!(rows(&kill_switch(&["status", "--json"]), 3), std::slice::from_ref(&on));
    let (out, _) = said(&kill_switch(&["status"]), 3);
    assert_eq!(out, format!("kill switch  on since {since}: nothing is sent; reason: número en ataque\n"));

    // A repetition keeps the time, and the reason unless another one is given.
    let again = rows(&kill_switch(&["on", "--json"]), 0);
    assert_eq!(again, [json!({"on": true, "since": since, "reason": "número en ataque", "before": on})]);
    let again = rows(&kill_switch(&["on", "--json", "--reason", "other"]), 0);
    assert_eq!((&again[0]["reason"], &again[0]["since"]), (&json!("other"), &json!(since)));

    let off = rows(&kill_switch(&["off", "--json"]), 0);
    assert_eq!(off, [json!({"on": false, "before": {"on": true, "since": since, "reason": "other"}})]);
    assert_eq!(rows(&kill_switch(&["off", "--json"]), 0), [json!({"on": false, "before": {"on": false}})]);
    assert_eq!(rows(&kill_switch(&["status", "--json"]), 0), [json!({"on": false})]);
    assert_eq!(rows(&kill_switch(&["on", "--json"]), 0)[0]["reason"], "(none given)");
    said(&kill_switch(&["off"]), 0);

    for wrong in [
        &[] as &[&str],
        &["maybe"],
        &["on", "--reason", "two\nlines"],
        &["on", "--reason", ""],
        &["on", "--reason", &"x".repeat(201)],
    ] {
        said(&kill_switch(wrong), 2);
    }
    assert_eq!(store.kill_switch().await.expect("answers"), None, "wrong usage changes nothing");
}

#[tokio::test]
async fn without_the_store_the_commands_fail_with_an_error() {
    for arguments in [
        &["kill-switch", "on"] as &[&str],
        &["kill-switch", "status"],
        &["why", "r1"],
        &["why", "--to", ALICE],
    ] {
        let output = within(async { otpost_at("redis://127.0.0.1:1", "unknown", arguments) }).await;
        let (out, err) = said(&output, 1);
        assert!(
            out.is_empty() && err.starts_with("otpost: Redis (REDIS_URL): connection refused"),
            "{arguments:?}: {err}"
        );
    }
}
