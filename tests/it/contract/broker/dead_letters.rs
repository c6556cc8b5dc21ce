//! Dead letters are listed, replayed and dropped, at RabbitMQ and by the command line.

mod email;
mod unreadable;

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::broker::rabbit::dead_letters::RabbitDeadLetters;
use otpost::broker::{
    DeadHeaders, DeadLetter, DeadLetters, Outgoing, Properties, PublishError, Settlement, Target,
};
use otpost::clock::Clock;
use otpost::domain::channel::Channel;
use otpost::domain::dead_letter::{DeadLetterBody, Replay, Replayed};
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::time::UnixMillis;
use serde_json::{Value, json};

use super::rabbit::{RabbitWorld, in_empty_world, in_world, url};
use super::{TRACE, World, close, next, patiently, until_waiting};
use crate::harness::{ALICE, Embedded, with};
use crate::real::{Redis, redis_url};

pub const KEY: [u8; 32] = [
    0x82, 0xf3, 0xe9, 0xc6, 0x95, 0xdc, 0x6b, 0x8d, 0x1b, 0x11, 0x81, 0x8d, 0x57, 0x01, 0x91, 0x9e, 0x28,
    0x6d, 0xe8, 0xd4, 0x7f, 0x7c, 0x3e, 0xb3, 0x10, 0x0c, 0x48, 0x5f, 0x79, 0xe5, 0x78, 0x28,
];
const ANOTHER_KEY: [u8; 32] = [
    0xdb, 0x77, 0xfd, 0x01, 0xaf, 0x95, 0x72, 0x21, 0xa4, 0x98, 0x9b, 0x64, 0xb3, 0x77, 0x0a, 0x83, 0xa3,
    0xc5, 0x60, 0x68, 0x40, 0x5b, 0x9f, 0x0e, 0x94, 0x08, 0xfe, 0xae, 0x57, 0xfd, 0x17, 0xe4,
];
const LIFE: Duration = Duration::from_secs(600);

pub fn ago(seconds: u64) -> UnixMillis {
    UnixMillis(Clock::System.now().0 - seconds * 1_000)
}

fn contents(name: &str, body: &[u8]) -> Vec<u8> {
    let contents = DeadLetterBody::of(body, name, RecipientKeyring::new(&KEY).dead_letter_key(), [3; 24]);
    serde_json::to_vec(&contents).expect("plain data")
}

/// Dead-letters a message as a worker does.
pub async fn dead_letter(
    world: &RabbitWorld,
    name: &str,
    body: &[u8],
    headers: DeadHeaders<'_>,
    at: UnixMillis,
) {
    let message = Outgoing {
        target: Target::Dead(headers),
        body: &contents(name, body),
        message_id: name,
        correlation_id: Some("order-7"),
        at,
        traceparent: Some(TRACE),
        tracestate: None,
    };
    world.publisher().publish(message).await.expect("confirmed");
}

pub fn panicked<'a>(request: &'a str, status: &'a str) -> DeadHeaders<'a> {
    DeadHeaders {
        channel: Channel::Sms,
        reason: "panic",
        error: "the message panicked its handler",
        delivery_count: 4,
        requested_at: None,
        request_id: Some(request),
        status: Some(status),
    }
}

async fn browser(world: &RabbitWorld) -> Box<dyn DeadLetters> {
    Box::new(RabbitDeadLetters::open(&world.settings(1)).await.expect("connected"))
}

/// Waits until so many dead letters can be read: the broker requeues those of an earlier browser in its own time.
async fn dead_letters(world: &RabbitWorld, wanted: usize) -> (Box<dyn DeadLetters>, Vec<DeadLetter>) {
    let found = async {
        loop {
            let mut browser = browser(world).await;
            let found = browser.browse(100).await.expect("dead letters");
            if found.len() == wanted {
                return (browser, found);
            }
            browser.close().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(found).await
}

/// Lets the broker dead-dead_letter a message.
async fn exceed_delivery_limit(world: &RabbitWorld, body: &str, properties: Properties) {
    let mut consumer = world.consumer(1);
    world.send(body, properties).await;
    for _ in 0..=otpost::broker::DELIVERY_LIMIT {
        next(&mut consumer).await.settle(Settlement::RequeueCounted);
    }
    close(consumer).await;
}

struct Finished {
    code: i32,
    out: String,
    err: String,
}

impl Finished {
    #[track_caller]
    fn expect(self, code: i32) -> Finished {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Vec<Value> {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Runs `otpost dead-letters` as an operator does.
fn run_with(world: &RabbitWorld, key: &[u8; 32], arguments: &[&str]) -> Finished {
    let prefix = world.names.dead();
    let prefix = prefix.trim_end_matches(".dead");
    // The audit records of acts go there, and leave with it.
    let redis = Redis::with_prefix(prefix);
    let output = Command::new(env!("CARGO_BIN_EXE_otpost"))
        .env_clear()
        .env("AMQP_URL", url())
        .env("AMQP_PREFIX", prefix)
        .env("REDIS_URL", redis_url())
        .env("REDIS_PREFIX", &redis.prefix)
        .env("OTP_RECIPIENT_KEY", BASE64.encode(key))
        .arg("dead-letters")
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Finished {
        code: output.status.code().expect("an exit code"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn run(world: &RabbitWorld, arguments: &[&str]) -> Finished {
    run_with(world, &KEY, arguments)
}

fn id_of(output: &Finished, request: &str) -> String {
    let rows = output.json();
    let row = rows.iter().find(|row| row["request_id"] == request);
    let row = row.unwrap_or_else(|| panic!("no dead letter of {request}: {}", output.out));
    row["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn browsing_shows_everything_and_leaves_the_dead_letters_in_the_queue() {
    in_world(async |world: &RabbitWorld| {
        let (at, made) = (ago(3), ago(9));
        let headers = DeadHeaders { requested_at: Some(made), ..panicked("r1", "unknown") };
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({})), headers, at).await;
        for reads in 0..3 {
            let (mut browser, found) = dead_letters(world, 1).await;
            let dead_letter = &found[0];
            assert_eq!(dead_letter.message_id.as_deref(), Some("dead:1"));
            assert_eq!((dead_letter.reason.as_str(), dead_letter.by_broker), ("panic", false));
            assert_eq!(dead_letter.error.as_deref(), Some("the message panicked its handler"));
            assert_eq!(dead_letter.queue, Some(world.names.requests_of(Channel::Sms)));
            assert_eq!((dead_letter.at, dead_letter.requested_at), (Some(at), Some(made)));
            assert_eq!(
                (dead_letter.request_id.as_deref(), dead_letter.status.as_deref()),
                (Some("r1"), Some("unknown"))
            );
            assert_eq!(dead_letter.delivery_count, Some(4));
            assert_eq!(dead_letter.properties.correlation_id.as_deref(), Some("order-7"));
            assert_eq!(dead_letter.properties.traceparent.as_deref(), Some(TRACE));
            assert_eq!(dead_letter.reads, reads, "whatever the broker counts as a delivery");
            assert!(
                browser.browse(100).await.expect("none").is_empty(),
                "a browser reads each dead letter once"
            );
            browser.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_of_the_broker_is_shown_as_such_whatever_headers_it_had() {
    in_world(async |world: &RabbitWorld| {
        let properties = Properties { timestamp: Some(ago(60)), ..Properties::default() };
        let made = properties.timestamp.map(UnixMillis::as_seconds);
        exceed_delivery_limit(
            world,
            r#"{"request_id":"r1","to":"+573001234567","code":"98761234"}"#,
            properties,
        )
        .await;
        let (browser, found) = dead_letters(world, 1).await;
        let dead_letter = &found[0];
        assert_eq!((dead_letter.reason.as_str(), dead_letter.by_broker), ("delivery_limit", true));
        assert_eq!(dead_letter.queue, Some(world.names.requests_of(Channel::Sms)));
        assert_eq!(dead_letter.requested_at.map(UnixMillis::as_seconds), made);
        assert!(
            dead_letter.at.expect("a time") > ago(60)
                && dead_letter.status.is_none()
                && dead_letter.error.is_none()
        );
        // A dropped browser requeues its dead letters too.
        drop(browser);
        dead_letters(world, 1).await.0.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_removed_dead_letter_is_gone_and_the_others_stay() {
    in_world(async |world: &RabbitWorld| {
        for name in ["dead:1", "dead:2", "dead:3"] {
            dead_letter(world, name, b"x", panicked("r1", "failed"), ago(1)).await;
        }
        let (mut browser, found) = dead_letters(world, 3).await;
        browser.remove(&found[1]).await.expect("removed");
        browser.close().await;
        let (browser, found) = dead_letters(world, 2).await;
        let mut names: Vec<_> =
            found.iter().filter_map(|dead_letter| dead_letter.message_id.as_deref()).collect();
        names.sort_unstable();
        assert_eq!(names, ["dead:1", "dead:3"]);
        browser.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_next_browse_sees_every_dead_letter_at_once() {
    in_world(async |world: &RabbitWorld| {
        for name in ["dead:1", "dead:2", "dead:3"] {
            dead_letter(world, name, b"x", panicked("r1", "failed"), ago(1)).await;
        }
        for _ in 0..5 {
            let mut browser = browser(world).await;
            assert_eq!(browser.browse(100).await.expect("dead letters").len(), 3);
            browser.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_unroutable_message_is_not_published_and_a_missing_queue_is_an_error() {
    in_world(async |world: &RabbitWorld| {
        world.delete_request_queue().await;
        let mut browser = browser(world).await;
        for _ in 0..2 {
            let refused = browser.publish(super::outgoing(Target::Requests(Channel::Sms), "m-1")).await;
            assert!(matches!(refused, Err(PublishError::Unroutable)), "{refused:?}");
        }
        browser.close().await;
    })
    .await;
    in_empty_world(async |world: &RabbitWorld| {
        let mut browser = browser(world).await;
        let error = browser.browse(1).await.expect_err("there is no queue").to_string();
        assert!(error.contains("NOT_FOUND") || error.contains("no queue"), "{error}");
        browser.close().await;
        assert!(run(world, &["list"]).expect(1).err.contains("no queue"));
    })
    .await;
}

#[tokio::test]
async fn a_list_shows_no_number_and_no_code_and_ids_stay_the_same() {
    in_world(async |world: &RabbitWorld| {
        assert_eq!(run(world, &["list"]).expect(0).out, "no dead letters\n");
        assert!(run(world, &["list", "--json"]).expect(0).json().is_empty());
        let odd = "\u{1b}[2J\u{202e}\u{2066}\u{200f}\u{200b}\u{2028}\u{9b}\u{feff}\u{ad}\u{e0041}";
        let own = with("own", ALICE, json!({"code": "98761234", "user_name": format!("Ana{odd}")}));
        dead_letter(world, "dead:1", &own, panicked("own", "failed"), ago(7_300)).await;
        let error = format!("no {odd} id");
        let unread = DeadHeaders { reason: "unattributable", error: &error, ..DeadHeaders::default() };
        dead_letter(world, "dead:2", b"code 98761234 for +573001234567", unread, ago(90)).await;
        exceed_delivery_limit(
            world,
            r#"{"request_id":"worn","to":"+573001234567","code":"98761234"}"#,
            Properties::default(),
        )
        .await;
        dead_letters(world, 3).await.0.close().await;

        let list = run(world, &["list", "--json"]).expect(0);
        let ids: Vec<Value> = list.json().into_iter().map(|row| row["id"].clone()).collect();
        let table = run(world, &["list"]).expect(0);
        assert_eq!(table.out.lines().count(), 4);
        let mut texts = vec![list.out.clone(), table.out.clone()];
        for id in &ids {
            let id = id.as_str().expect("an id");
            assert!(id.len() == 12 && table.out.contains(id), "{}", table.out);
            texts.push(run(world, &["show", id]).expect(0).out);
            texts.push(run(world, &["show", id, "--json"]).expect(0).out);
        }
        let printed = texts.len();
        let (browser, found) = dead_letters(world, 3).await;
        browser.close().await;
        for dead_letter in found.iter().filter(|dead_letter| !dead_letter.by_broker) {
            texts.push(String::from_utf8_lossy(&dead_letter.body).into_owned());
        }
        for text in &texts {
            for secret in ["98761234", "3001234567", "Ana", "\u{1b}"] {
                assert!(!text.contains(secret), "{secret:?} is in {text}");
            }
        }
        // A terminal obeys such characters. JSON keeps them, escaped.
        for text in &texts[..printed] {
            let obeyed = odd.chars().filter(|character| !character.is_ascii_graphic());
            obeyed.for_each(|obeyed| assert!(!text.contains(obeyed), "{obeyed:?} is in {text}"));
        }
        let errors: Vec<Value> = list.json().into_iter().map(|row| row["error"].clone()).collect();
        assert!(errors.contains(&json!(error)), "{errors:?}");
        assert!(table.out.contains("2 h") && table.out.contains("delivery_limit"), "{}", table.out);
        let broker = &list.json()[2];
        assert_eq!((&broker["by"], &broker["request_id"]), (&json!("broker"), &json!("worn")));
        let shown = &run(world, &["show", &id_of(&list, "own"), "--json"]).expect(0).json()[0];
        assert_eq!((&shown["sealed"], &shown["code_removed"]), (&json!(true), &json!(true)));
        assert!(shown["excerpt"].as_str().expect("a shape").contains(r#""to":"+############""#), "{shown}");

        let panics = run(world, &["list", "--reason", "panic", "--json"]).expect(0);
        assert_eq!(panics.json().len(), 1);
        assert_eq!(run(world, &["list", "--limit", "2", "--json"]).expect(0).json().len(), 2);
        run(world, &["show", "000000000000"]).expect(3);
        run(world, &["list", "--limit", "0"]).expect(2);
        run(world, &["list", "--limit", "10001"]).expect(2);
    })
    .await;
}

#[tokio::test]
async fn a_replayed_dead_letter_becomes_a_request_with_another_id() {
    in_world(async |world: &RabbitWorld| {
        let made = ago(30);
        let headers = DeadHeaders { requested_at: Some(made), ..panicked("r1", "failed") };
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({"user_name": "Ana"})), headers, ago(20)).await;
        let list = run(world, &["list", "--json"]).expect(0);
        let id = id_of(&list, "r1");

        let dry_run = run(world, &["replay", &id, "--dry-run"]).expect(0);
        assert_eq!(dry_run.out, format!("{id}  would replay  r1 -> r1~r1\n"));
        let output = run(world, &["replay", &id]).expect(0);
        // No worker runs.
        assert_eq!(output.out, format!("{id}  replayed  r1 -> r1~r1\ndone, audit pending\n"));
        let mut consumer = world.consumer(4);
        let delivery = next(&mut consumer).await;
        let body: Value = serde_json::from_slice(&delivery.body).expect("JSON");
        assert_eq!(body, json!({"request_id": "r1~r1", "to": ALICE, "user_name": "Ana"}));
        let properties = &delivery.properties;
        assert_eq!(properties.timestamp.map(UnixMillis::as_seconds), Some(made.as_seconds()));
        assert_eq!(properties.correlation_id.as_deref(), Some("order-7"));
        assert_eq!((properties.traceparent.as_deref(), properties.reply_to.as_deref()), (Some(TRACE), None));
        delivery.settle(Settlement::Ack);
        close(consumer).await;
        dead_letters(world, 0).await.0.close().await;
        until_waiting(world, 0).await;
        run(world, &["replay", &id]).expect(3);
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_of_the_broker_is_replayed_whole_without_its_reply_queue() {
    in_world(async |world: &RabbitWorld| {
        let properties = Properties {
            reply_to: Some("reply.me".to_owned()),
            correlation_id: Some("c-1".to_owned()),
            ..Properties::default()
        };
        let body = r#"{"request_id":"worn~r1","to":"+573001234567","code":"98761234"}"#;
        exceed_delivery_limit(world, body, properties).await;
        dead_letters(world, 1).await.0.close().await;
        // Workers may have crashed after they had sent it: the operator has to decide.
        let chosen = ["replay", "--all", "--reason", "delivery_limit", "--json"];
        run(world, &chosen).expect(3);
        dead_letters(world, 1).await.0.close().await;
        let output = run(world, &[&chosen[..], &["--force"]].concat()).expect(0);
        let row = &output.json()[0];
        assert_eq!((&row["result"], &row["new_request_id"]), (&json!("replayed"), &json!("worn~r2")));
        let mut consumer = world.consumer(1);
        let delivery = next(&mut consumer).await;
        let replayed: Value = serde_json::from_slice(&delivery.body).expect("JSON");
        assert_eq!(replayed, json!({"request_id": "worn~r2", "to": ALICE, "code": "98761234"}));
        assert_eq!(delivery.properties.reply_to, None);
        assert_eq!(delivery.properties.correlation_id.as_deref(), Some("c-1"));
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_refused_with_its_reason_and_forced_only_where_it_makes_sense() {
    in_world(async |world: &RabbitWorld| {
        let now = ago(1);
        let late = json!({"requested_at": ago(601).to_string(), "not_after": ago(5).to_string()});
        dead_letter(world, "dead:1", &with("late", ALICE, late), panicked("late", "failed"), now).await;
        dead_letter(world, "dead:2", &with("doubt", ALICE, json!({})), panicked("doubt", "unknown"), now)
            .await;
        let own = with("own", ALICE, json!({"code": "98761234"}));
        dead_letter(world, "dead:3", &own, panicked("own", "failed"), now).await;
        let unread = DeadHeaders { reason: "unattributable", ..DeadHeaders::default() };
        dead_letter(world, "dead:4", br#"{"to":"+573001234567"}"#, unread, now).await;
        dead_letter(world, "dead:5", b"no JSON", unread, now).await;

        let refused = run(world, &["replay", "--all", "--json"]).expect(3);
        let mut rows: Vec<_> = refused
            .json()
            .into_iter()
            .map(|row| {
                let why = row["why"].as_str().expect("words").to_owned();
                (row["request_id"].as_str().unwrap_or("").to_owned(), row["can_be_forced"] == true, why)
            })
            .collect();
        rows.sort();
        let expected = [
            ("", false, "it holds no valid request: `request_id`"),
            ("", false, "its message was not kept"),
            ("doubt", true, "it may have been sent"),
            ("late", true, "its request has expired"),
            ("own", false, "the caller's own code was removed"),
        ];
        for (row, (request, forced, why)) in rows.iter().zip(expected) {
            assert_eq!((row.0.as_str(), row.1), (request, forced), "{}", row.2);
            assert!(row.2.starts_with(why), "{}", row.2);
        }
        assert_eq!((rows.len(), world.waiting().await), (5, 0));

        let wrong_key = run_with(world, &ANOTHER_KEY, &["replay", "--all", "--force"]).expect(3);
        assert_eq!(wrong_key.out.matches("is OTP_RECIPIENT_KEY the one").count(), 3, "{}", wrong_key.out);
        let dry_run = run(world, &["replay", "--all", "--force", "--dry-run"]).expect(3);
        assert_eq!((dry_run.out.matches("would replay").count(), world.waiting().await), (2, 0));
        run(world, &["replay", "--all", "--force"]).expect(3);
        dead_letters(world, 3).await.0.close().await;
        let mut consumer = world.consumer(4);
        let mut forced = Vec::new();
        for _ in 0..2 {
            let delivery = next(&mut consumer).await;
            assert!(delivery.properties.timestamp.expect("a time") > ago(60), "it counts from now");
            forced.push(serde_json::from_slice::<Value>(&delivery.body).expect("JSON"));
            delivery.settle(Settlement::Ack);
        }
        forced.sort_by_key(ToString::to_string);
        let expected = ["doubt~r1", "late~r1"].map(|id| json!({"request_id": id, "to": ALICE}));
        assert_eq!(forced, expected, "a late one loses its times");
    })
    .await;
}

#[tokio::test]
async fn dropped_dead_letters_are_gone_and_a_choice_must_be_made() {
    in_world(async |world: &RabbitWorld| {
        for (name, request) in [("dead:1", "r1"), ("dead:2", "r2")] {
            dead_letter(world, name, b"{}", panicked(request, "failed"), ago(1)).await;
        }
        let unread = DeadHeaders { reason: "unattributable", ..DeadHeaders::default() };
        dead_letter(world, "dead:3", b"{}", unread, ago(1)).await;
        for wrong in [&["drop"] as &[&str], &["drop", "0", "--all"], &["drop", "0", "--reason", "panic"]] {
            run(world, wrong).expect(2);
        }
        let id = id_of(&run(world, &["list", "--json"]).expect(0), "r1");
        let dry_run = run(world, &["drop", &id, "--dry-run"]).expect(0);
        assert_eq!(dry_run.out, format!("{id}  would drop  r1\n"));
        let output = run(world, &["drop", &id, "ffffffffffff"]).expect(3);
        assert!(output.out.contains(&format!("{id}  dropped  r1\n")), "{}", output.out);
        assert!(output.out.contains("ffffffffffff  not found: "), "{}", output.out);
        dead_letters(world, 2).await.0.close().await;
        let unsaid = run(world, &["drop", "--all"]).expect(2);
        assert_eq!(unsaid.out.matches("would drop").count(), 2, "{}", unsaid.out);
        assert!(unsaid.err.contains("nothing was dropped") && unsaid.err.contains("--yes"), "{}", unsaid.err);
        run(world, &["drop", "--all", "--dry-run"]).expect(0);
        dead_letters(world, 2).await.0.close().await;
        run(world, &["drop", "--all", "--reason", "panic", "--yes"]).expect(0);
        dead_letters(world, 1).await.0.close().await;
        run(world, &["drop", "--all", "--reason", "panic"]).expect(3);
        run(world, &["drop", "--all", "--yes"]).expect(0);
        dead_letters(world, 0).await.0.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_list_shows_the_known_reasons_and_times_as_everywhere() {
    in_world(async |world: &RabbitWorld| {
        let none = run(world, &["list"]).expect(0);
        assert_eq!(none.out, "no dead letters\n");
        for wrong in [&["list"] as &[&str], &["drop", "--all"], &["replay", "--all"]] {
            let output = run(world, &[wrong, &["--reason", "foo"]].concat()).expect(2);
            for reason in ["unattributable", "panic", "crash", "delivery_limit"] {
                assert!(output.err.contains(reason), "{}", output.err);
            }
        }
        let (at, made) = (ago(3), ago(9));
        let headers = DeadHeaders { requested_at: Some(made), ..panicked("r1", "failed") };
        dead_letter(world, "dead:1", b"{}", headers, at).await;
        let listed = run(world, &["list", "--reason", "panic", "--json"]).expect(0);
        assert_eq!(listed.json()[0]["at"], json!(at.to_string()));
        let shown = run(world, &["show", &id_of(&listed, "r1"), "--json"]).expect(0);
        assert_eq!(shown.json()[0]["requested_at"], json!(made.to_string()));
        assert!(run(world, &["list", "--reason", "crash", "--json"]).expect(0).json().is_empty());
    })
    .await;
}

/// The request of a dead letter under its next id, as the command makes it.
fn replay_of(dead_letter: &DeadLetter) -> Replay {
    let contents: DeadLetterBody = serde_json::from_slice(&dead_letter.body).expect("ours");
    let name = dead_letter.message_id.as_deref().expect("a name");
    let key = RecipientKeyring::new(&KEY);
    let body = key.dead_letter_key().open(name, &contents.sealed.expect("sealed")).expect("our key");
    let replayed = Replayed { body: &body, at: dead_letter.at, status: None };
    replayed.replay(Clock::System.now(), LIFE, false).expect("in time")
}

#[tokio::test]
async fn a_replay_that_broke_off_before_the_removal_sends_one_message() {
    in_world(async |world: &RabbitWorld| {
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({})), panicked("r1", "failed"), ago(1)).await;
        let (mut crashing, found) = dead_letters(world, 1).await;
        let replay = replay_of(&found[0]);
        let message = Outgoing {
            body: &replay.body,
            ..super::outgoing(Target::Requests(Channel::Sms), "replay:r1~r1")
        };
        crashing.publish(message).await.expect("confirmed");
        drop(crashing);
        dead_letters(world, 1).await.0.close().await;
        run(world, &["replay", "--all"]).expect(0);

        let mut consumer = world.consumer(4);
        let mut gateway = Embedded::start();
        for again in [false, true] {
            let delivery = next(&mut consumer).await;
            gateway.publish(&delivery.body);
            let result = gateway.result().await;
            result.expect_sent().expect_replayed(again);
            assert_eq!(result.body["request_id"], "r1~r1");
            delivery.settle(Settlement::Ack);
        }
        assert_eq!(gateway.posted().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_command_says_that_there_are_more_dead_letters_than_it_read() {
    in_world(async |world: &RabbitWorld| {
        for name in ["dead:1", "dead:2", "dead:3"] {
            dead_letter(world, name, b"{}", panicked(name, "failed"), ago(10)).await;
        }
        let (browser, _) = dead_letters(world, 3).await;
        browser.close().await;
        for (limit, left_out) in [("2", true), ("3", false)] {
            let (browser, _) = dead_letters(world, 3).await;
            browser.close().await;
            let listed = run(world, &["list", "--json", "--limit", limit]).expect(0);
            assert_eq!(listed.json().len().to_string(), limit);
            assert_eq!(listed.err.contains("more dead letters than the"), left_out, "{}", listed.err);
        }
    })
    .await;
}
