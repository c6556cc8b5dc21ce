//! Dead letters by the console's endpoints, at a real RabbitMQ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use otpost::broker::rabbit::dead_letters::RabbitDeadLetterQueue;
use otpost::broker::{DeadLetterQueue, DeadLetters, DeadLettersError};
use otpost::clock::Clock;
use otpost::domain::channel::Channel;
use otpost::domain::limit::Limits;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::flow::operate::dead_letters::replayer::Cooldowns;
use otpost::store::memory::MemoryStore;
use otpost::store::{AdmissionInput, Lease, LimitSubject, Store as _};
use serde_json::{Value, json};

use super::{audit, console, console_with, get};
use crate::contract::broker::dead_letters::{KEY, ago, dead_letter, panicked};
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::contract::broker::{World as _, next, patiently};
use crate::contract::store::request_to;
use crate::harness::{ALICE, BOB, with};
use crate::http::{TestServer, service};
use crate::promises::secrets::{captured_log, has_run, start_capturing};

const LIST: &str = "/api/v1/ops/dead-letters";
const REPLAY: &str = "/api/v1/ops/dead-letters/replay";
const DROP: &str = "/api/v1/ops/dead-letters/drop";

fn server(world: &RabbitWorld) -> TestServer {
    let queue = Arc::new(RabbitDeadLetterQueue::new(world.settings(1)));
    TestServer::with(|api| {
        api.console = Some(console(queue));
    })
}

async fn list(server: &TestServer) -> Vec<Value> {
    let answer = server.ask(get(LIST, &service())).await.expect(200);
    assert_eq!(answer["more"], false);
    answer["dead_letters"].as_array().expect("a list").clone()
}

fn id(row: &Value) -> &str {
    row["id"].as_str().expect("an id")
}

/// The worker would reject it, and its dead letter would be gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_a_recipient_that_is_cooling_down_is_refused_with_the_time() {
    in_world(async |world: &RabbitWorld| {
        let store = Arc::new(MemoryStore::new(Clock::System));
        let request = request_to(1, "r0");
        let admit = request.admit();
        let limits = Limits { cooldown: Duration::from_secs(60), ..*admit.limits };
        let recipient = RecipientKeyring::new(&KEY).address(Channel::Sms, ALICE);
        let subject = LimitSubject { recipient, ..admit.lease.subject };
        let lease = Lease { subject, ..admit.lease };
        store.admit(&AdmissionInput { lease, limits: &limits, ..admit }).await.expect("answers");
        let queue = Arc::new(RabbitDeadLetterQueue::new(world.settings(1)));
        let region = "CO".parse().expect("a region");
        let server = TestServer::with(|api| {
            api.console = Some(console_with(queue, Some(Cooldowns { store, limits, region })));
        });
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({})), panicked("r1", "failed"), ago(9)).await;
        dead_letter(world, "dead:2", &with("r2", BOB, json!({})), panicked("r2", "failed"), ago(8)).await;
        let rows = list(&server).await;
        let ids: Vec<&str> = rows.iter().map(id).collect();
        let replay = json!({"ids": ids, "dry_run": true, "force": true});
        let results = server.post(REPLAY, &service(), &replay).await.expect(200)["results"].clone();
        let why = results[0]["why"].as_str().expect("a reason");
        assert!(
            why.starts_with("its recipient is cooling down, so it would be rejected: replay it in "),
            "{why}"
        );
        assert_eq!((&results[0]["result"], &results[0]["can_be_forced"]), (&json!("refused"), &json!(false)));
        assert_eq!(results[1]["result"], "would_replay", "{results}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_listed_without_its_body_and_replayed_after_a_dry_run() {
    in_world(async |world: &RabbitWorld| {
        start_capturing();
        let server = server(world);
        assert_eq!(list(&server).await, Vec::<Value>::new());
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({})), panicked("r1", "failed"), ago(60)).await;
        dead_letter(world, "dead:2", &with("r2", ALICE, json!({})), panicked("r2", "failed"), ago(30)).await;
        let rows = list(&server).await;
        let ids: Vec<&str> = rows.iter().map(id).collect();
        assert_eq!(
            (&rows[0]["request_id"], &rows[0]["reason"]),
            (&json!("r1"), &json!("panic")),
            "oldest first"
        );
        assert_eq!((&rows[0]["sealed"], &rows[0]["by"]), (&json!(true), &json!("otpost")));
        assert!(
            rows[0]["excerpt"].as_str().expect("text").contains("\"to\":\"+############\""),
            "{}",
            rows[0]
        );
        assert!(!json!(rows).to_string().contains("3001234567"));

        let dry = json!({"ids": ids, "dry_run": true});
        let answer = server.post(REPLAY, &service(), &dry).await.expect(200);
        assert_eq!(answer["dry_run"], true);
        assert_eq!(
            answer["results"][0],
            json!({"id": ids[0], "result": "would_replay", "request_id": "r1", "new_request_id": "r1~r1"})
        );
        assert_eq!((list(&server).await.len(), world.waiting().await), (2, 0), "nothing changed");

        let replay = json!({"ids": [ids[0], "0123456789ab"], "dry_run": false});
        let answer = server.post(REPLAY, &service(), &replay).await.expect(200);
        let results: Vec<&Value> =
            answer["results"].as_array().expect("a list").iter().map(|row| &row["result"]).collect();
        assert_eq!(results, ["not_found", "replayed"], "{answer}");
        let mut consumer = world.consumer(1);
        let replayed: Value = serde_json::from_slice(&next(&mut consumer).await.body).expect("JSON");
        assert_eq!((&replayed["request_id"], &replayed["to"]), (&json!("r1~r1"), &json!(ALICE)));
        let rows = list(&server).await;
        assert_eq!((rows.len(), id(&rows[0])), (1, ids[1]));

        let dropping = |dry_run: bool| json!({"ids": [ids[1]], "dry_run": dry_run});
        for (dry_run, result, left) in [(true, "would_drop", 1), (false, "dropped", 0)] {
            let answer = server.post(DROP, &service(), &dropping(dry_run)).await.expect(200);
            assert_eq!(answer["results"][0]["result"], result, "{answer}");
            assert_eq!(list(&server).await.len(), left);
        }
        let log = captured_log();
        let acts = audit(&log).into_iter().filter(|line| line["message"] == "operator act");
        let acts: Vec<Value> = acts
            .map(|line| json!([line["action"], line["dead_letters"], line["dry_run"], line["force"]]))
            .collect();
        assert_eq!(
            acts,
            [
                json!(["replay_dead_letters", ids.join(","), true, false]),
                json!(["replay_dead_letters", format!("{},0123456789ab", ids[0]), false, false]),
                json!(["drop_dead_letters", ids[1], true, null]),
                json!(["drop_dead_letters", ids[1], false, null]),
            ]
        );
        assert!(!has_run(&log, "3001234567"), "{log}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_may_have_been_sent_is_replayed_only_if_forced() {
    in_world(async |world: &RabbitWorld| {
        let server = server(world);
        dead_letter(world, "dead:1", &with("r1", ALICE, json!({})), panicked("r1", "unknown"), ago(60)).await;
        let rows = list(&server).await;
        let body =
            |dry_run: bool, force: bool| json!({"ids": [id(&rows[0])], "dry_run": dry_run, "force": force});
        for dry_run in [true, false] {
            let answer = server.post(REPLAY, &service(), &body(dry_run, false)).await.expect(200);
            let row = &answer["results"][0];
            assert_eq!((&row["result"], &row["can_be_forced"]), (&json!("refused"), &json!(true)), "{row}");
        }
        assert_eq!((list(&server).await.len(), world.waiting().await), (1, 0));
        let answer = server.post(REPLAY, &service(), &body(false, true)).await.expect(200);
        assert_eq!(answer["results"][0]["result"], "replayed");
        assert_eq!(list(&server).await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_ids_and_the_dry_run_must_be_given_and_are_bounded() {
    let server = TestServer::start();
    let id = "0123456789ab";
    let rule = "`ids` must be a list of 1 to 100 ids of 12 hexadecimal digits; got ";
    for path in [REPLAY, DROP] {
        for (body, detail) in [
            (json!({"dry_run": true}), format!("{rule}nothing")),
            (json!({"ids": [], "dry_run": true}), format!("{rule}an array")),
            (json!({"ids": vec![id; 101], "dry_run": true}), format!("{rule}an array")),
            (json!({"ids": ["+573001234567"], "dry_run": true}), format!("{rule}another text")),
            (json!({"ids": [id]}), "`dry_run` must be true or false; got nothing".to_owned()),
            (json!({"ids": [id], "dry_run": null}), "`dry_run` must be true or false; got null".to_owned()),
            (
                json!({"ids": [id], "dry_run": "no"}),
                "`dry_run` must be true or false; got a string of 2 characters".to_owned(),
            ),
        ] {
            let problem = server.post(path, &service(), &body).await.expect_problem(422, "invalid_request");
            assert_eq!(problem["detail"], detail);
        }
        let all = json!({"ids": [id], "dry_run": true, "all": true});
        server.post(path, &service(), &all).await.expect_problem(400, "invalid_request");
    }
    let forced = json!({"ids": [id], "dry_run": true, "force": true});
    server.post(DROP, &service(), &forced).await.expect_problem(400, "invalid_request");
}

#[tokio::test]
async fn a_broker_that_is_down_is_an_error_without_an_address() {
    let server = TestServer::start();
    let problem = server.ask(get(LIST, &service())).await.expect_problem(503, "queue_unavailable");
    assert_eq!(problem["detail"], "dead letters cannot be read or changed: RabbitMQ cannot be reached");
    in_world(async |world: &RabbitWorld| {
        let queue = RabbitDeadLetterQueue::new(world.settings_at("amqp://guest:guest@127.0.0.1:1/%2f", 1));
        let server = TestServer::with(|api| api.console = Some(console(Arc::new(queue))));
        let answer = server.ask(get(LIST, &service())).await;
        answer.expect_problem(503, "queue_unavailable");
        answer.expect_nothing_of(&["127.0.0.1", "guest"]);
    })
    .await;
}

/// A broker that accepts a connection and then says nothing.
struct Silent;

#[async_trait]
impl DeadLetterQueue for Silent {
    async fn open(&self) -> Result<Box<dyn DeadLetters>, DeadLettersError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_act_has_a_time_limit_and_another_one_meanwhile_is_refused() {
    let server = TestServer::with(|api| api.console = Some(console(Arc::new(Silent))));
    let began = tokio::time::Instant::now();
    let (silent, busy) = tokio::join!(server.ask(get(LIST, &service())), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.ask(get(LIST, &service())).await
    });
    busy.expect_problem(503, "busy");
    let problem = silent.expect_problem(503, "queue_unavailable");
    assert!(problem["detail"].as_str().expect("a detail").contains("did not answer in time"), "{problem}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let began = Instant::now();
    patiently(async { server.ask(get(LIST, &service())).await.expect_problem(503, "queue_unavailable") })
        .await;
    assert!(began.elapsed() < Duration::from_secs(5), "the turn was given back");
}
