//! `/scale` beside a real RabbitMQ and a real Redis. Workers are consumers of the queue with the reports that a worker makes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use otpost::broker::rabbit::request_queues::RabbitRequestQueues;
use otpost::broker::{Properties, RequestConsumer, RequestQueues as _};
use otpost::domain::scaling::ScalePolicy;
use otpost::domain::shards::Shards;
use otpost::domain::worker_state::{Rate, WorkerState};
use otpost::flow::scaler::Scaler;
use otpost::http::ops_router;
use otpost::store::Store;
use otpost::store::redis::RedisStore;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::real::Redis;

const PATIENCE: Duration = Duration::from_secs(20);
const POLICY: ScalePolicy = ScalePolicy { workers_max: 20, backlog_within: Duration::from_secs(30) };
/// Nothing listens on the port of a TCP multiplexer.
const NOWHERE: &str = "127.0.0.1:1";

struct Servers<'a> {
    rabbit: &'a RabbitWorld,
    redis: Redis,
}

async fn on_servers(test: impl AsyncFnOnce(Servers<'_>)) {
    in_world(async |rabbit| test(Servers { rabbit, redis: Redis::fresh() }).await).await;
}

impl Servers<'_> {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.redis.store())
    }

    fn queues(&self) -> Arc<RabbitRequestQueues> {
        Arc::new(RabbitRequestQueues::new(self.rabbit.settings(1)))
    }

    /// Of an API that has just started.
    fn scaler(&self) -> Arc<Scaler> {
        Arc::new(Scaler::new(self.store(), self.queues(), POLICY))
    }

    async fn scale(&self) -> Value {
        ask(&self.scaler()).await.expect("the number is known")
    }

    async fn scale_until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = async {
            loop {
                let answer = self.scale().await;
                if wanted(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the answer in time")
    }

    /// Every worker reports one state of its text messages.
    async fn report(&self, workers: u64, state: &WorkerState) {
        let store = self.store();
        for worker in 1..=workers {
            store.report_worker(worker, Some(state)).await.expect("Redis answers");
        }
    }

    async fn send(&self, count: usize) {
        for number in 0..count {
            self.rabbit.send(&number.to_string(), Properties::default()).await;
        }
    }

    fn consumers(&self, count: usize) -> Vec<Box<dyn RequestConsumer>> {
        (0..count).map(|_| self.rabbit.consumer(1)).collect()
    }
}

/// The body of a 200, or the text of a 503.
async fn ask(scaler: &Arc<Scaler>) -> Result<Value, String> {
    let router = ops_router(Arc::new(|| Ok(())), Some(scaler.clone()));
    let request = Request::get("/scale").body(Body::empty()).expect("a request");
    let answer = router.oneshot(request).await.expect("a router always answers");
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.expect("a short answer");
    match status {
        200 => Ok(serde_json::from_slice(&body).expect("JSON")),
        503 => Err(String::from_utf8(body.to_vec()).expect("a text")),
        other => panic!("{other}: {body:?}"),
    }
}

/// Ends 10 a second with all its slots, and is half busy.
fn busy() -> WorkerState {
    WorkerState {
        handlers_max: 10,
        in_flight: 5,
        ended: Rate::per_second(5.0),
        capacity: Some(Rate::per_second(10.0)),
        ..WorkerState::default()
    }
}

fn sms(answer: &Value) -> &Value {
    assert_eq!(answer["channels"][0]["channel"], "sms");
    &answer["channels"][0]
}

#[tokio::test]
async fn a_backlog_starts_workers() {
    on_servers(async |servers| {
        servers.report(2, &busy()).await;
        // Each of the two holds one request.
        let _consumers = servers.consumers(2);
        servers.send(302).await;
        let answer =
            servers.scale_until(|answer| sms(answer)["ready"] == 300 && sms(answer)["consumers"] == 2).await;
        assert_eq!((&answer["wanted"], &answer["present"]), (&3.into(), &2.into()), "{answer}");
        assert_eq!(sms(&answer)["reason"], "load");
    })
    .await;
}

#[tokio::test]
async fn a_pause_holds_the_workers() {
    on_servers(async |servers| {
        servers.report(2, &WorkerState { closed_by: Some("breaker".to_owned()), ..busy() }).await;
        let mut consumers = servers.consumers(2);
        for consumer in &mut consumers {
            consumer.pause().await;
        }
        servers.send(400).await;
        let answer = servers.scale_until(|answer| sms(answer)["ready"].as_u64() >= Some(398)).await;
        assert_eq!(
            (&answer["wanted"], &sms(&answer)["reason"]),
            (&2.into(), &"gate_closed".into()),
            "{answer}"
        );
        assert_eq!(sms(&answer)["closed_by"], "breaker");
    })
    .await;
}

#[tokio::test]
async fn workers_that_do_not_consume_are_held() {
    on_servers(async |servers| {
        servers.report(3, &busy()).await;
        servers.send(400).await;
        let answer = servers.scale_until(|answer| sms(answer)["ready"] == 400).await;
        assert_eq!(
            (&answer["wanted"], &sms(&answer)["reason"]),
            (&3.into(), &"not_consuming".into()),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn without_a_worker_the_number_is_unknown() {
    on_servers(async |servers| {
        servers.send(10).await;
        let scaler = Arc::new(Scaler::new(servers.store(), servers.queues(), POLICY));
        let detail = ask(&scaler).await.expect_err("unknown");
        assert_eq!(detail.trim_end(), "the number is unknown: no worker reports or consumes");
    })
    .await;
}

#[tokio::test]
async fn two_apis_agree() {
    on_servers(async |servers| {
        servers.report(4, &busy()).await;
        let _consumers = servers.consumers(4);
        servers.send(1_000).await;
        servers.scale_until(|answer| sms(answer)["ready"] == 996 && sms(answer)["consumers"] == 4).await;
        let (one, other) = (servers.scaler(), servers.scaler());
        let (one, other) = tokio::join!(ask(&one), ask(&other));
        assert_eq!(one, other);
        assert_eq!(one.expect("known")["wanted"], 8);
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_kept_for_some_seconds() {
    on_servers(async |servers| {
        let scaler = servers.scaler();
        servers.report(1, &busy()).await;
        let first = ask(&scaler).await.expect("known");
        servers.report(3, &busy()).await;
        assert_eq!(ask(&scaler).await.expect("known"), first);
        assert_eq!(servers.scale().await["present"], 3, "another API reads anew");
    })
    .await;
}

#[tokio::test]
async fn without_rabbitmq_the_workers_are_held() {
    on_servers(async |servers| {
        servers.report(3, &busy()).await;
        let settings = servers.rabbit.settings_at(&format!("amqp://guest:guest@{NOWHERE}/%2f"), 1);
        let queues = Arc::new(RabbitRequestQueues::new(settings));
        let answer =
            ask(&Arc::new(Scaler::new(servers.store(), queues, POLICY))).await.expect("Redis knows them");
        assert_eq!(
            (&answer["wanted"], &sms(&answer)["reason"]),
            (&3.into(), &"queue_unknown".into()),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn without_redis_the_number_is_unknown() {
    on_servers(async |servers| {
        let _consumers = servers.consumers(2);
        let url = format!("redis://:hunter2@{NOWHERE}");
        let store = RedisStore::connect(&url, &servers.redis.prefix, Shards::ONE).expect("a URL");
        let began = tokio::time::Instant::now();
        let scaler = Arc::new(Scaler::new(Arc::new(store), servers.queues(), POLICY));
        let detail = ask(&scaler).await.expect_err("unknown");
        assert!(
            detail.starts_with("the number is unknown: the workers' states cannot be read: "),
            "{detail}"
        );
        assert!(!detail.contains("hunter2") && !detail.contains(NOWHERE), "{detail}");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_was_lost_is_made_again() {
    on_servers(async |servers| {
        let queues = servers.queues();
        queues.depths().await.expect("RabbitMQ answers");
        // A missing queue closes its AMQP channel, not the connection.
        servers.rabbit.delete_request_queue().await;
        for _ in 0..3 {
            assert_eq!(queues.depths().await.expect("RabbitMQ answers")[0].ready, 0);
        }
        // A reading that is given up takes its connection with it.
        let _ = tokio::time::timeout(Duration::ZERO, queues.depths()).await;
        queues.depths().await.expect("a new connection");
    })
    .await;
}
