//! The audit stream: records of operators' acts over commands and HTTP, their publication, and `otpost audit`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::{Delivery, Outgoing, PublishError, Publisher, Target};
use otpost::clock::Clock;
use otpost::domain::audit::AuditAct;
use otpost::domain::channel::Channel;
use otpost::domain::time::UnixMillis;
use otpost::flow::audit::AuditPublisher;
use otpost::store::memory::MemoryStore;
use otpost::store::{AuditStore as _, Store as _};
use serde_json::{Value, json};

use crate::contract::broker::dead_letters::{ago, dead_letter, panicked};
use crate::contract::broker::rabbit::{RabbitWorld, in_empty_world, in_world, url};
use crate::contract::store::audit::record;
use crate::documents::messages::check_audit_record;
use crate::harness::{ALICE, RECIPIENT_KEY, with};
use crate::http::{TestServer, token};
use crate::logs::Running;
use crate::promises::secrets::has_run;
use crate::real::{Redis, redis_url};
use crate::why::said;

const MASKED: &str = "+57******4567";

fn otpost(world: &RabbitWorld, redis: &Redis, amqp: &str, arguments: &[&str]) -> Command {
    let prefix = world.names.dead();
    let mut command = Command::new(env!("CARGO_BIN_EXE_otpost"));
    command
        .args(arguments)
        .env_clear()
        .env("AMQP_URL", amqp)
        .env("AMQP_PREFIX", prefix.trim_end_matches(".dead"))
        .env("REDIS_URL", redis_url())
        .env("REDIS_PREFIX", &redis.prefix)
        .env("OTP_RECIPIENT_KEY", BASE64.encode(RECIPIENT_KEY));
    command
}

fn run(world: &RabbitWorld, redis: &Redis, arguments: &[&str]) -> Output {
    otpost(world, redis, &url(), arguments).output().expect("the binary starts")
}

/// The acts that a list shows, one object a line, each as it is documented.
fn list(world: &RabbitWorld, redis: &Redis, more: &[&str]) -> Vec<Value> {
    let (out, _) = said(&run(world, redis, &[&["audit", "list", "--json"], more].concat()), 0);
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("an object a line");
        let pending = row.as_object_mut().expect("an object").remove("pending");
        check_audit_record(&row.to_string());
        row["pending"] = pending.expect("each says so");
        row
    };
    out.lines().map(row).collect()
}

fn acts(rows: &[Value]) -> Vec<(&str, bool)> {
    rows.iter().map(|row| (row["act"].as_str().expect("a word"), row["pending"] == true)).collect()
}

#[tokio::test]
async fn acts_of_commands_are_published_and_listed_masked() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let mut worker = Running::with_servers("worker", world, &redis, &[]);
        worker.says("started").await;
        let (out, _) = said(&run(world, &redis, &["suppressions", "add", ALICE, "--reason", "asked"]), 0);
        assert!(!out.contains("pending"), "a stopping act does not wait: {out}");
        let (out, _) = said(&run(world, &redis, &["suppressions", "remove", ALICE]), 0);
        assert!(out.ends_with("\ndone\n"), "{out}");
        said(&run(world, &redis, &["rate-limit", ALICE]), 0);
        said(&run(world, &redis, &["why", "orders/1"]), 3);
        said(&run(world, &redis, &["kill-switch", "on", "--reason", "pumping"]), 0);
        let (out, err) = said(&run(world, &redis, &["kill-switch", "off", "--json"]), 0);
        assert!(serde_json::from_str::<Value>(&out).is_ok() && err.is_empty(), "{out}{err}");
        let rows = list(world, &redis, &[]);
        let expected = [
            "suppress",
            "end_suppression",
            "look_limits",
            "look_request",
            "kill_switch_on",
            "kill_switch_off",
        ];
        assert_eq!(acts(&rows), expected.map(|act| (act, false)));
        let actor = &rows[0]["actor"];
        assert!(actor["kind"] == "command" && actor["user"].is_string(), "{actor}");
        assert_eq!((&rows[0]["subject"], &rows[0]["reason"]), (&json!(MASKED), &json!("asked")));
        assert_eq!((&rows[2]["subject"], &rows[2]["result"]), (&json!(MASKED), &json!("begun")));
        assert_eq!((&rows[3]["subject"], &rows[4]["result"]), (&json!("orders/1"), &json!("done")));
        assert!(!has_run(&json!(rows).to_string(), &ALICE[3..]));
        assert_eq!(
            acts(&list(world, &redis, &["--act", "kill_switch", "--limit", "1"])),
            [("kill_switch_off", false)]
        );
        let (out, _) = said(&run(world, &redis, &["audit", "list", "--act", "look"]), 0);
        assert!(out.lines().count() == 2 && out.contains(&format!("  {MASKED}")), "{out}");
    })
    .await;
}

#[tokio::test]
async fn records_wait_in_redis_until_a_worker_can_publish_them() {
    in_empty_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let (out, _) = said(&run(world, &redis, &["kill-switch", "off"]), 0);
        assert!(out.ends_with("\ndone, audit pending\n"), "{out}");
        let (_, err) = said(&run(world, &redis, &["log-level", "debug", "--json"]), 0);
        assert_eq!(err, "otpost: done, audit pending\n");
        assert_eq!(acts(&list(world, &redis, &[])), [("kill_switch_off", true), ("log_level", true)]);
        let gone = otpost(world, &redis, "amqp://guest:guest@127.0.0.1:1/%2f", &["audit", "list"]).output();
        let (out, err) = said(&gone.expect("the binary starts"), 1);
        assert!(
            out.lines().all(|line| line.ends_with("(pending)")) && err.contains("connection refused"),
            "{out}{err}"
        );
        let mut worker = Running::with_servers("worker", world, &redis, &[]);
        worker.says("started").await;
        let both = [("kill_switch_off", false), ("log_level", false)];
        while acts(&list(world, &redis, &[])) != both {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(redis.store().read_outbox(0, false, 9).await.expect("answers").length, 0);
    })
    .await;
}

#[tokio::test]
async fn a_tail_shows_acts_as_they_are_published() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let settings = world.settings(1).with_audit("1D".parse().expect("an age"));
        let publisher = RabbitPublisher::start("results", settings);
        let publish = async |random| {
            let record = record(AuditAct::LookUser, random).to_json();
            publisher.publish(message(&record, "m-1")).await
        };
        // The first one waits for the connection, which declares the stream.
        while publish(1).await.is_err() {}
        let mut child = otpost(world, &redis, &url(), &["audit", "tail", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let first = tokio::task::spawn_blocking(move || lines.map_while(Result::ok).next());
        let mut random = 2;
        while !first.is_finished() {
            publish(random).await.expect("confirmed");
            random += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let first: Value =
            serde_json::from_str(&first.await.expect("no panic").expect("a line")).expect("an object");
        assert_eq!((&first["act"], &first["pending"]), (&json!("look_user"), &json!(false)));
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
    })
    .await;
}

fn message<'a>(body: &'a str, message_id: &'a str) -> Outgoing<'a> {
    Outgoing {
        target: Target::Audit,
        body: body.as_bytes(),
        message_id,
        correlation_id: None,
        at: Clock::System.now(),
        traceparent: None,
        tracestate: None,
    }
}

#[tokio::test]
async fn a_record_that_is_twice_in_the_stream_is_listed_once_and_another_age_is_no_obstacle() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        redis.store().kill_switch().await.expect("answers");
        let record = otpost::domain::audit::AuditRecord::new(
            AuditAct::LookUser,
            otpost::domain::audit::AuditActor::Command { user: "ana".to_owned() },
            Clock::System.now(),
            1,
        );
        for age in ["1D", "2D"] {
            let publisher =
                RabbitPublisher::start("results", world.settings(1).with_audit(age.parse().expect("an age")));
            while publisher.publish(message(&record.to_json(), "m-1")).await.is_err() {}
            publisher.close().await;
        }
        assert_eq!(acts(&list(world, &redis, &[])), [("look_user", false)]);
    })
    .await;
}

/// Keeps the ids of messages, and fails for the next ones, with or without taking them.
#[derive(Default)]
struct Taken {
    ids: Mutex<Vec<String>>,
    failures: Mutex<Vec<bool>>,
}

#[async_trait]
impl Publisher for Taken {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        assert!(message.target == Target::Audit && !message.message_id.is_empty());
        let failure = self.failures.lock().expect("no panic").pop();
        if failure != Some(false) {
            self.ids.lock().expect("no panic").push(message.message_id.to_owned());
        }
        failure.map_or(Ok(()), |_| Err(PublishError::Unconfirmed("a test".to_owned())))
    }

    async fn delay(&self, _: Channel, _: &Delivery, _: UnixMillis) -> Result<(), PublishError> {
        unreachable!("a record is no delivery")
    }
}

#[tokio::test]
async fn a_record_whose_confirm_was_lost_is_published_again_under_its_id() {
    let (store, taken) = (Arc::new(MemoryStore::new(Clock::System)), Arc::new(Taken::default()));
    let publisher = AuditPublisher { store: store.clone(), publisher: taken.clone(), clock: Clock::System };
    for random in 0..250 {
        store.record_act(&record(AuditAct::LookUser, random)).await.expect("answers");
    }
    let mut pending = 0;
    // The first is not taken, the second is taken and its confirm is lost.
    for lost in [false, true] {
        taken.failures.lock().expect("no panic").push(lost);
        publisher.drain(0, &mut pending).await.expect_err("not confirmed");
        assert_eq!(pending, 250);
    }
    publisher.drain(0, &mut pending).await.expect("confirmed");
    assert_eq!((pending, store.read_outbox(0, false, 9).await.expect("answers").length), (0, 0));
    let mut ids = taken.ids.lock().expect("no panic").clone();
    assert_eq!((ids.len(), &ids[0]), (251, &ids[1]));
    ids.dedup();
    assert_eq!(ids.len(), 250, "in order");
}

#[tokio::test]
async fn two_workers_lose_no_record() {
    let store = Arc::new(MemoryStore::new(Clock::System));
    let taken = Arc::new(Taken::default());
    let worker = || AuditPublisher { store: store.clone(), publisher: taken.clone(), clock: Clock::System };
    for random in 0..300 {
        store.record_act(&record(AuditAct::LookUser, random)).await.expect("answers");
    }
    let (first, second, mut pending) = (worker(), worker(), [0, 0]);
    let [one, other] = &mut pending;
    let (first, second) = tokio::join!(first.drain(0, one), second.drain(0, other));
    first.and(second).expect("confirmed");
    let mut ids = taken.ids.lock().expect("no panic").clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300);
}

/// What others write into the outbox would be published again and again: it is removed, and what is a record is published.
#[tokio::test]
async fn entries_that_are_no_records_are_removed_and_no_record_waits_behind_them() {
    let (redis, taken) = (Redis::fresh(), Arc::new(Taken::default()));
    let store = Arc::new(redis.store());
    store.kill_switch().await.expect("answers");
    let [first, last] = [1, 2].map(|random| record(AuditAct::LookUser, random));
    let foreign: [&[u8]; 4] = [
        b"\xff{\"id\":\"1\"}",
        b"no record",
        br#"{"id":"2","at":"never","act":"x"}"#,
        br#"{"id":"","at":"2026-12-01T00:00:00Z","act":"x"}"#,
    ];
    let (first_json, last_json) = (first.to_json(), last.to_json());
    let entries =
        [foreign[0], first_json.as_bytes(), foreign[1], foreign[2], foreign[3], last_json.as_bytes()];
    redis.replace("outbox", "RPUSH", &entries);
    let publisher = AuditPublisher { store: store.clone(), publisher: taken.clone(), clock: Clock::System };
    for _ in 0..2 {
        let mut pending = 0;
        publisher.drain(0, &mut pending).await.expect("confirmed");
        assert_eq!(pending, 0);
    }
    assert_eq!(*taken.ids.lock().expect("no panic"), [first.id(), last.id()], "each once");
    let counted = otpost::telemetry::metrics::render();
    let counted = counted.lines().find_map(|line| line.strip_prefix("otpost_audit_unreadable_total "));
    assert!(
        counted.and_then(|count| count.parse::<f64>().ok()).is_some_and(|count| count >= 4.0),
        "{counted:?}"
    );
    assert_eq!(store.read_outbox(0, false, 9).await.expect("answers").length, 0);
}

#[tokio::test]
async fn what_reads_as_a_number_or_an_address_is_masked_wherever_it_is_typed() {
    in_empty_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        redis.store().kill_switch().await.expect("answers");
        for id in [ALICE, "573001234567", "ana@shop.example", "sms-573001234567~r1"] {
            said(&run(world, &redis, &["why", id]), 3);
            said(&run(world, &redis, &["store", "show", "--request", id]), 3);
        }
        let id = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        said(&run(world, &redis, &["why", id]), 3);
        let rows = list(world, &redis, &[]);
        let subjects: Vec<&str> = rows.iter().filter_map(|row| row["subject"].as_str()).collect();
        assert_eq!((subjects.len(), subjects[8]), (9, id));
        let all = subjects.join(" ");
        assert!(!has_run(&all, &ALICE[3..]) && !all.contains("ana@"), "{all}");
    })
    .await;
}

#[tokio::test]
async fn a_look_at_a_dead_letter_is_recorded() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({})), panicked("r1", "failed"), ago(9)).await;
        let (out, _) = said(&run(world, &redis, &["dead-letters", "list", "--json"]), 0);
        let listed: Value = serde_json::from_str(&out).expect("JSON");
        let id = listed[0]["id"].as_str().expect("an id");
        // The broker returns what the reader before had, a moment later.
        while run(world, &redis, &["dead-letters", "show", id]).status.code() != Some(0) {}
        said(&run(world, &redis, &["dead-letters", "show", "0123456789ab"]), 3);
        let rows = list(world, &redis, &["--act", "look"]);
        assert_eq!((acts(&rows), &rows[0]["subject"]), (vec![("look_dead_letters", true)], &json!(id)));
        let without =
            otpost(world, &redis, &url(), &["dead-letters", "show", id]).env_remove("REDIS_URL").output();
        let (_, err) = said(&without.expect("the binary starts"), 2);
        assert!(err.contains("REDIS_URL must be set"), "{err}");
    })
    .await;
}

#[tokio::test]
async fn changes_of_keys_and_shards_are_recorded() {
    in_empty_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        redis.store().kill_switch().await.expect("answers");
        said(&run(world, &redis, &["keys", "accept", "--yes"]), 0);
        said(&run(world, &redis, &["store", "reshard", "16", "--dry-run"]), 0);
        said(&run(world, &redis, &["store", "reshard", "16"]), 0);
        let records = redis.sharded(16).read_outbox(0, false, 9).await.expect("answers").records;
        records.iter().for_each(|record| check_audit_record(record));
        let rows: Vec<Value> =
            records.iter().map(|record| serde_json::from_str(record).expect("JSON")).collect();
        assert_eq!(acts(&rows), [("accept_keys", false), ("reshard", false)]);
        assert_eq!(rows[1]["subject"], "to 16");
        assert!(
            rows[0]["subject"].as_str().is_some_and(|names| names.contains("recipient key")),
            "{}",
            rows[0]
        );
        assert_eq!(rows[1]["result"], "begun");
    })
    .await;
}

const ON: &str = "/api/v1/ops/kill-switch/on";
const SUPPRESSIONS: &str = "/api/v1/ops/suppressions";
const REQUESTS: &str = "/api/v1/sms/requests";

#[tokio::test]
async fn acts_over_http_name_the_token_and_the_client() {
    let server = TestServer::start();
    let with_id =
        token(&json!({"sub": "ana@shop", "jti": "t-1", "scope": "otp:admin", "phone_number": null}));
    let without = token(&json!({"sub": "ana@shop", "scope": "otp:admin", "phone_number": null}));
    server.post(ON, &with_id, &json!({"reason": "pumping"})).await.expect(200);
    server.post(SUPPRESSIONS, &without, &json!({"to": ALICE})).await.expect(200);
    server.post(REQUESTS, &with_id, &json!({"to": ALICE})).await.expect(200);
    let records = server.store.read_outbox(0, false, 9).await.expect("answers").records;
    records.iter().for_each(|record| check_audit_record(record));
    let rows: Vec<Value> = records.iter().map(|record| serde_json::from_str(record).expect("JSON")).collect();
    assert_eq!(acts(&rows), ["kill_switch_on", "suppress", "look_recipient"].map(|act| (act, false)));
    let actor = json!({"kind": "http", "token_id": "t-1", "client_ip": "192.0.2.1"});
    assert_eq!((&rows[0]["actor"], &rows[0]["reason"]), (&actor, &json!("pumping")));
    assert_eq!((&rows[2]["actor"], &rows[2]["subject"]), (&actor, &json!(MASKED)));
    let digest = rows[1]["actor"]["sub_digest"].as_str().expect("a digest");
    assert!(digest.len() == 32 && !records.concat().contains("ana@shop"), "{digest}");
}
