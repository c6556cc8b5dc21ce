//! Message lookups at Twilio, which resolve sends in doubt.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::time::UnixMillis;
use otpost::provider::twilio::errors::refusal_reason;
use otpost::provider::twilio::{Sender, TwilioSettings};
use otpost::provider::{FetchedMessage, LookupError, Provider, ProviderMessage};
use serde_json::json;

use super::{ALICE, SENDER, adapter, assert_has_no_secret, send, settings, settings_at};
use crate::contract::provider::Draft;
use crate::fake_twilio::{Answer, FakeTwilio, rfc_2822};

const BOB: &str = "+573109876543";
const SERVICE: &str = "MG00000000000000000000000000000003";

fn number(text: &str) -> Address {
    Draft::to(text).to
}

fn ago(seconds: u64) -> UnixMillis {
    UnixMillis(Clock::System.now().0 - 1000 * seconds)
}

async fn found_with(
    settings: &TwilioSettings,
    since: UnixMillis,
) -> Result<Vec<ProviderMessage>, LookupError> {
    let verdict = adapter(settings).find(&number(ALICE), since).await;
    if let Err(fault) = &verdict {
        assert_has_no_secret(&format!("{fault} {fault:?}"));
    }
    verdict
}

/// The SIDs of the messages to Alice within the last minute.
async fn found(twilio: &FakeTwilio) -> Result<Vec<String>, LookupError> {
    let found = found_with(&settings(twilio), ago(60)).await?;
    Ok(found.into_iter().map(|candidate| candidate.message_id).collect())
}

#[track_caller]
fn assert_unanswered<T>(verdict: Result<T, LookupError>) {
    let fault = verdict.err().expect("no answer");
    assert!(matches!(fault, LookupError::Unanswered(_)), "{fault:?}");
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_found() {
    let twilio = FakeTwilio::start();
    for lost in [Answer::AcceptThenClose, Answer::AcceptThenHang] {
        twilio.next([lost]);
        let timeout = Duration::from_millis(300);
        send(&TwilioSettings { timeout, ..settings(&twilio) }).await.expect_err("in doubt");
    }
    let found = found_with(&settings(&twilio), ago(5)).await.expect("an answer");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].message_id, twilio.sids()[1], "as Twilio lists them");
    assert_eq!(found[0].text.as_deref(), Some("MeStore: Hola Ana & Co, tu codigo es 123456. +100% ñ"));
    assert_eq!(found[0].segments, Some(1));
    let off = ago(0).0.abs_diff(found[0].created.0);
    assert!(off < 3_000, "{off} ms off");
}

#[tokio::test]
async fn a_lookup_filters_by_number_only_and_may_find_nothing() {
    let twilio = FakeTwilio::start();
    assert_eq!(found(&twilio).await, Ok(vec![]));
    let request = twilio.only_request();
    assert_eq!(request.method, "GET");
    let query = [("To", ALICE), ("PageSize", "50")];
    assert_eq!(request.form, query.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn a_message_that_the_list_lacks_is_found_once_it_is_listed() {
    let twilio = FakeTwilio::start();
    send(&settings(&twilio)).await.expect("accepted");
    let sid = twilio.sids().remove(0);
    twilio.hide(&sid, true);
    assert_eq!(found(&twilio).await, Ok(vec![]));
    twilio.hide(&sid, false);
    assert_eq!(found(&twilio).await, Ok(vec![sid]));
}

#[tokio::test]
async fn a_redacted_text_is_absent() {
    let twilio = FakeTwilio::start();
    send(&settings(&twilio)).await.expect("accepted");
    let sid = twilio.sids().remove(0);
    twilio.redact(&sid);
    let found = found_with(&settings(&twilio), ago(60)).await.expect("an answer");
    assert!(found[0].text.is_none());
    twilio.change(&sid, |message| message["body"] = json!(null));
    let found = found_with(&settings(&twilio), ago(60)).await.expect("an answer");
    assert!(found[0].text.is_none());
}

#[tokio::test]
async fn only_messages_of_our_senders_are_found() {
    let twilio = FakeTwilio::start();
    let ours = twilio.add(ALICE, SENDER, "ours", |message| message["messaging_service_sid"] = SERVICE.into());
    twilio.add(ALICE, "+15005550099", "another sender's", |_| ());
    twilio.add(BOB, SENDER, "another recipient's", |_| ());
    for direction in ["inbound", "outbound-reply", "outbound-call"] {
        twilio.add(ALICE, SENDER, "no message of an API", |message| message["direction"] = direction.into());
    }
    assert_eq!(found(&twilio).await, Ok(vec![ours.clone()]));

    let written = Sender::Numbers(vec!["+57 300 000".to_owned(), " +1 (500) 555-0006 ".to_owned()]);
    let found = found_with(&TwilioSettings { sender: written, ..settings(&twilio) }, ago(60)).await;
    assert_eq!(found.expect("an answer").len(), 1, "however the number is written");
}

#[tokio::test]
async fn a_messaging_service_finds_its_messages_whatever_number_it_chose() {
    let twilio = FakeTwilio::start();
    let settings =
        TwilioSettings { sender: Sender::MessagingService(SERVICE.to_owned()), ..settings(&twilio) };
    send(&settings).await.expect("accepted");
    twilio.add(ALICE, SENDER, "another service's", |message| {
        message["messaging_service_sid"] = "MG00000000000000000000000000000009".into();
    });
    twilio.add(ALICE, "+15005550077", "chosen", |message| message["messaging_service_sid"] = SERVICE.into());
    let found = found_with(&settings, ago(60)).await.expect("an answer");
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].segments, None, "the service has not counted them yet");
}

#[tokio::test]
async fn every_page_is_read_until_one_is_older_as_a_whole() {
    let twilio = FakeTwilio::start();
    twilio.page_rows(2);
    let at = |seconds: u64| {
        let at = jiff::Timestamp::now() - Duration::from_secs(seconds);
        move |message: &mut serde_json::Value| message["date_created"] = rfc_2822(at).into()
    };
    // Pages, newest first, with ages in seconds: 5 and 300, 200 and 10, 400 and 500, 20 and 600.
    let added: Vec<_> = [600, 20, 500, 400, 10, 200, 300, 5]
        .map(|seconds| twilio.add(ALICE, SENDER, "text", at(seconds)))
        .into_iter()
        .collect();
    assert_eq!(found(&twilio).await, Ok(vec![added[7].clone(), added[4].clone()]));
    let asked: Vec<_> = twilio.requests().iter().map(|r| r.field("PageToken").map(str::to_owned)).collect();
    assert_eq!(asked, [None, Some(format!("PA{}", added[6])), Some(format!("PA{}", added[4]))]);
}

#[tokio::test]
async fn a_lookup_without_a_last_page_is_unanswered() {
    let twilio = FakeTwilio::start();
    twilio.page_rows(1);
    for _ in 0..11 {
        twilio.add(ALICE, SENDER, "text", |_| ());
    }
    assert_unanswered(found(&twilio).await);
    assert_eq!(twilio.requests().len(), 10);
    twilio.page_rows(2);
    assert_eq!(found(&twilio).await.expect("an answer").len(), 11);
}

#[tokio::test]
async fn times_are_converted_to_our_clock() {
    for ahead in [0, 3_600, -3_600] {
        let twilio = FakeTwilio::start();
        twilio.set_clock_ahead(ahead);
        send(&settings(&twilio)).await.expect("accepted");
        let found = found_with(&settings(&twilio), ago(5)).await.expect("an answer");
        assert_eq!(found.len(), 1, "{ahead}");
        let off = ago(0).0.abs_diff(found[0].created.0);
        assert!(off < 3_000, "{off} ms off");
    }
}

#[tokio::test]
async fn a_message_of_the_same_second_is_not_taken_for_an_older_one() {
    let twilio = FakeTwilio::start();
    let since = Clock::System.now();
    send(&settings(&twilio)).await.expect("accepted");
    // Twilio's time is cut to whole seconds, so it may lie before `since`.
    assert_eq!(found_with(&settings(&twilio), since).await.expect("an answer").len(), 1);
    let later = UnixMillis(since.0 + 10_000);
    assert!(found_with(&settings(&twilio), later).await.expect("an answer").is_empty());
}

#[tokio::test]
async fn a_next_page_at_another_address_is_never_requested() {
    let elsewhere = FakeTwilio::start();
    let account = "/2010-04-01/Accounts/AC00000000000000000000000000000001";
    for next in [
        format!("{}{account}/Messages.json?Page=1", elsewhere.base_url()),
        format!("//{}{account}/Messages.json?Page=1", elsewhere.base_url().trim_start_matches("http://")),
        format!("{account}/Calls.json?Page=1"),
        format!("{account}/Messages.json/../Calls.json?Page=1"),
        "/2010-04-01/Accounts/AC00000000000000000000000000000009/Messages.json?Page=1".to_owned(),
        format!("{account}/Messages.json"),
        String::new(),
    ] {
        let twilio = FakeTwilio::start();
        let now = rfc_2822(jiff::Timestamp::now());
        let row = json!({"sid": "SM00000000000000000000000000000001", "direction": "outbound-api",
            "date_created": now, "from": SENDER, "body": "text", "num_segments": "1"});
        twilio.next([Answer::Status(200, json!({"messages": [row], "next_page_uri": next}))]);
        assert_unanswered(found(&twilio).await);
        assert_eq!(twilio.requests().len(), 1, "{next}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn pages_are_followed_below_a_base_url_with_a_path() {
    let twilio = FakeTwilio::start();
    let settings = settings_at(format!("{}/gateway", twilio.base_url()));
    let next = "/2010-04-01/Accounts/AC00000000000000000000000000000001/Messages.json?Page=1";
    let row = json!({"sid": "SM00000000000000000000000000000001", "direction": "outbound-api",
        "date_created": rfc_2822(jiff::Timestamp::now()), "from": SENDER});
    twilio.next([
        Answer::Status(200, json!({"messages": [row], "next_page_uri": next})),
        Answer::Status(200, json!({"messages": [], "next_page_uri": null})),
    ]);
    assert_eq!(found_with(&settings, ago(60)).await.expect("an answer").len(), 1);
    let paths: Vec<_> = twilio.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.iter().all(|path| path.starts_with("/gateway/2010-04-01/")), "{paths:?}");
}

#[tokio::test]
async fn an_incomplete_answer_never_counts_as_nothing_found() {
    let row = |change: fn(&mut serde_json::Value)| {
        let mut row = json!({"sid": "SM00000000000000000000000000000001", "direction": "outbound-api",
            "date_created": rfc_2822(jiff::Timestamp::now()), "from": SENDER});
        change(&mut row);
        Answer::Status(200, json!({"messages": [row], "next_page_uri": null}))
    };
    for answer in [
        Answer::Status(200, json!({})),
        Answer::Status(200, json!({"messages": []})),
        Answer::Status(200, json!([])),
        Answer::Status(200, json!({"messages": {}, "next_page_uri": null})),
        Answer::Status(200, json!({"messages": null, "next_page_uri": null})),
        Answer::Status(200, json!({"messages": [], "next_page_uri": 7})),
        Answer::AcceptWith(r#"{"messages":[],"next_page_uri":"\ud83d"}"#.to_owned()),
        row(|row| row["sid"] = json!("../Calls")),
        row(|row| row["sid"] = json!(7)),
        row(|row| row["date_created"] = json!(null)),
        row(|row| row["date_created"] = json!("yesterday")),
        Answer::AcceptWith("<html>".to_owned()),
        Answer::AcceptWith(format!("{{\"pad\":\"{}\"}}", "x".repeat(2 << 20))),
        Answer::AcceptThenTruncate,
        Answer::AcceptThenClose,
        Answer::Reset,
        Answer::Hang,
        Answer::Throttle(Some("1".to_owned())),
        Answer::Redirect("http://127.0.0.1:1/".to_owned()),
        Answer::error(400, 20001),
        Answer::error(500, 20500),
        Answer::error(503, 20503),
    ] {
        let twilio = FakeTwilio::start();
        twilio.next([answer.clone()]);
        let settings = TwilioSettings { timeout: Duration::from_millis(300), ..settings(&twilio) };
        let fault = found_with(&settings, ago(60)).await.err();
        assert!(matches!(fault, Some(LookupError::Unanswered(_))), "{answer:?}: {fault:?}");
    }
}

/// A page with our message among its neighbours, as Twilio writes it.
fn page(neighbours: &[String]) -> Answer {
    let now = rfc_2822(jiff::Timestamp::now());
    let ours = format!(
        r#"{{"sid":"SM00000000000000000000000000000001","direction":"outbound-api","date_created":"{now}","from":"{SENDER}","body":"ours"}}"#
    );
    let rows = [&neighbours[..1], &[ours], &neighbours[1..]].concat().join(",");
    Answer::AcceptWith(format!(r#"{{"messages":[{rows}],"next_page_uri":null}}"#))
}

#[tokio::test]
async fn an_odd_neighbour_spoils_no_page() {
    let now = rfc_2822(jiff::Timestamp::now());
    let row = |sid: &str, direction: &str, date: &str, from: &str, body: &str| {
        format!(
            r#"{{"sid":{sid},"direction":{direction},"date_created":{date},"from":{from},"body":{body}}}"#
        )
    };
    let (api, at, theirs, us) =
        (r#""outbound-api""#, format!("\"{now}\""), r#""+15005550099""#, format!("\"{SENDER}\""));
    let old = r#""Thu, 24 Aug 2023 05:01:45 +0000""#;
    let sid = |n: usize| format!("\"SM{n:032}\"");
    for (found_besides, neighbour) in [
        (0, row(&sid(2), api, &at, theirs, r#""\ud83d""#)),
        (0, row(&sid(2), api, &at, theirs, r#"{"a":["\ude00",1e999]}"#)),
        (0, row("7", api, r#""yesterday""#, theirs, "7")),
        (0, row("null", "[]", "null", theirs, "null")),
        (0, row(&sid(2), r#""inbound""#, "null", &us, r#""x""#)),
        (0, row("null", api, old, &us, r#""x""#)),
        (0, row(&sid(2), api, &at, r#""\ud83d""#, r#""x""#)),
        (0, "null".to_owned()),
        (0, "7".to_owned()),
        (0, "{}".to_owned()),
        // Possibly ours: its text decides, or none.
        (1, row(&sid(2), api, &at, &us, r#""Hola \ud83d""#)),
        (1, row(&sid(2), api, &at, &us, "7")),
        (1, row(&sid(2), "null", &at, &us, r#""x""#)),
        (1, row(&sid(2), api, r#""yesterday""#, &us, r#""x""#)),
        (1, row(&sid(2), api, &at, "15005550006", r#""x""#)),
    ] {
        for rows in [vec![neighbour.clone()], vec!["{\"sid\":\"\\udc00\"}".to_owned(), neighbour.clone()]] {
            let twilio = FakeTwilio::start();
            twilio.next([page(&rows)]);
            let found = found_with(&settings(&twilio), ago(60)).await;
            let mut found = found.unwrap_or_else(|fault| panic!("{neighbour}: {fault}"));
            found.retain(|message| message.text.as_deref() != Some("ours"));
            assert_eq!(found.len(), found_besides, "{neighbour}");
        }
    }
}

#[tokio::test]
async fn a_message_of_ours_with_an_unreadable_text_may_be_any_of_ours() {
    let now = rfc_2822(jiff::Timestamp::now());
    for body in ["7", r#""Tu codigo \ud83d""#, "null", "{}"] {
        let twilio = FakeTwilio::start();
        let row = format!(
            r#"{{"sid":"SM00000000000000000000000000000001","direction":"outbound-api","date_created":"{now}","from":"{SENDER}","body":{body}}}"#
        );
        twilio.next([Answer::AcceptWith(format!(r#"{{"messages":[{row}],"next_page_uri":null}}"#))]);
        let found = found_with(&settings(&twilio), ago(60)).await.expect("an answer");
        assert!(found.len() == 1 && found[0].text.is_none(), "{body}");
    }
}

#[tokio::test]
async fn an_answer_with_an_odd_member_keeps_the_others() {
    let twilio = FakeTwilio::start();
    let sid = "SM00000000000000000000000000000001";
    twilio.next([Answer::AcceptWith(format!(r#"{{"sid":"{sid}","num_segments":"1","body":"\ud83d"}}"#))]);
    let accepted = adapter(&settings(&twilio)).send(&Draft::to(ALICE).message()).await.expect("accepted");
    assert_eq!((accepted.message_id.as_deref(), accepted.segments), (Some(sid), Some(1)));
    let single = format!(r#"{{"status":"delivered","to":"{ALICE}","error_code":null,"body":"\ud83d"}}"#);
    twilio.next([Answer::AcceptWith(single)]);
    let fetched = adapter(&settings(&twilio)).fetch(sid).await.expect("an answer");
    assert_eq!((fetched.status, fetched.to), (DeliveryStatus::Delivered, Some(number(ALICE))));
}

#[tokio::test]
async fn an_outage_in_the_middle_of_the_pages_leaves_the_lookup_unanswered() {
    let twilio = FakeTwilio::start();
    twilio.page_rows(1);
    twilio.add(ALICE, SENDER, "text", |_| ());
    twilio.add(ALICE, SENDER, "text", |_| ());
    twilio.next([Answer::Normal, Answer::error(503, 20503)]);
    assert_unanswered(found(&twilio).await);
}

#[tokio::test]
async fn credentials_that_may_not_read_are_distinguished_from_an_outage() {
    for (status, code) in [(401, 20003), (401, 70051), (403, 20005), (400, 70051), (404, 20404)] {
        let twilio = FakeTwilio::start();
        twilio.for_lookups(Answer::error(status, code));
        assert_eq!(found(&twilio).await, Err(LookupError::Refused { status, provider_code: Some(code) }));
    }
}

#[tokio::test]
async fn a_fetched_message_has_its_status_and_error_code() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    let accepted = adapter.send(&Draft::to(ALICE).message()).await.expect("accepted");
    let sid = accepted.message_id.expect("an id");
    let fetched = |status, code| {
        Ok(FetchedMessage {
            to: Some(number(ALICE)),
            status,
            provider_code: code,
            reason: refusal_reason(code),
            price: None,
        })
    };
    assert_eq!(adapter.fetch(&sid).await, fetched(DeliveryStatus::Queued, None));
    twilio.change(&sid, |message| {
        message["status"] = "undelivered".into();
        message["error_code"] = 30007.into();
    });
    assert_eq!(adapter.fetch(&sid).await, fetched(DeliveryStatus::Undelivered, Some(30007)));
    twilio.change(&sid, |message| message["to"] = "obfuscated".into());
    assert_eq!(adapter.fetch(&sid).await.expect("an answer").to, None);
    twilio.change(&sid, |message| message["status"] = "partially_delivered".into());
    assert_unanswered(adapter.fetch(&sid).await);
}

#[tokio::test]
async fn a_message_that_twilio_does_not_know_is_not_found() {
    let twilio = FakeTwilio::start();
    let adapter = adapter(&settings(&twilio));
    let unknown = "SM00000000000000000000000000000009";
    assert_eq!(adapter.fetch(unknown).await, Err(LookupError::NotFound));
    assert_eq!(twilio.requests().len(), 1);
    // A text that is no SID would be another path, so no request is made.
    for path in
        ["", "SM1", "../Calls/CA00000000000000000000000000000001", "SM0000000000000000000000000000000/"]
    {
        assert_eq!(adapter.fetch(path).await, Err(LookupError::NotFound));
    }
    assert_eq!(twilio.requests().len(), 1);
}

#[tokio::test]
async fn a_refused_fetch_is_distinguished_from_an_unanswered_one() {
    let sid = "SM00000000000000000000000000000001";
    for (status, code) in [(401, 20003), (403, 70051)] {
        let twilio = FakeTwilio::start();
        twilio.for_lookups(Answer::error(status, code));
        let fault = adapter(&settings(&twilio)).fetch(sid).await.expect_err("refused");
        assert_eq!(fault, LookupError::Refused { status, provider_code: Some(code) });
    }
    for answer in [Answer::error(500, 20500), Answer::Throttle(None), Answer::AcceptThenClose] {
        let twilio = FakeTwilio::start();
        twilio.next([answer]);
        assert_unanswered(adapter(&settings(&twilio)).fetch(sid).await);
    }
}
