//! Opt-in and opt-out: signed calls of Twilio about people's messages, to the embedded gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use jiff::Timestamp;
use otpost::clock::Clock;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::flow::opt_statuses::OptStatuses;
use otpost::http::Webhooks;
use otpost::provider::twilio::Authentication;
use otpost::provider::twilio::inbound::{InboundSettings, TwilioInbound};
use otpost::store::Store as _;

use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, Answer as Scripted, FakeTwilio, signature};
use crate::harness::{ALICE, BOB, Embedded, RECIPIENT_KEY};
use crate::http::{Answer, TestServer};

const URL: &str = "https://otp.example.co/webhooks/twilio/inbound";
const OURS: &str = "+15005550006";
const EMPTY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response/>\n";

struct Stage {
    gateway: Embedded,
    twilio: FakeTwilio,
    server: TestServer,
}

pub fn messages(url: &str, base_url: &str, tokens: &[&str]) -> TwilioInbound {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tokens: Vec<_> = tokens.iter().map(|&token| token.into()).collect();
    let inbound = TwilioInbound::new(&InboundSettings {
        public_url: url,
        account_sid: ACCOUNT_SID,
        tokens: &tokens,
        authentication: &Authentication { user: ACCOUNT_SID.to_owned(), password: AUTH_TOKEN.into() },
        base_url,
        timeout: Duration::from_secs(4),
    });
    inbound.expect("valid settings")
}

impl Stage {
    fn set() -> Stage {
        Stage::with_url(URL)
    }

    fn with_url(url: &str) -> Stage {
        let (gateway, twilio) = (Embedded::start(), FakeTwilio::start());
        let opt_statuses = OptStatuses {
            store: gateway.world.store.clone(),
            recipient_keyring: Arc::new(RecipientKeyring::new(&RECIPIENT_KEY)),
            messages: Arc::new(messages(url, &twilio.base_url(), &[AUTH_TOKEN])),
        };
        let server = TestServer::with_webhooks(Webhooks {
            callbacks: Vec::new(),
            receipts: gateway.tracker.clone(),
            opt_statuses: Some(Arc::new(opt_statuses)),
        });
        Stage { gateway, twilio, server }
    }

    /// A message that a person sent so many seconds ago, as Twilio's account shows it.
    fn message(&self, from: &str, text: &str, seconds_ago: i64) -> String {
        let at = i64::try_from(Clock::System.now().as_seconds()).expect("seconds") - seconds_ago;
        let at = Timestamp::from_second(at).expect("a time").strftime("%a, %d %b %Y %T +0000").to_string();
        self.twilio.add(OURS, from, text, |message| {
            message["direction"] = "inbound".into();
            message["status"] = "received".into();
            message["date_created"] = at.into();
        })
    }

    /// Twilio's call about a message.
    async fn call(&self, sid: &str, from: &str, text: &str, more: &[(&str, &str)]) -> Answer {
        self.server.ask(call(AUTH_TOKEN, &fields(sid, from, text, more))).await
    }

    /// The person sends a message, and Twilio passes it on at once.
    async fn tell(&self, from: &str, text: &str, seconds_ago: i64) {
        let sid = self.message(from, text, seconds_ago);
        expect_empty(&self.call(&sid, from, text, &[]).await);
    }
}

fn fields<'a>(
    sid: &'a str,
    from: &'a str,
    text: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let base = [
        ("AccountSid", ACCOUNT_SID),
        ("ApiVersion", "2010-04-01"),
        ("Body", text),
        ("From", from),
        ("FromCountry", "CO"),
        ("MessageSid", sid),
        ("NumMedia", "0"),
        ("NumSegments", "1"),
        ("SmsMessageSid", sid),
        ("SmsSid", sid),
        ("SmsStatus", "received"),
        ("To", OURS),
    ];
    let kept = base.into_iter().filter(|(name, _)| more.iter().all(|(changed, _)| changed != name));
    kept.chain(more.iter().copied()).filter(|(_, value)| *value != "absent").collect()
}

fn call(token: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    Request::post("/webhooks/twilio/inbound")
        .header("content-type", "application/x-www-form-urlencoded; charset=UTF-8")
        .header("x-twilio-signature", signature(token, URL, fields))
        .body(Body::from(body))
        .expect("a request")
}

/// Nothing is replied to the person.
#[track_caller]
fn expect_empty(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (200, EMPTY));
    assert_eq!(answer.header("content-type"), Some("text/xml"));
}

#[tokio::test]
async fn after_stop_nothing_is_sent_and_after_start_the_next_request_is() {
    let mut stage = Stage::set();
    stage.tell(ALICE, "STOP", 60).await;
    let rejected = stage.gateway.request("r1", ALICE).await;
    rejected.expect("rejected", Some("suppressed"));
    assert_eq!(rejected.body["error"]["provider_code"], 21_610);
    stage.gateway.request("r2", BOB).await.expect_sent();
    stage.tell(ALICE, "START", 30).await;
    stage.gateway.request("r3", ALICE).await.expect_sent();
    stage.tell(ALICE, "Stop", 10).await;
    stage.gateway.request("r4", ALICE).await.expect("rejected", Some("suppressed"));
}

#[tokio::test]
async fn calls_out_of_order_end_in_the_last_decision() {
    for (first, second, suppressed) in [("START", "STOP", true), ("STOP", "START", false)] {
        let mut stage = Stage::set();
        let earlier = stage.message(ALICE, first, 60);
        stage.tell(ALICE, second, 30).await;
        expect_empty(&stage.call(&earlier, ALICE, first, &[]).await);
        let result = stage.gateway.request("r1", ALICE).await;
        match suppressed {
            true => result.expect("rejected", Some("suppressed")),
            false => result.expect_sent(),
        };
    }
}

#[tokio::test]
async fn every_keyword_of_twilio_counts_alone_and_in_any_case() {
    let stage = Stage::set();
    let is_suppressed =
        async || !stage.gateway.world.store.inner.suppressions(9).await.expect("answers").is_empty();
    let stop = ["STOP", "StopAll", "unsubscribe", " CANCEL ", "end\n", "QUIT", "OptOut", "REVOKE"];
    let start = ["START", " yes", "Unstop"];
    let mut seconds_ago = 3_600;
    let mut tell = async |text: &str| {
        seconds_ago -= 10;
        stage.tell(ALICE, text, seconds_ago).await;
    };
    for word in stop {
        tell(word).await;
        assert!(is_suppressed().await, "{word:?}");
        for other in ["HELP", "stop please", "", "ok", "GO", "START now", "S T A R T", "STÅRT"] {
            tell(other).await;
            assert!(is_suppressed().await, "{other:?}");
        }
        tell(start[word.len() % 3]).await;
        assert!(!is_suppressed().await, "after {word:?}");
    }
    for word in start {
        tell("STOP").await;
        tell(word).await;
        assert!(!is_suppressed().await, "{word:?}");
        tell("please STOP").await;
        assert!(!is_suppressed().await);
    }
}

/// With Advanced Opt-Out the service has keywords of its own, in any language, and Twilio names their kind.
#[tokio::test]
async fn the_kind_that_twilio_names_counts_for_more_than_the_text() {
    let mut stage = Stage::set();
    let mut seconds_ago = 3_600;
    let mut tell = async |text: &str, kind: &str| {
        seconds_ago -= 10;
        let sid = stage.message(ALICE, text, seconds_ago);
        expect_empty(&stage.call(&sid, ALICE, text, &[("OptOutType", kind)]).await);
        stage.gateway.world.store.inner.suppressions(9).await.expect("answers").len()
    };
    assert_eq!(tell("BAJA", "STOP").await, 1);
    assert_eq!(tell("START", "HELP").await, 1);
    assert_eq!(tell("AYUDA", "HELP").await, 1);
    assert_eq!(tell("START", "SOMETHING").await, 1);
    assert_eq!(tell("ALTA", "START").await, 0);
    assert_eq!(tell("STOP", "HELP").await, 0);
    stage.gateway.request("r1", ALICE).await.expect_sent();
}

#[tokio::test]
async fn a_forged_call_is_refused_and_changes_nothing() {
    let stage = Stage::set();
    let sid = stage.message(ALICE, "STOP", 60);
    let good = fields(&sid, ALICE, "STOP", &[]);
    let mut unsigned = call(AUTH_TOKEN, &good);
    unsigned.headers_mut().remove("x-twilio-signature");
    let mut twice = call(AUTH_TOKEN, &good);
    twice.headers_mut().append("x-twilio-signature", "x".parse().expect("a value"));
    let mut json = call(AUTH_TOKEN, &good);
    json.headers_mut().insert("content-type", "application/json".parse().expect("a value"));
    let mut queried = call(AUTH_TOKEN, &good);
    *queried.uri_mut() = "/webhooks/twilio/inbound?x=1".parse().expect("a path");
    let signature = signature(AUTH_TOKEN, &format!("{URL}?x=1"), &good);
    queried.headers_mut().insert("x-twilio-signature", signature.parse().expect("a value"));
    for bad in [unsigned, twice, json, queried, call("another-token", &good)] {
        let answer = stage.server.ask(bad).await;
        answer.expect_problem(403, "signature_refused");
        answer.expect_nothing_of(&["57300", "STOP", &sid]);
    }
    assert!(stage.twilio.requests().is_empty(), "nothing was asked for a forged call");
    assert!(stage.gateway.world.store.inner.suppressions(9).await.expect("answers").is_empty());
}

/// The query is a part of the address that Twilio was given.
#[tokio::test]
async fn a_configured_query_must_be_there() {
    let url = format!("{URL}?key=a%20b");
    let stage = Stage::with_url(&url);
    let sid = stage.message(ALICE, "STOP", 60);
    let good = fields(&sid, ALICE, "STOP", &[]);
    for (query, status) in [("?key=a%20b", 200), ("?key=a+b", 403), ("", 403)] {
        let mut call = call(AUTH_TOKEN, &good);
        *call.uri_mut() = format!("/webhooks/twilio/inbound{query}").parse().expect("a path");
        let signature = signature(AUTH_TOKEN, &format!("{URL}{query}"), &good);
        call.headers_mut().insert("x-twilio-signature", signature.parse().expect("a value"));
        assert_eq!(stage.server.ask(call).await.status, status, "{query}");
    }
}

/// Bytes that move between the fields of a signed call leave the signature valid; the account shows the message as it is.
#[tokio::test]
async fn a_call_that_differs_from_the_account_changes_nothing() {
    let stage = Stage::set();
    let sid = stage.message(ALICE, "hello", 60);
    let outbound = stage.twilio.add(ALICE, OURS, "STOP", |_| {});
    for (sid, from, text) in [
        (sid.as_str(), ALICE, "STOP"),
        (&sid, BOB, "hello STOP"),
        ("SM99999999999999999999999999999999", ALICE, "STOP"),
        (&outbound, OURS, "STOP"),
        (&outbound, ALICE, "STOP"),
    ] {
        expect_empty(&stage.call(sid, from, text, &[]).await);
    }
    // Another account's message, a sender that is no number.
    let stopped = stage.message(ALICE, "STOP", 60);
    let other = [("AccountSid", "AC99999999999999999999999999999999")];
    expect_empty(&stage.call(&stopped, ALICE, "STOP", &other).await);
    expect_empty(&stage.call(&stopped, "whatsapp:+573001234567", "STOP", &[]).await);
    assert!(stage.gateway.world.store.inner.suppressions(9).await.expect("answers").is_empty());
    // A redacted text is shown empty.
    stage.twilio.redact(&stopped);
    expect_empty(&stage.call(&stopped, ALICE, "STOP", &[]).await);
    assert_eq!(stage.gateway.world.store.inner.suppressions(9).await.expect("answers").len(), 1);
}

#[tokio::test]
async fn a_signed_call_without_a_field_is_unreadable() {
    let stage = Stage::set();
    let sid = stage.message(ALICE, "STOP", 60);
    for (name, changes) in [
        ("AccountSid", vec![("AccountSid", "absent")]),
        ("From", vec![("From", "absent")]),
        ("MessageSid", vec![("MessageSid", "absent"), ("SmsSid", "absent")]),
        ("MessageSid", vec![("MessageSid", "SM1/../../x")]),
    ] {
        let problem = stage.call(&sid, ALICE, "STOP", &changes).await.expect_problem(400, "invalid_request");
        assert_eq!(problem["detail"], format!("`{name}` is missing or cannot be read"));
    }
    let repeated = [fields(&sid, ALICE, "STOP", &[]), vec![("From", BOB)]].concat();
    stage.server.ask(call(AUTH_TOKEN, &repeated)).await.expect_problem(400, "invalid_request");
    assert!(stage.twilio.requests().is_empty());
}

/// Twilio may call again, by its fallback URL.
#[tokio::test]
async fn without_the_time_of_a_message_or_the_store_nothing_is_recorded() {
    let stage = Stage::set();
    let sid = stage.message(ALICE, "STOP", 60);
    for answer in [Scripted::error(500, 20500), Scripted::error(401, 20003), Scripted::Throttle(None)] {
        stage.twilio.for_lookups(answer);
        let answer = stage.call(&sid, ALICE, "STOP", &[]).await;
        answer.expect_problem(503, "not_recorded");
        answer.expect_nothing_of(&["57300", "STOP"]);
    }
    stage.twilio.for_lookups(Scripted::Normal);
    stage.gateway.world.store.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    stage.call(&sid, ALICE, "STOP", &[]).await.expect_problem(503, "not_recorded");
    stage.gateway.world.store.gone.store(false, std::sync::atomic::Ordering::SeqCst);
    expect_empty(&stage.call(&sid, ALICE, "STOP", &[]).await);
    assert_eq!(stage.gateway.world.store.inner.suppressions(9).await.expect("answers").len(), 1);
}

#[tokio::test]
async fn without_a_url_there_is_no_webhook() {
    let answer = TestServer::start().ask(call(AUTH_TOKEN, &[])).await;
    answer.expect_problem(404, "not_found");
}
