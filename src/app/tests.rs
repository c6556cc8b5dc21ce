use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use std::net::SocketAddr;

use super::provider_selection::simulated;
use super::sms_providers::ConfiguredProvider;
use super::*;
use crate::app::config_check::config_errors;
use crate::broker::{Delivery, RequestConsumer};

/// A consumer whose connection is lost for good.
struct Ended;

#[async_trait]
impl RequestConsumer for Ended {
    async fn next(&mut self) -> Option<Delivery> {
        None
    }
    async fn pause(&mut self) {}
    async fn resume(&mut self) {}
    async fn cancel(&mut self) {}
    async fn close(self: Box<Self>) {}
}

#[tokio::test]
async fn there_is_a_page_only_in_development_with_simulated_messages() {
    let settings = Settings::read(Role::Dev, std::iter::empty(), "/nowhere/.env".as_ref(), config_errors);
    let settings = settings.expect("a laptop needs nothing");
    for role in [Role::Worker, Role::Http, Role::Serve, Role::Dev] {
        for provider in [DevProvider::Simulated, DevProvider::Configured] {
            let expected = role == Role::Dev && provider == DevProvider::Simulated;
            assert_eq!(handset(role, provider, &settings).is_some(), expected, "{role:?} {provider:?}");
        }
    }
}

#[tokio::test]
async fn a_consumer_that_ends_unexpectedly_stops_everything_and_is_an_error() {
    let settings = Settings::read(Role::Dev, std::iter::empty(), "/nowhere/.env".as_ref(), config_errors);
    let settings = settings.expect("a laptop needs nothing");
    let wiring = Wiring::new(&settings).expect("everything in memory");
    let receipts = wiring.receipt_processor(&settings).expect("a processor");
    let provider = simulated(Channel::Sms, &settings, &receipts, None);
    let providers = SmsProviders::only(configured(provider, Channel::Sms, &settings));
    let (providers, replies) = (providers.sending(Channel::Sms, &settings), wiring.reply_publisher());
    let ChannelWorker { gateway, .. } =
        wiring.worker(&settings, Role::Serve, Channel::Sms, providers, replies).expect("a worker");
    for asked_for in [true, false] {
        let stop = CancellationToken::new();
        if asked_for {
            stop.cancel();
        }
        let worker = ChannelWorker { gateway: gateway.clone(), consumer: Box::new(Ended) };
        let worked = run_worker(Some(worker), None, &settings, &stop).await;
        assert_eq!((worked.is_ok(), stop.is_cancelled()), (asked_for, true));
    }
}

#[tokio::test]
async fn a_simulation_refuses_what_the_provider_that_is_set_would() {
    for (chosen, writes_texts) in [("messages", false), ("verify", true)] {
        let set =
            [("SMS_PROVIDER", chosen), ("TWILIO_VERIFY_SERVICE_SID", "VA0123456789abcdef0123456789abcdef")];
        let set = set.map(|(name, value)| (name.into(), value.into()));
        let settings = Settings::read(Role::Dev, set.into_iter(), "/nowhere/.env".as_ref(), config_errors);
        let settings = settings.expect("a laptop needs no account");
        let receipts =
            Wiring::new(&settings).expect("in memory").receipt_processor(&settings).expect("a processor");
        for dev_provider in [DevProvider::Simulated, DevProvider::Configured] {
            let sms = sms_provider(&settings, dev_provider, &receipts, None).await.expect("simulated");
            let [ConfiguredProvider { provider: sms, .. }] = &sms.providers[..] else {
                panic!("there is one")
            };
            let email = email_provider(&settings, dev_provider, &receipts, None).await.expect("simulated");
            let found = (sms.name(), sms.writes_texts(), sms.makes_codes(), email.writes_texts());
            assert_eq!(found, ("simulated", writes_texts, false, false), "{chosen} {dev_provider:?}");
        }
    }
}

const LIMITS: http::ConnectionLimits = http::ConnectionLimits {
    connections_max: 8,
    bytes_max: 1024 * 1024,
    gives_way_after: Duration::from_millis(100),
};

/// A server that answers one request after `takes`.
async fn slow_server(
    takes: Duration,
    stop: &CancellationToken,
) -> (SocketAddr, impl Future<Output = std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = axum::Router::new().route(
        "/",
        axum::routing::get(async move || {
            tokio::time::sleep(takes).await;
            "answered"
        }),
    );
    (address, http::serve(listener, router, LIMITS, stop.clone()))
}

/// Asks, stops the server a moment later, and returns the part of the answer that came before the shutdown ended.
async fn answer_during_a_stop(takes: Duration, drain: Duration) -> String {
    let stop = CancellationToken::new();
    let (address, server) = slow_server(takes, &stop).await;
    let served = async {
        run_http(Some(server), &TaskTracker::new(), drain, &stop).await.expect("a stop is no failure");
    };
    let client = async {
        let mut connection = TcpStream::connect(address).await.expect("it listens");
        connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        let mut answer = Vec::new();
        // An answer that is cut off is an error here.
        let _ = connection.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    };
    let mut client = std::pin::pin!(client);
    tokio::select! {
        biased;
        answer = &mut client => answer,
        () = served => tokio::time::timeout(Duration::from_millis(50), client).await.unwrap_or_default(),
    }
}

#[tokio::test]
async fn a_caller_that_waits_at_a_stop_gets_its_answer_within_the_drain() {
    let takes = Duration::from_millis(600);
    assert!(answer_during_a_stop(takes, Duration::from_secs(10)).await.ends_with("answered"));
    assert!(!answer_during_a_stop(takes, Duration::from_millis(200)).await.contains("answered"));
}

#[tokio::test(start_paused = true)]
async fn a_check_at_a_provider_is_finished_at_a_stop_within_the_drain() {
    for (takes, expected) in [(9, 9), (30, 10)] {
        let (checks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (_, server) = slow_server(Duration::ZERO, &stop).await;
        checks.spawn(tokio::time::sleep(Duration::from_secs(takes)));
        stop.cancel();
        let began = Instant::now();
        run_http(Some(server), &checks, Duration::from_secs(10), &stop).await.expect("a stop is no failure");
        assert_eq!((began.elapsed().as_secs(), checks.is_empty()), (expected, takes == expected));
    }
}

#[test]
fn the_drain_is_longer_than_any_wait_for_a_result() {
    let set = |wait: &str| {
        let variables = [("HTTP_SEND_WAIT_MS".into(), wait.into())];
        Settings::read(Role::Dev, variables.into_iter(), "/nowhere/.env".as_ref(), config_errors)
    };
    let longest = set("8000").expect("the longest wait").send_wait;
    assert!(longest < HTTP_DRAIN && set("8001").is_err());
}
