//! The event webhook: signatures, the reading of events, and their effect on the embedded gateway.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use futures_util::stream::pending;
use otpost::clock::Clock;
use otpost::domain::channel::Channel;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::RefusalReason;
use otpost::http::Webhooks;
use otpost::provider::sendgrid::events::SendGridEvents;
use otpost::provider::{Callback, CallbackError, Callbacks as _, DeliveryReceipt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ANA;
use crate::fake_sendgrid::{EventKey, MESSAGE_ID};
use crate::harness::{Embedded, Options};
use crate::http::{Answer, TestServer};

/// The vector of SendGrid's own libraries: its key, its signature, its time and its body.
mod published {
    pub const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    pub const SIGNATURE: &str =
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    pub const AT: u64 = 1_600_112_502;
    pub const BODY: &str = concat!(
        r#"[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","#,
        r#""sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","#,
        r#""sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","#,
        r#""smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]"#,
        "\r\n"
    );
}

/// A clock that starts at this many seconds since 1970.
fn at(seconds: u64) -> Clock {
    Clock::Tokio { from: otpost::domain::time::UnixMillis(seconds * 1_000), started: Instant::now() }
}

fn read(
    key: &str,
    now: u64,
    signature: &str,
    timestamp: &str,
    body: &[u8],
) -> Result<Vec<DeliveryReceipt>, CallbackError> {
    let events = SendGridEvents::new(key, at(now)).expect("a key");
    let (signature, timestamp) = (Some(signature), Some(timestamp));
    events.read(&Callback { query: None, content_type: None, signature, timestamp, body })
}

#[tokio::test(start_paused = true)]
async fn the_vector_of_sendgrids_own_libraries_is_accepted_and_no_changed_byte_of_it() {
    use published::{AT, BODY, KEY, SIGNATURE};
    let timestamp = AT.to_string();
    // The event is not about an e-mail of ours: accepted, and without a receipt.
    assert_eq!(read(KEY, AT, SIGNATURE, &timestamp, BODY.as_bytes()), Ok(vec![]));
    for nth in 0..BODY.len() {
        let mut changed = BODY.as_bytes().to_vec();
        changed[nth] ^= 1;
        assert_eq!(read(KEY, AT, SIGNATURE, &timestamp, &changed), Err(CallbackError::Forged), "byte {nth}");
    }
    let trimmed = BODY.trim_end().as_bytes();
    assert_eq!(
        read(KEY, AT, SIGNATURE, &timestamp, trimmed),
        Err(CallbackError::Forged),
        "the line end is signed"
    );
    for nth in 0..SIGNATURE.len() {
        let mut changed = SIGNATURE.as_bytes().to_vec();
        changed[nth] ^= 1;
        let changed = String::from_utf8(changed).expect("ASCII");
        let refused = read(KEY, AT, &changed, &timestamp, BODY.as_bytes());
        assert_eq!(refused, Err(CallbackError::Forged), "character {nth}");
    }
    let later = (AT + 1).to_string();
    assert_eq!(
        read(KEY, AT, SIGNATURE, &later, BODY.as_bytes()),
        Err(CallbackError::Forged),
        "the time is signed"
    );
    let other = EventKey::fresh().public();
    assert_eq!(read(&other, AT, SIGNATURE, &timestamp, BODY.as_bytes()), Err(CallbackError::Forged));
}

#[tokio::test(start_paused = true)]
async fn a_signature_is_valid_as_long_as_sendgrid_repeats_a_call() {
    let (key, signed) = (EventKey::fresh(), 1_700_000_000_u64);
    let timestamp = signed.to_string();
    let signature = key.sign(&timestamp, b"[]");
    let at = |now| read(&key.public(), now, &signature, &timestamp, b"[]");
    for fresh in [signed, signed + 600, signed + 25 * 3_600, signed - 300] {
        assert_eq!(at(fresh), Ok(vec![]), "{fresh}");
    }
    for stale in [signed + 25 * 3_600 + 1, signed + 100 * 3_600, signed - 301] {
        assert_eq!(at(stale), Err(CallbackError::Forged), "{stale}");
    }
    for no_time in ["", "soon", "-1", "+1700000000", "1.7e9", " 1700000000", "99999999999999999999"] {
        let signature = key.sign(no_time, b"[]");
        assert_eq!(
            read(&key.public(), signed, &signature, no_time, b"[]"),
            Err(CallbackError::Forged),
            "{no_time}"
        );
    }
}

/// Nothing separates the time from the body in the text that is signed.
#[tokio::test(start_paused = true)]
async fn bytes_moved_between_the_time_and_the_body_make_a_call_forged() {
    let (key, now) = (EventKey::fresh(), 1_700_000_000);
    for body in ["[]", "1[]", " []"] {
        let text = format!("1700000000{body}");
        let signature = key.sign(&text, b"");
        for at in (0..=text.len()).filter(|&at| at != 10) {
            let (timestamp, body) = text.split_at(at);
            let read = read(&key.public(), now, &signature, timestamp, body.as_bytes());
            assert_eq!(read, Err(CallbackError::Forged), "{timestamp} {body}");
        }
    }
}

#[test]
fn only_a_public_key_on_p_256_is_a_key() {
    for key in ["", "hunter2", "aHVudGVyMg==", &published::KEY[..60], include_str!("../keys/p256.public.pem")]
    {
        let fault = SendGridEvents::new(key, Clock::System).err().expect("no key");
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
    let spaced = format!(" {}\n", published::KEY);
    assert!(SendGridEvents::new(&spaced, Clock::System).is_ok());
}

fn event(kind: &str, more: &[(&str, Value)]) -> Value {
    let mut event = json!({
        "event": kind, "email": ANA, "timestamp": 1_700_000_000, "sg_event_id": "e1",
        "sg_message_id": format!("{MESSAGE_ID}.recvd-5f54b5d587-pczjm-1-67BADEEA-6.0"),
        "smtp-id": "<x@ismtpd.sendgrid.net>", "otpost_request": "r1", "otpost_attempt": "1",
    });
    for (name, value) in more {
        event[*name] = value.clone();
    }
    event
}

fn response(events: &[Value]) -> Result<Vec<DeliveryReceipt>, CallbackError> {
    let (key, body) = (EventKey::fresh(), serde_json::to_vec(events).expect("JSON"));
    read(&key.public(), 1_700_000_000, &key.sign("1700000000", &body), "1700000000", &body)
}

#[tokio::test(start_paused = true)]
async fn every_event_of_an_email_has_a_status_a_code_and_a_refusal_reason() {
    use DeliveryStatus::{Delivered, Failed, Queued, Sending, Undelivered};
    use RefusalReason::{OptedOut, Other, Unreachable};
    let because = |text: &str| ("reason", json!(text));
    for (kind, more, status, code, reason) in [
        ("processed", vec![], Queued, None, Other),
        ("deferred", vec![("response", json!("451 4.7.1 later"))], Sending, None, Other),
        ("delivered", vec![("response", json!("250 OK"))], Delivered, None, Other),
        (
            "bounce",
            vec![("type", json!("bounce")), because("550 5.1.1 ana@shop.example unknown")],
            Undelivered,
            Some(550),
            Unreachable,
        ),
        ("bounce", vec![("type", json!("blocked")), because("421 busy")], Undelivered, Some(421), Other),
        ("bounce", vec![because("unable to get mx info")], Undelivered, None, Other),
        ("bounce", vec![("type", json!(7)), ("reason", json!(null))], Undelivered, None, Other),
        ("dropped", vec![because("Unsubscribed Address")], Failed, None, OptedOut),
        ("dropped", vec![because("Spam Reporting Address")], Failed, None, OptedOut),
        ("dropped", vec![because("Bounced Address")], Failed, None, Unreachable),
        ("dropped", vec![because("Invalid")], Failed, None, Unreachable),
        ("dropped", vec![because("Spam Content")], Failed, None, Other),
        ("dropped", vec![], Failed, None, Other),
    ] {
        let [report] = response(&[event(kind, &more)]).expect("read").try_into().expect("one report");
        assert_eq!(
            (report.status, report.provider_code, report.reason),
            (status, code, reason),
            "{kind} {more:?}"
        );
        assert_eq!(report.request_id.as_str(), "r1");
        assert_eq!((report.to.as_str(), report.message_id.as_str()), (ANA, MESSAGE_ID));
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_or_unreadable_event_does_not_hide_its_neighbours() {
    let good = event("delivered", &[]);
    let foreign =
        json!({"event": "delivered", "email": ANA, "sg_message_id": "a.filter1", "request_id": "r1"});
    let mut events = vec![good.clone(), foreign, json!({}), good.clone()];
    for kind in ["open", "click", "spamreport", "unsubscribe", "group_resubscribe", "account_status_change"] {
        events.push(event(kind, &[]));
    }
    for (name, value) in [
        ("otpost_request", json!("")),
        ("otpost_request", json!("a b")),
        ("email", json!("no address")),
        ("email", json!(null)),
        ("sg_message_id", json!("a b")),
        ("sg_message_id", json!(7)),
        ("event", json!(["delivered"])),
    ] {
        events.push(event("delivered", &[(name, value)]));
    }
    events.push(good);
    // The number of the attempt is not read.
    events.push(event("delivered", &[("otpost_attempt", json!(null))]));
    assert_eq!(response(&events).expect("read").len(), 4);
    assert_eq!(response(&vec![json!({}); 5_000]), Ok(vec![]));
    assert_eq!(response(&vec![json!({}); 5_001]), Err(CallbackError::Unreadable("body")));
    let key = EventKey::fresh();
    for body in ["", "{}", "null", "[1,]", "[{}", "[] []"] {
        let signature = key.sign("1700000000", body.as_bytes());
        let fault = read(&key.public(), 1_700_000_000, &signature, "1700000000", body.as_bytes());
        assert_eq!(fault, Err(CallbackError::Unreadable("body")), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_odd_event_or_member_of_a_call_hides_no_other() {
    let good = event("delivered", &[]).to_string();
    let (key, open) = (EventKey::fresh(), good.strip_suffix('}').expect("an object"));
    let count = |events: &[&[u8]]| {
        let body = [b"[", &*events.join(&b","[..]), b"]"].concat();
        let signature = key.sign("1700000000", &body);
        let receipts = read(&key.public(), 1_700_000_000, &signature, "1700000000", &body).expect("read");
        assert!(receipts.iter().all(|receipt| receipt.request_id.as_str() == "r1"));
        receipts.len()
    };
    // A member that decides nothing may be anything, and also given twice.
    for member in [
        r#""smtp-id":7"#,
        r#""name":"Ana","name":"Ana""#,
        r#""asm":{"a":1,"a":2}"#,
        r#""useragent":"Ana \ud83d""#,
        r#""na\ud83dme":1"#,
        r#""timestamp":1e999"#,
        r#""otpost_attempt":null,"otpost_attempt":[]"#,
        r#""reason":null,"reason":{}"#,
        r#""type":7"#,
        &format!(r#""email":"{ANA}""#),
    ] {
        let odd = format!("{open},{member}}}");
        assert_eq!(count(&[good.as_bytes(), odd.as_bytes(), good.as_bytes()]), 3, "{member}");
    }
    // Such an event is skipped, and only it.
    let cut = b"{\"event\":\"delivered\",\"otpost_request\":\"r1\",\"email\":\"\xf0\x9f\"}";
    let mallory = format!(r#"{open},"email":"mallory@shop.example"}}"#);
    let other = format!(r#"{open},"otpost_request":"r2"}}"#);
    let no_text = good.replace(ANA, "ana\\ud83d@shop.example");
    let odd: [&[u8]; 11] = [
        b"null",
        b"7",
        b"\"x\"",
        b"[]",
        b"[{}]",
        b"true",
        b"{}",
        cut,
        mallory.as_bytes(),
        other.as_bytes(),
        no_text.as_bytes(),
    ];
    for odd in odd {
        assert_eq!(count(&[good.as_bytes(), odd, good.as_bytes()]), 2, "{}", String::from_utf8_lossy(odd));
    }
    let marked = [b"\xef\xbb\xbf[", good.as_bytes(), b"]"].concat();
    let signature = key.sign("1700000000", &marked);
    let receipts = read(&key.public(), 1_700_000_000, &signature, "1700000000", &marked);
    assert_eq!(receipts.map(|receipts| receipts.len()), Ok(1), "a byte order mark");
}

/// A gateway of e-mails with its webhook.
struct Stage {
    gateway: Embedded,
    server: TestServer,
    key: EventKey,
}

impl Stage {
    fn start() -> Stage {
        let gateway = Embedded::with(Options { channel: Channel::Email, ..Options::default() });
        let key = EventKey::fresh();
        let events = SendGridEvents::new(&key.public(), gateway.world.clock).expect("a key");
        let webhooks = Webhooks {
            callbacks: vec![Arc::new(events)],
            receipts: gateway.tracker.clone(),
            opt_statuses: None,
        };
        Stage { server: TestServer::with_webhooks(webhooks), gateway, key }
    }

    fn call(&self, body: Vec<u8>) -> Request<Body> {
        let timestamp = (self.gateway.world.clock.now().0 / 1_000).to_string();
        Request::post("/webhooks/sendgrid/events")
            .header("content-type", "application/json")
            .header("X-Twilio-Email-Event-Webhook-Signature", self.key.sign(&timestamp, &body))
            .header("X-Twilio-Email-Event-Webhook-Timestamp", timestamp)
            .body(Body::from(body))
            .expect("a request")
    }

    async fn post_events(&self, events: &[Value]) -> Answer {
        self.server.ask(self.call(serde_json::to_vec(events).expect("JSON"))).await
    }
}

#[tokio::test(start_paused = true)]
async fn signed_events_in_any_order_become_one_delivery_event() {
    let mut stage = Stage::start();
    stage.gateway.request("r1", ANA).await.expect_sent();
    let delivered = event("delivered", &[]);
    let again = event("delivered", &[("sg_event_id", json!("e2"))]);
    let batch = [event("deferred", &[]), delivered, event("processed", &[]), again.clone()];
    assert_eq!(stage.post_events(&batch).await.status, 204);
    let result = stage.gateway.result().await;
    result.expect("delivered", None);
    assert_eq!(result.message.routing_key, "email.delivered");
    assert_eq!(
        (&result.body["provider"], &result.body["provider_message_id"]),
        (&json!("sendgrid"), &json!(MESSAGE_ID))
    );
    assert_eq!(result.body["to"], "a***@s***.example");
    assert_eq!(stage.post_events(&[again, event("bounce", &[])]).await.status, 204);
    stage.gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn every_message_of_one_call_gets_its_delivery_event() {
    let mut stage = Stage::start();
    for nth in 0..40 {
        stage.gateway.request(&format!("r{nth}"), &format!("ana{nth}@shop.example")).await.expect_sent();
    }
    let about = |nth: u32| {
        let to = format!("ana{nth}@shop.example");
        event("delivered", &[("otpost_request", json!(format!("r{nth}"))), ("email", json!(to))])
    };
    let batch: Vec<_> = (0..40).map(about).collect();
    assert_eq!(stage.post_events(&batch).await.status, 204);
    for _ in 0..40 {
        stage.gateway.result().await.expect("delivered", None);
    }
    assert_eq!(stage.post_events(&batch).await.status, 204);
    stage.gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_hard_bounce_suppresses_for_a_day_and_an_opt_out_for_good() {
    for (bounce, again_after_a_day) in [
        (
            event(
                "bounce",
                &[("type", json!("bounce")), ("reason", json!("550 5.1.1 <ana@shop.example> no"))],
            ),
            true,
        ),
        (event("dropped", &[("reason", json!("Unsubscribed Address"))]), false),
    ] {
        let mut stage = Stage::start();
        stage.gateway.request("r1", ANA).await.expect_sent();
        assert_eq!(stage.post_events(&[bounce]).await.status, 204);
        let undelivered = stage.gateway.result().await;
        undelivered.expect("undelivered", Some("provider_rejected"));
        assert_eq!(undelivered.message.routing_key, "email.undelivered");
        assert!(
            !String::from_utf8_lossy(&undelivered.message.body).contains(ANA),
            "the text of a mail server is not published"
        );
        let code = undelivered.body["error"].get("provider_code").and_then(Value::as_u64);
        assert_eq!(code, again_after_a_day.then_some(550));
        stage.gateway.request("r2", ANA).await.expect("rejected", Some("suppressed"));
        stage.gateway.request("r3", "bob@shop.example").await.expect_sent();
        tokio::time::advance(std::time::Duration::from_secs(86_401)).await;
        let later = stage.gateway.request("r4", ANA).await;
        if again_after_a_day {
            later.expect_sent();
        } else {
            later.expect("rejected", Some("suppressed"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_about_another_address_or_request_changes_nothing() {
    let mut stage = Stage::start();
    stage.gateway.request("r1", ANA).await.expect_sent();
    for stranger in [
        event("delivered", &[("email", json!("bob@shop.example"))]),
        event("delivered", &[("otpost_request", json!("r2"))]),
    ] {
        assert_eq!(stage.post_events(&[stranger]).await.status, 204);
    }
    stage.gateway.expect_no_result();
    let written_otherwise = event("delivered", &[("email", json!("Ana@Shop.example"))]);
    assert_eq!(stage.post_events(&[written_otherwise]).await.status, 204);
    stage.gateway.result().await.expect("delivered", None);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_accepted_only_when_all_its_events_are_confirmed() {
    let mut stage = Stage::start();
    stage.gateway.request("r1", ANA).await.expect_sent();
    stage.gateway.request("r2", "bob@shop.example").await.expect_sent();
    let bob = event("delivered", &[("otpost_request", json!("r2")), ("email", json!("bob@shop.example"))]);
    let batch = [event("delivered", &[]), bob];
    stage.gateway.world.broker.fail_next_publishes(1);
    assert_eq!(stage.post_events(&batch).await.status, 503);
    stage.gateway.result().await.expect("delivered", None);
    assert_eq!(stage.post_events(&batch).await.status, 204, "the remaining events");
    stage.gateway.result().await.expect("delivered", None);
    stage.gateway.expect_no_result();
    stage.gateway.world.store.gone.store(true, Ordering::SeqCst);
    assert_eq!(stage.post_events(&batch).await.status, 503, "the store cannot show whether it was published");
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_call_is_refused_and_only_this_route_takes_long_bodies() {
    let mut stage = Stage::start();
    stage.gateway.request("r1", ANA).await.expect_sent();
    let body = serde_json::to_vec(&[event("delivered", &[])]).expect("JSON");
    for header in ["X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"] {
        let mut call = stage.call(body.clone());
        call.headers_mut().remove(header);
        let answer = stage.server.ask(call).await;
        assert_eq!(answer.status, 403);
        assert!(answer.text.contains("signature_refused") && !answer.text.contains(ANA), "{}", answer.text);
    }
    let mut forged = stage.call(body);
    *forged.body_mut() = Body::from(serde_json::to_vec(&[event("bounce", &[])]).expect("JSON"));
    assert_eq!(stage.server.ask(forged).await.status, 403);
    stage.gateway.expect_no_result();

    let padded = |bytes: usize| format!("[{}]", " ".repeat(bytes - 2)).into_bytes();
    assert_eq!(stage.server.ask(stage.call(padded(800 * 1024))).await.status, 204);
    assert_eq!(stage.server.ask(stage.call(padded(1024 * 1024))).await.status, 204);
    let answer = stage.server.ask(stage.call(padded(1024 * 1024 + 1))).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text.contains("1048576"), "{}", answer.text);
    let elsewhere = Request::post("/api/v1/otp/verify")
        .header("content-length", 16 * 1024 + 1)
        .body(Body::from(padded(16 * 1024 + 1)))
        .expect("a request");
    let answer = stage.server.ask(elsewhere).await;
    assert!(answer.status == 413 && answer.text.contains("16384"), "{}", answer.text);
    let got = Request::get("/webhooks/sendgrid/events").body(Body::empty()).expect("a request");
    assert_eq!(stage.server.ask(got).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_headers_cannot_be_valid_is_refused_before_its_body_is_read() {
    const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
    const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
    let stage = Stage::start();
    for (name, value) in [
        (SIGNATURE, None),
        (SIGNATURE, Some("no base64")),
        (TIMESTAMP, None),
        (TIMESTAMP, Some("")),
        (TIMESTAMP, Some("1")),
        (TIMESTAMP, Some("99999999999")),
        (TIMESTAMP, Some("yesterday")),
    ] {
        for is_repeated in [false, true] {
            let mut call = stage.call(b"[]".to_vec());
            if !is_repeated || value.is_none() {
                call.headers_mut().remove(name);
            }
            value.map(|value| call.headers_mut().append(name, HeaderValue::from_static(value)));
            let began = Instant::now();
            *call.body_mut() = Body::from_stream(pending::<Result<Vec<u8>, Infallible>>());
            let answer = stage.server.ask(call).await;
            assert_eq!((answer.status, began.elapsed()), (403, Duration::ZERO), "{name}: {value:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_there_is_no_webhook() {
    let stage = Stage::start();
    assert_eq!(TestServer::start().ask(stage.call(b"[]".to_vec())).await.status, 404);
}

#[test]
fn the_debug_output_of_a_receipt_has_no_personal_data() {
    let report = format!("{:?}", one_bounce());
    assert!(!report.contains(ANA) && !report.contains("no such user"), "{report}");
}

fn one_bounce() -> Vec<DeliveryReceipt> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let bounce = event("bounce", &[("reason", json!("550 ana@shop.example no such user"))]);
    runtime.block_on(async { response(&[bounce]).expect("read") })
}
