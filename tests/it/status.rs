//! The status tells the truth: queues, the reports of running processes, keys, limits, and everything that is wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::broker::Properties;
use otpost::domain::circuit_breaker::{BreakerState, Cause};
use otpost::domain::key_check::{KeyCheck, KeyFingerprint, KeyUse};
use otpost::domain::limit::Limits;
use otpost::domain::limit_hits::LimitHits;
use otpost::domain::reached_limit::ReachedLimit;
use otpost::domain::send_failure::Scope;
use otpost::domain::time::UnixMillis;
use otpost::domain::worker_state::{ProcessRole, WorkerState};
use otpost::store::Store;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world, url};
use crate::harness::{ALICE, Embedded, Options, request, with, within};
use crate::http::{TestServer, service};
use crate::inspect::{otpost, rows};
use crate::logs::Running;
use crate::real::{Redis, redis_url};
use crate::scripted::refused;

async fn status(server: &TestServer) -> Value {
    let request = Request::get("/api/v1/sms/status")
        .header(header::AUTHORIZATION, format!("Bearer {}", service()))
        .body(Body::empty());
    server.ask(request.expect("a request")).await.expect(200)
}

/// The severity and the kind of each problem.
fn problems(status: &Value) -> Vec<(&str, &str)> {
    let problems = status["problems"].as_array().expect("a list").iter();
    problems
        .map(|problem| {
            (problem["severity"].as_str().expect("a word"), problem["what"].as_str().expect("a word"))
        })
        .collect()
}

fn detail<'a>(status: &'a Value, what: &str) -> &'a str {
    let problems = status["problems"].as_array().expect("a list");
    let problem = problems.iter().find(|problem| problem["what"] == what);
    problem.unwrap_or_else(|| panic!("no {what}: {status}"))["detail"].as_str().expect("a sentence")
}

fn key(fingerprint: u8) -> KeyCheck {
    KeyCheck { key_use: KeyUse::Recipient, kid: String::new(), fingerprint: KeyFingerprint([fingerprint; 8]) }
}

async fn report(store: &dyn Store, id: u64, state: &WorkerState) {
    store.report_worker(id, Some(state)).await.expect("answers");
}

#[tokio::test]
async fn without_workers_and_servers_the_status_names_both_queues() {
    let server = TestServer::start();
    let row = status(&server).await;
    assert_eq!(problems(&row), [("warning", "no_consumers"); 2], "{row}");
    assert_eq!(
        row["queues"][0],
        json!({"channel": "sms", "queue": "otpost.send-sms", "ready": 0, "consumers": 0})
    );
    assert_eq!((&row["delayed"], &row["dead_letters"]), (&json!(0), &json!(0)));
    assert_eq!((&row["processes"], &row["keys"]), (&json!([]), &json!([])));
    assert_eq!(row["limits_hit"]["cooldown"], 0);
    let production = TestServer::with(|api| {
        api.inspector.process.production = true;
        api.inspector.process.email_enabled = false;
    });
    let row = status(&production).await;
    assert_eq!(problems(&row), [("error", "no_consumers")], "of the enabled channel");
    assert_eq!(detail(&row, "no_consumers"), "no worker consumes otpost.send-sms; 0 requests wait");
}

#[tokio::test]
async fn the_status_shows_each_report_and_adds_up_the_limits() {
    let server = TestServer::start();
    let worker = WorkerState {
        version: "1.0.0".to_owned(),
        senders: 3,
        senders_suspended: 2,
        handlers_max: 64,
        in_flight: 7,
        concurrency_limit: 16,
        concurrency_in_use: 5,
        oldest_taken: Some(Duration::from_millis(74_300)),
        limit_hits: LimitHits::of(&[(ReachedLimit::Cooldown, 2), (ReachedLimit::All, 1)]),
        uptime: Duration::from_secs(90),
        ..WorkerState::default()
    };
    let http = WorkerState {
        role: ProcessRole::Http,
        limit_hits: LimitHits::of(&[(ReachedLimit::Cooldown, 3)]),
        ..WorkerState::default()
    };
    report(&*server.store, 1, &worker).await;
    report(&*server.store, 2, &http).await;
    let row = status(&server).await;
    let find = |role: &str| {
        let processes = row["processes"].as_array().expect("a list");
        processes.iter().find(|process| process["role"] == role).expect("it reports").clone()
    };
    assert_eq!(
        find("worker"),
        json!({"id": "0000000000000001", "role": "worker", "version": "1.0.0", "uptime": 90, "silent_ms": 0, "channel": "sms",
               "draining": false, "breaker": {"state": "closed"}, "in_flight": 7, "waiting": 0, "handlers_max": 64,
               "rate": 0.0, "concurrency_limit": 16, "concurrency_in_use": 5, "senders": 3, "senders_suspended": 2,
               "oldest_taken_ms": 74_300})
    );
    assert_eq!(
        find("http"),
        json!({"id": "0000000000000002", "role": "http", "version": "", "uptime": 0, "silent_ms": 0})
    );
    assert_eq!((&row["limits_hit"]["cooldown"], &row["limits_hit"]["all"]), (&json!(5), &json!(1)));
    assert_eq!(detail(&row, "senders_suspended"), "2 of 3 sms senders are suspended");
    assert_eq!(detail(&row, "queue_time"), "a request of sms taken up in the last minute had waited 74 s");
    assert_eq!(
        detail(&row, "limit_all"),
        "the limit of all sends (SMS_MAX_PER_HOUR) refused 1 request in the last hour"
    );
}

#[tokio::test]
async fn a_pause_is_one_error_for_each_cause_and_no_missing_consumer() {
    let server = TestServer::with(|api| api.inspector.process.email_enabled = false);
    let open = |breaker_code| WorkerState {
        closed_by: Some("breaker".to_owned()),
        breaker: BreakerState::Open(Cause::Account),
        breaker_code,
        ..WorkerState::default()
    };
    for (id, code) in [(1, Some(20_003)), (2, Some(20_003)), (3, None)] {
        report(&*server.store, id, &open(code)).await;
    }
    let row = status(&server).await;
    assert_eq!(problems(&row), [("error", "sending_paused"); 2]);
    let details: Vec<&Value> =
        row["problems"].as_array().expect("a list").iter().map(|problem| &problem["detail"]).collect();
    for detail in [
        "sms is paused at 2 workers by breaker (provider's number 20003)",
        "sms is paused at 1 worker by breaker (provider_misconfigured)",
    ] {
        assert!(details.contains(&&json!(detail)), "{details:?}");
    }
    // The kill switch is one warning, whatever the number of workers.
    for id in [1, 2, 3] {
        let closed = WorkerState { closed_by: Some("kill_switch".to_owned()), ..WorkerState::default() };
        report(&*server.store, id, &closed).await;
    }
    server.store.set_kill_switch(Some("a test")).await.expect("answers");
    assert_eq!(problems(&status(&server).await), [("warning", "kill_switch")]);
    // Ten seconds without a report: none of them runs.
    server.store.set_time(UnixMillis(1_800_000_010_000));
    let row = status(&server).await;
    assert_eq!(
        problems(&row),
        [("warning", "kill_switch"), ("warning", "no_consumers"), ("warning", "process_silent")]
    );
}

#[tokio::test]
async fn a_key_that_differs_anywhere_is_an_error_that_names_the_places() {
    let server = TestServer::with(|api| {
        api.inspector.process.sms_enabled = false;
        api.inspector.process.email_enabled = false;
        api.inspector.keys = vec![key(1)];
    });
    let state =
        |role, fingerprint| WorkerState { role, keys: vec![key(fingerprint)], ..WorkerState::default() };
    report(&*server.store, 1, &state(ProcessRole::Worker, 1)).await;
    report(&*server.store, 2, &state(ProcessRole::Http, 1)).await;
    server.store.check_keys(&[key(1)]).await.expect("answers");
    let row = status(&server).await;
    assert_eq!(problems(&row), []);
    assert_eq!(
        row["keys"],
        json!([{"use": "recipient", "fingerprint": "0101010101010101", "recorded": true, "this_process": true,
                "workers": 1, "http": 1, "differs": false}])
    );
    report(&*server.store, 2, &state(ProcessRole::Http, 2)).await;
    let row = status(&server).await;
    assert_eq!(problems(&row), [("error", "key_mismatch")]);
    assert_eq!(
        detail(&row, "key_mismatch"),
        "the recipient key differs (OTP_RECIPIENT_KEY): 1 worker, Redis, this process has 0101010101010101; \
         1 http has 0202020202020202"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_a_warning() {
    let gateway = Embedded::start();
    gateway.publish(b"no JSON");
    within(async {
        while gateway.world.dead_letters().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let queues = gateway.world.broker.request_queues();
    let server = TestServer::with(|api| api.inspector.queues = Some(Arc::new(queues)));
    let row = status(&server).await;
    assert_eq!(detail(&row, "dead_letters"), "1 dead letter waits: otpost dead-letters list");
    assert_eq!((&row["dead_letters"], &row["queues"][0]["consumers"]), (&json!(1), &json!(1)));
}

async fn reported(gateway: &Embedded) -> WorkerState {
    let reported = gateway.world.store.reported_workers().await.expect("answers");
    reported.into_iter().next().expect("a report").state
}

#[tokio::test(start_paused = true)]
async fn a_worker_reports_its_breaker_its_limits_its_keys_and_the_time_in_the_queue() {
    let mut gateway = Embedded::with(Options {
        maintained: true,
        limits: Limits { cooldown: Duration::from_secs(30), ..Options::default().limits },
        ..Options::default()
    });
    let asked_at = gateway.world.clock.now();
    sleep(Duration::from_secs(40)).await;
    let late = with("late", ALICE, json!({"requested_at": asked_at.to_string()}));
    gateway.publish(&late);
    gateway.result().await.expect_sent();
    gateway.request("again", ALICE).await.expect("rejected", Some("cooldown"));
    gateway.request("again", ALICE).await.expect_replayed(true);
    sleep(Duration::from_secs(2)).await;
    let state = reported(&gateway).await;
    let waited = state.oldest_taken.expect("one was taken up");
    assert!((Duration::from_secs(40)..Duration::from_secs(42)).contains(&waited), "{waited:?}");
    assert_eq!(state.limit_hits, LimitHits::of(&[(ReachedLimit::Cooldown, 1)]), "a replay is no new refusal");
    assert_eq!((state.breaker, state.breaker_code), (BreakerState::Closed, None));
    assert_eq!((state.senders, state.senders_suspended, state.role), (1, 0, ProcessRole::Worker));
    assert!(state.uptime >= Duration::from_secs(40) && state.concurrency_limit > 0, "{state:?}");
    let names: Vec<String> = state.keys.iter().map(KeyCheck::to_string).collect();
    assert_eq!(names[0], "recipient key");
    assert!(names.len() > 1 && names[1].starts_with("code key "), "{names:?}");

    gateway.world.provider.set_healthy(false);
    gateway.world.provider.fail_next([refused(Scope::Account, 20_003)]);
    gateway.publish(&request("refused", "+573007654321"));
    gateway.world.provider.until_posted(2).await;
    sleep(Duration::from_secs(2)).await;
    let state = reported(&gateway).await;
    assert_eq!((state.breaker, state.breaker_code), (BreakerState::Open(Cause::Account), Some(20_003)));
    assert_eq!(state.closed_by.as_deref(), Some("breaker"));
    // A minute later nothing that was taken up counts any more.
    sleep(Duration::from_secs(75)).await;
    assert_eq!(reported(&gateway).await.oldest_taken, None);
}

fn settings<'a>(
    world: &'a RabbitWorld,
    redis: &'a Redis,
    amqp: &'a str,
    store: &'a str,
) -> Vec<(&'static str, &'a str)> {
    vec![
        ("ENVIRONMENT", "development"),
        ("AMQP_URL", amqp),
        ("AMQP_PREFIX", prefix(world)),
        ("REDIS_URL", store),
        ("REDIS_PREFIX", &redis.prefix),
    ]
}

fn prefix(world: &RabbitWorld) -> &'static str {
    String::leak(world.names.dead().trim_end_matches(".dead").to_owned())
}

/// Asks until the status is as wanted.
async fn until(ask: impl Fn() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let seen = async {
        loop {
            let row = ask();
            if wanted(&row) {
                return row;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the status in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_an_error_at_the_start_and_in_the_status_until_it_is_accepted() {
    in_world(async |world| {
        let (redis, amqp, store) = (Redis::fresh(), url(), redis_url());
        let base = settings(world, &redis, &amqp, &store);
        let ask = |exit: i32| rows(&otpost(&base, &["status", "--json"]), exit).remove(0);
        let mut worker = Running::spawn("worker", &base);
        worker.says("started").await;
        let row = until(
            || {
                let output = otpost(&base, &["status", "--json"]);
                rows(&output, output.status.code().expect("an exit code")).remove(0)
            },
            |row| row["queues"][0]["consumers"] == 1 && row["keys"][0]["recorded"] == true
                && row["keys"][0]["workers"] == 1,
        )
        .await;
        assert_eq!(row["processes"][0]["role"], "worker", "{row}");
        assert_eq!(problems(&ask(0)), []);

        let wrong = BASE64.encode([7; 32]);
        let mut http =
            Running::with_servers("http", world, &redis, &[("OTP_RECIPIENT_KEY", &wrong)]);
        let line = http.says("key differs from the recorded one: compare the setting with other processes' (otpost status)").await;
        assert_eq!(
            (&line["level"], &line["key"], &line["setting"]),
            (&json!("ERROR"), &json!("recipient key"), &json!("OTP_RECIPIENT_KEY")),
            "{line}"
        );
        assert!(!line.to_string().contains(&wrong), "{line}");
        let ask_any = || {
            let output = otpost(&base, &["status", "--json"]);
            rows(&output, output.status.code().expect("an exit code")).remove(0)
        };
        until(ask_any, |row| row["problems"][0]["what"] == "key_mismatch").await;
        assert_eq!(problems(&ask(3)), [("error", "key_mismatch")]);
        let text = String::from_utf8(otpost(&base, &["status"]).stdout).expect("text");
        assert!(text.starts_with("ERROR        the recipient key differs (OTP_RECIPIENT_KEY): "), "{text}");
        assert!(text.contains("  DIFFERS\n"), "{text}");

        let other = [&base[..], &[("OTP_RECIPIENT_KEY", wrong.as_str())]].concat();
        assert_eq!(rows(&otpost(&other, &["keys", "check", "--json"]), 3)[0]["differs"], true);
        assert_eq!(otpost(&other, &["keys", "accept"]).status.code(), Some(2), "without --yes");
        let accepted = rows(&otpost(&other, &["keys", "accept", "--yes", "--json"]), 0);
        assert_eq!(accepted[0]["recorded"], accepted[0]["fingerprint"]);
        assert_eq!(otpost(&base, &["keys", "check"]).status.code(), Some(3), "the old key differs now");
    })
    .await;
}

/// Redis answers all other questions, so nothing else would show it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_missing_is_an_error() {
    in_world(async |world| {
        let (redis, amqp, store) = (Redis::fresh(), url(), redis_url());
        let base = settings(world, &redis, &amqp, &store);
        let damaged = [("states", "the reports of processes"), ("keys", "key check values")];
        for (key, _) in damaged {
            let key = format!("{{{}}}:{key}", redis.prefix);
            let () = redis.run(redis::cmd("SET").arg(&key).arg("damaged"));
        }
        let row = rows(&otpost(&base, &["status", "--json"]), 3).remove(0);
        let [reports, keys] = damaged.map(|(_, what)| what);
        let unread = format!("Redis answers, but not to these questions: {reports}, {keys}");
        assert_eq!(detail(&row, "unread"), unread, "{row}");
        assert!(problems(&row).iter().all(|(_, what)| *what != "no_consumers"), "pauses are unknown: {row}");

        let mut http = Running::with_servers("http", world, &redis, &[]);
        let line = http.says("keys could not be compared with the recorded ones").await;
        assert_eq!(line["level"], "ERROR", "{line}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn production_without_consumers_exits_with_3_and_says_how_many_requests_wait() {
    in_world(async |world| {
        let (redis, amqp, store) = (Redis::fresh(), url(), redis_url());
        let base = settings(world, &redis, &amqp, &store);
        let production: Vec<_> = base.into_iter().filter(|(name, _)| *name != "ENVIRONMENT").collect();
        let production = [&production[..], &[("EMAIL_OTP_ENABLED", "false")]].concat();
        for number in 0..3 {
            world.send(&number.to_string(), Properties::default()).await;
        }
        let ask = || rows(&otpost(&production, &["status", "--json"]), 3).remove(0);
        let row = until(ask, |row| row["queues"][0]["ready"] == 3).await;
        assert_eq!(
            detail(&row, "no_consumers"),
            format!("no worker consumes {}.send-sms; 3 requests wait", prefix(world))
        );
        let text = String::from_utf8(otpost(&production, &["status"]).stdout).expect("text");
        assert!(text.starts_with("ERROR        no worker consumes "), "{text}");
    })
    .await;
}
