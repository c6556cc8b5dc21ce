//! A real RabbitMQ that takes its users from client certificates (SASL EXTERNAL), and certificates that are renewed.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use otpost::broker::rabbit::RabbitSettings;
use otpost::broker::rabbit::consumer::RabbitConsumer;
use otpost::broker::rabbit::health_check::RabbitHealthCheck;
use otpost::broker::rabbit::publish::RabbitPublisher;
use otpost::broker::rabbit::rpc::RabbitRpcClient;
use otpost::broker::rabbit::topology::declare_topology;
use otpost::broker::{
    HealthCheck as _, Names, Outgoing, Publisher as _, RequestConsumer as _, RpcClient as _,
};
use otpost::broker::{Settlement, Target};
use otpost::domain::channel::Channel;
use otpost::domain::time::UnixMillis;
use otpost::tls::{Look, TlsClient};

use tokio::sync::watch;

use super::own_rabbit::OwnRabbit;
use super::pki::Pki;
use crate::contract::broker::patiently;
use crate::damaged::{readiness, until_ready};
use crate::logs::Running;
use crate::real::{Redis, redis_url};

fn settings(rabbit: &OwnRabbit, tls: TlsClient) -> RabbitSettings {
    let settings = RabbitSettings::new(&rabbit.url(), Names::new("tls"), 8).expect("a URL");
    settings.with_tls(Some(tls))
}

async fn scene() -> Option<(Pki, OwnRabbit)> {
    let pki = Pki::new()?;
    for authority in ["private", "other"] {
        pki.authority(authority);
    }
    pki.issue("private", "server", "localhost");
    pki.issue("private", "client", "otpost");
    pki.issue("private", "unknown", "unknown");
    pki.issue("other", "stranger", "otpost");
    let rabbit = OwnRabbit::start(&pki).await?;
    Some((pki, rabbit))
}

fn request(id: &str) -> Outgoing<'_> {
    Outgoing {
        target: Target::Requests(Channel::Sms),
        body: b"{}",
        message_id: id,
        correlation_id: Some(id),
        at: UnixMillis(1),
        traceparent: None,
        tracestate: None,
    }
}

/// One server for all, as it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_takes_the_user_from_the_certificate_and_renewals_lose_nothing() {
    let Some((pki, rabbit)) = scene().await else { return };
    log_ins(&pki, &rabbit).await;
    worker(&pki, &rabbit).await;
    renewals(&pki, &rabbit).await;
    renewal_during_an_alarm(&pki, &rabbit).await;
}

/// The real binary: it is ready, and where it trusts another authority the log and the probe name the fault.
async fn worker(pki: &Pki, rabbit: &OwnRabbit) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ops = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let redis = Redis::fresh();
    let (amqp, redis_url) = (rabbit.url(), redis_url());
    let [ca, other, certificate, key] =
        ["private.pem", "other.pem", "client.crt", "client.key"].map(|file| pki.path(file));
    let settings = |ca| {
        [
            ("ENVIRONMENT", "development"),
            ("OPS_ADDR", ops.as_str()),
            ("AMQP_URL", &amqp),
            ("AMQP_CA_FILE", ca),
            ("AMQP_CLIENT_CERT_FILE", &certificate),
            ("AMQP_CLIENT_KEY_FILE", &key),
            ("REDIS_URL", &redis_url),
            ("REDIS_PREFIX", &redis.prefix),
        ]
    };
    let mut trusting = Running::spawn("worker", &settings(&ca));
    trusting.says("started").await;
    until_ready(&ops).await;
    drop(trusting);
    let mut distrusting = Running::spawn("worker", &settings(&other));
    let lost = distrusting.says("broker connection lost").await;
    let fault = "the certificate of RabbitMQ has an unknown issuer: AMQP_CA_FILE names the file of another; correct it";
    assert_eq!(lost["error"], format!("connect: {fault}"), "{lost}");
    let words = format!("not consuming: RabbitMQ is not connected: cannot be reached: {fault}");
    patiently(async {
        while TcpStream::connect(&ops).is_err() || !readiness(&ops).contains(&words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn log_ins(pki: &Pki, rabbit: &OwnRabbit) {
    let check = async |authority, client| {
        let tls = pki.client(authority, client);
        RabbitHealthCheck::new(settings(rabbit, tls)).check().await
    };
    assert_eq!(check("private", Some("client")).await, Ok(()));
    for (authority, client, words) in [
        ("private", Some("unknown"), "ACCESS_REFUSED"),
        ("private", Some("stranger"), "RabbitMQ refuses our client certificate"),
        ("private", None, "RabbitMQ requires a client certificate: set AMQP_CLIENT_CERT_FILE"),
        (
            "other",
            Some("client"),
            "has an unknown issuer: AMQP_CA_FILE names the file of another; correct it",
        ),
    ] {
        // RabbitMQ may close so soon that its reason is lost with the connection.
        patiently(async {
            loop {
                let refusal = check(authority, client).await.expect_err("refused");
                assert!(!refusal.contains("127.0.0.1"), "{refusal}");
                if refusal.contains(words) {
                    return;
                }
                assert!(refusal.contains("connection reset by peer"), "{refusal}");
            }
        })
        .await;
    }
}

/// Requests are published, and consumed with results to callers, while the certificate is renewed again and again.
async fn renewals(pki: &Pki, rabbit: &OwnRabbit) {
    let tls = pki.client("private", Some("client"));
    let settings = settings(rabbit, tls.clone());
    declare_topology(&settings).await.expect("declared");
    let publisher = RabbitPublisher::start("results", settings.clone());
    let rpc_client = RabbitRpcClient::start(settings.clone());
    let mut consumer = RabbitConsumer::start(settings, Channel::Sms);
    let connections = publisher.connected();
    let (mut published, mut consumed) = (0_usize, BTreeSet::new());
    let (mut twice, mut held) = (0, Vec::new());
    let publish = async {
        for nth in 0.. {
            let id = format!("r{nth}");
            match nth % 2 {
                0 => publisher.publish(request(&id)).await.expect("confirmed"),
                _ => drop(rpc_client.request(request(&id), Duration::ZERO).await.expect("confirmed")),
            }
            published += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let consume = async {
        while let Some(delivery) = consumer.next().await {
            let id = delivery.properties.correlation_id.clone().expect("it has one");
            twice += usize::from(!consumed.insert(id));
            // Some are settled later, over a connection that has been replaced meanwhile.
            held.push(delivery);
            if held.len() > 6 {
                held.drain(..).for_each(|delivery| delivery.settle(Settlement::Ack));
            }
        }
    };
    let renew = async {
        for nth in 0..5 {
            let name = format!("renewed-{nth}");
            pki.issue("private", &name, "otpost");
            pki.replace("client", &name);
            assert_eq!(tls.look().await, Look::Reloaded);
            tokio::time::sleep(Duration::from_millis(700)).await;
            assert!(*connections.borrow(), "publishers stay connected");
        }
    };
    tokio::select! {
        () = patiently(renew) => {}
        () = publish => unreachable!("publishing goes on"),
        () = consume => unreachable!("consuming goes on"),
    }
    held.drain(..).for_each(|delivery| delivery.settle(Settlement::Ack));
    let opened = rabbit.opened_connections();
    assert!(opened >= 3 * 5, "each renewal replaces three connections: {opened}");
    assert!(published > 100, "{published}");
    let drained = async {
        while consumed.len() < published {
            let delivery = consumer.next().await.expect("more");
            let id = delivery.properties.correlation_id.clone().expect("it has one");
            twice += usize::from(!consumed.insert(id));
            delivery.settle(Settlement::Ack);
        }
    };
    patiently(drained).await;
    // At a cancellation RabbitMQ takes back what it has not written yet: redelivered, although it never arrived.
    assert_eq!(twice, 0, "no connection was lost with deliveries");
    Box::new(consumer).close().await;
    publisher.close().await;
}

/// A message is on its way while the server takes none: the connection stays, although the certificate is a new one.
async fn renewal_during_an_alarm(pki: &Pki, rabbit: &OwnRabbit) {
    let tls = pki.client("private", Some("client"));
    let settings = settings(rabbit, tls.clone());
    let publisher = Arc::new(RabbitPublisher::start("results", settings.clone()));
    let blocked = publisher.blocked();
    let until = async |mut watched: watch::Receiver<bool>, wanted| {
        patiently(watched.wait_for(|now| *now == wanted)).await.expect("the publisher lives");
    };
    until(publisher.connected(), true).await;
    rabbit.set_alarm(true).await;
    // RabbitMQ tells of the alarm at the first message.
    let sent = Arc::clone(&publisher);
    let waiting = tokio::spawn(async move { sent.publish(request("during")).await });
    until(blocked.clone(), true).await;
    let opened = rabbit.opened_connections();
    pki.issue("private", "during", "otpost");
    pki.replace("client", "during");
    assert_eq!(tls.look().await, Look::Reloaded);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(rabbit.opened_connections(), opened, "a server under an alarm declares nothing");
    assert!(*blocked.borrow() && !waiting.is_finished());
    rabbit.set_alarm(false).await;
    patiently(waiting).await.expect("no panic").expect("confirmed");
    until(blocked, false).await;
    patiently(async {
        while rabbit.opened_connections() == opened {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    publisher.publish(request("after")).await.expect("confirmed");
    let mut consumer = RabbitConsumer::start(settings, Channel::Sms);
    let mut arrived = Vec::new();
    while arrived.len() < 2 {
        let delivery = patiently(consumer.next()).await.expect("a delivery");
        let id = delivery.properties.correlation_id.clone().expect("it has one");
        // The last request of the renewals may have been published and not counted.
        if !id.starts_with('r') {
            arrived.push(id);
        }
        delivery.settle(Settlement::Ack);
    }
    assert_eq!(arrived, ["during", "after"]);
    Box::new(consumer).close().await;
    publisher.close().await;
}
