//! Lookups, receipts by polling, and repeats that a vendor recognises.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::SendFailure;
use otpost::domain::time::UnixMillis;
use otpost::provider::http_api::HttpApi;
use otpost::provider::{LookupError, Provider as _};

use super::read;
use crate::contract::provider::Draft;
use crate::fake_vendor::{Answer, FakeVendor};

const NUMBER: &str = "+573001234567";
const FILE: &str = r#"[[providers]]
name = "acme"
kind = "http"
[providers.authentication]
kind = "bearer"
secret = "env:ACME_KEY"
[providers.send]
url = "ORIGIN/messages"
idempotency = true
headers = { Idempotency-Key = "{{ idempotency_key }}" }
json = { text = "{{ text }}", to = "{{ to }}" }
[providers.answers]
id = "json:/id"
rules = [{ status = 200, class = "accepted" }, { status = 429, class = "throttled" }]
[providers.lookup]
url = "ORIGIN/messages"
query = { to = "{{ to_digits }}", since = "{{ since_text }}" }
each = "json:/messages"
id = "json:/id"
text = "json:/text"
created = "json:/created"
to = "json:/to"
segments = "json:/parts"
more = "json:/next"
page_size = 5
[providers.fetch]
url = "ORIGIN/messages/{{ message_id }}"
status = "json:/state"
to = "json:/to"
code = "json:/error"
statuses = { done = "delivered", "lost*" = "undelivered" }
"#;

fn acme() -> (FakeVendor, HttpApi) {
    let fake = FakeVendor::start(Answer::Status(200, "", r#"{"id":"m1"}"#.to_owned()));
    let text = FILE.replace("ORIGIN", &fake.base_url());
    let Ok(described) = read(&text) else { panic!("a good file") };
    (fake, described.provider)
}

fn row(id: &str, to: &str, created: &str, text: &str) -> String {
    format!(r#"{{"id":"{id}","to":"{to}","created":"{created}","text":"{text}","parts":1}}"#)
}

fn list(rows: &[String], more: &str) -> Answer {
    Answer::Status(200, "", format!(r#"{{"messages":[{}],"next":{more}}}"#, rows.join(",")))
}

async fn found(fake: &FakeVendor, acme: &HttpApi, answer: Answer) -> Result<Vec<String>, LookupError> {
    fake.next(answer);
    let since = UnixMillis(Clock::System.now().0 - 60_000);
    let found = acme.find(&Draft::to(NUMBER).to, since).await?;
    Ok(found.into_iter().map(|message| message.message_id).collect())
}

#[tokio::test]
async fn the_messages_to_a_number_are_listed() {
    let (fake, acme) = acme();
    let now = Clock::System.now();
    let (ours, old) = (now.to_string(), UnixMillis(now.0 - 120_000).to_string());
    let in_seconds = now.as_seconds().to_string();
    let rows = [
        row("m1", "57 300 123 4567", &ours, "MeStore: 123456"),
        row("m2", "573009999999", &ours, "another recipient"),
        row("m3", "+573001234567", &old, "an earlier one"),
        row("m4", "+573001234567", &in_seconds, ""),
    ];
    let answer = list(&rows, "null");
    assert_eq!(found(&fake, &acme, answer.clone()).await, Ok(vec!["m1".to_owned(), "m4".to_owned()]));
    fake.next(answer);
    let messages = acme.find(&Draft::to(NUMBER).to, UnixMillis(now.0 - 60_000)).await.expect("an answer");
    assert_eq!(messages[0].text.as_deref(), Some("MeStore: 123456"));
    assert_eq!((messages[0].segments, messages[1].text.as_deref()), (Some(1), None));
    let request = &fake.requests()[0];
    assert_eq!((request.method.as_str(), request.field("to")), ("GET", Some("573001234567")));
    assert!(request.field("since").is_some_and(|since| since.ends_with('Z')), "{request:?}");
    assert_eq!(request.headers["authorization"], "Bearer secret-of-ACME_KEY");
}

#[tokio::test]
async fn a_vendors_clock_is_compared_by_its_date() {
    let (fake, acme) = acme();
    // The vendor's clock is a day behind: its rows are, too.
    let created = UnixMillis(Clock::System.now().0 - 86_400_000).to_string();
    let row = row("m1", "573001234567", &created, "text");
    let body = format!(r#"{{"messages":[{row}]}}"#);
    assert_eq!(found(&fake, &acme, Answer::Status(200, "", body.clone())).await, Ok(Vec::new()));
    let behind = jiff::Timestamp::now() - Duration::from_secs(86_400);
    let date = format!("Date: {}\r\n", behind.strftime("%a, %d %b %Y %H:%M:%S GMT"));
    let answer = Answer::Status(200, date.leak(), body);
    assert_eq!(found(&fake, &acme, answer).await, Ok(vec!["m1".to_owned()]));
}

#[tokio::test]
async fn a_list_that_may_not_be_whole_shows_nothing() {
    let (fake, acme) = acme();
    let now = Clock::System.now().to_string();
    let one = row("m1", "573001234567", &now, "text");
    let many: Vec<String> = (0..5).map(|_| one.clone()).collect();
    for answer in [
        list(&many, "null"),
        list(std::slice::from_ref(&one), "\"/messages?page=2\""),
        list(std::slice::from_ref(&one), "true"),
        list(&[row("", "573001234567", &now, "without an id")], "null"),
        list(&[row("m1", "573001234567", "soon", "")], "null"),
        Answer::Status(200, "", "{}".to_owned()),
        Answer::Status(200, "", "[]".to_owned()),
        Answer::Cut(200, format!(r#"{{"messages":[{one}"#)),
        Answer::Status(404, "", String::new()),
        Answer::Status(500, "", String::new()),
        Answer::Close,
    ] {
        let Err(LookupError::Unanswered(detail)) = found(&fake, &acme, answer.clone()).await else {
            panic!("{answer:?}: expected no answer")
        };
        for secret in ["127.0.0.1", "http:", "573001234567", "secret-of", "text"] {
            assert!(!detail.contains(secret), "{detail}");
        }
    }
    assert_eq!(found(&fake, &acme, list(&[one], "false")).await, Ok(vec!["m1".to_owned()]));
    for status in [401, 403] {
        let refused = found(&fake, &acme, Answer::Status(status, "", String::new())).await;
        assert_eq!(refused, Err(LookupError::Refused { status, provider_code: None }));
    }
}

#[tokio::test]
async fn a_message_is_read_by_its_id() {
    let (fake, acme) = acme();
    for (body, status, provider_code) in [
        (r#"{"state":"done","to":"573001234567","error":7}"#, DeliveryStatus::Delivered, None),
        (
            r#"{"state":"lost at sea","to":"+57 300 123 4567","error":7}"#,
            DeliveryStatus::Undelivered,
            Some(7),
        ),
        // A word that is not listed is no news.
        (r#"{"state":"new","to":"573001234567"}"#, DeliveryStatus::Accepted, None),
    ] {
        fake.next(Answer::Status(200, "", body.to_owned()));
        let fetched = acme.fetch("m/1").await.expect("an answer");
        assert_eq!((fetched.status, fetched.provider_code), (status, provider_code), "{body}");
        assert_eq!(fetched.to, Some(Draft::to(NUMBER).to), "{body}");
    }
    assert_eq!(fake.requests()[0].path, "/messages/m%2F1");
    fake.next(Answer::Status(404, "", String::new()));
    assert_eq!(acme.fetch("m1").await, Err(LookupError::NotFound));
    let asked = fake.requests().len();
    for id in ["", "a b", "<m1>"] {
        assert_eq!(acme.fetch(id).await, Err(LookupError::NotFound), "{id}");
    }
    assert_eq!(fake.requests().len(), asked, "no such id is asked for");
}

#[tokio::test]
async fn every_attempt_of_a_message_has_the_same_idempotency_key() {
    let (fake, acme) = acme();
    let first = Draft::to(NUMBER);
    let second = Draft { attempt: 2, validity: Duration::from_secs(60), ..Draft::to(NUMBER) };
    let other = Draft::to("+573001234568");
    for draft in [&first, &second, &other] {
        acme.send(&draft.message()).await.expect("accepted");
    }
    let requests = fake.requests();
    let keys: Vec<&str> = requests.iter().map(|request| &*request.headers["idempotency-key"]).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
    assert!(!keys[0].contains("573001234567") && keys[0].len() == 36, "{}", keys[0]);
}

#[tokio::test]
async fn a_doubt_is_repeated_once_with_the_same_key_and_only_an_acceptance_settles_it() {
    let (fake, acme) = acme();
    fake.next(Answer::Close);
    let accepted = acme.send(&Draft::to(NUMBER).message()).await.expect("the repeat is accepted");
    assert_eq!(accepted.message_id.as_deref(), Some("m1"));
    let requests = fake.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].headers["idempotency-key"], requests[1].headers["idempotency-key"]);
    assert_eq!(requests[0].body, requests[1].body);
    // A refusal of the repeat says nothing of the first request.
    for second in [Answer::Close, Answer::Status(429, "", String::new()), Answer::Cut(500, "{".to_owned())] {
        let before = fake.requests().len();
        fake.next(Answer::Status(500, "", String::new()));
        fake.next(second);
        let failure = acme.send(&Draft::to(NUMBER).message()).await.expect_err("in doubt");
        assert!(matches!(failure, SendFailure::InDoubt { .. }), "{failure:?}");
        assert_eq!(fake.requests().len() - before, 2);
    }
}
