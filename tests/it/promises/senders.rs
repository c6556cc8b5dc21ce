//! Several senders: each recipient has its own, and a refused sender cools down alone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use otpost::domain::request_id::RequestId;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::flow::explain::explain_request;
use otpost::store::Store as _;
use tokio::time::{Instant, sleep};

use crate::harness::{ALICE, BOB, Embedded, Options, World, request};
use crate::scripted::Script;

fn with_senders(count: usize, options: Options) -> Embedded {
    let world = World::new();
    world.provider.senders.store(count, Ordering::SeqCst);
    Embedded::in_world(world, options)
}

fn maintained() -> Options {
    Options { maintained: true, ..Options::default() }
}

fn person(n: usize) -> String {
    format!("+5730012{n:05}")
}

/// The sender of the last message to each recipient.
fn senders_by_recipient(gateway: &Embedded) -> HashMap<String, usize> {
    gateway.world.provider.made().into_iter().map(|made| (made.to, made.sender)).collect()
}

async fn send_to(gateway: &mut Embedded, round: &str, people: usize) -> HashMap<String, usize> {
    for n in 0..people {
        gateway.publish(&request(&format!("{round}-{n}"), &person(n)));
    }
    for _ in 0..people {
        gateway.result().await.expect_sent();
    }
    senders_by_recipient(gateway)
}

#[tokio::test(start_paused = true)]
async fn while_a_sender_cools_down_its_recipients_get_another_and_return_later() {
    let mut gateway = with_senders(3, maintained());
    let provider = gateway.world.provider.clone();
    let before = send_to(&mut gateway, "before", 60).await;
    provider.script_default(Script::RefuseSender(1, 21606));
    let meanwhile = send_to(&mut gateway, "meanwhile", 60).await;
    for (to, own) in &before {
        match own {
            1 => assert_ne!(meanwhile[to], 1),
            own => assert_eq!(meanwhile[to], *own, "recipients of other senders keep them"),
        }
    }
    assert_eq!(
        meanwhile,
        send_to(&mut gateway, "again", 60).await,
        "each recipient gets the same other sender each time"
    );
    let refused = provider.posted().iter().filter(|post| !post.made).count();
    assert!((1..=8).contains(&refused), "{refused} refused: only those in flight");
    provider.script_default(Script::Accept);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(before, send_to(&mut gateway, "after", 60).await);
    assert!(provider.probes().is_empty(), "a refused sender does not open the circuit breaker");
}

#[tokio::test(start_paused = true)]
async fn a_refused_sender_costs_its_message_no_wait_and_the_timeline_shows_both() {
    let mut gateway = with_senders(2, maintained());
    let own = send_to(&mut gateway, "own", 1).await[&person(0)];
    gateway.world.provider.script_default(Script::RefuseSender(own, 21611));
    let began = Instant::now();
    let ended = gateway.request("r1", &person(0)).await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 2);
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    let id = RequestId::parse("r1").expect("an id");
    let record =
        gateway.world.store.inner.request_record(&id, None).await.expect("answers").expect("it is known");
    let explanation = explain_request(&id, &record, 5, gateway.world.clock.now());
    let texts: Vec<&str> = explanation.timeline.iter().map(|line| line.text.as_str()).collect();
    let expected = [
        format!("attempt 1 by sender {}: the provider refused the sender (21611)", own + 1),
        format!("attempt 2 by sender {}: the provider took the message", 2 - own),
    ];
    for (text, expected) in texts[1..3].iter().zip(&expected) {
        assert!(text.starts_with(expected), "{texts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_sender_messages_wait_while_one_probes() {
    let mut gateway = with_senders(1, maintained());
    let provider = gateway.world.provider.clone();
    provider.script_default(Script::RefuseSender(0, 21611));
    for n in 0..20 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    sleep(Duration::from_secs(29)).await;
    let first = provider.posted().len();
    assert!((1..=8).contains(&first), "{first}: only those in flight");
    sleep(Duration::from_secs(90)).await;
    assert_eq!(provider.posted().len(), first + 3, "one message every 30 s");
    gateway.expect_no_result();
    provider.script_default(Script::Accept);
    for _ in 0..20 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(provider.made().len(), 20);
    assert!(provider.probes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stays_refused_fails_requests_in_time_and_refunds_them() {
    for (code, word) in [(21606, "provider_misconfigured"), (21611, "provider_unavailable")] {
        let mut gateway = with_senders(1, maintained());
        gateway.world.provider.script_default(Script::RefuseSender(0, code));
        let began = Instant::now();
        let ended = gateway.request("r1", ALICE).await;
        ended.expect("failed", Some(word));
        assert_eq!(ended.body["error"]["provider_code"], code);
        assert!(began.elapsed() < Duration::from_secs(600), "{:?}", began.elapsed());
        let posted = gateway.posted().len();
        assert!(posted <= if code == 21611 { 20 } else { 2 }, "{code}: {posted} messages");
        gateway.world.provider.script_default(Script::Accept);
        sleep(Duration::from_secs(300)).await;
        for n in 0..5 {
            gateway.request(&format!("again{n}"), ALICE).await.expect_sent();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_a_sender_that_gets_no_answer_is_followed_by_another() {
    let mut gateway = with_senders(1, maintained());
    let provider = gateway.world.provider.clone();
    let refused = crate::scripted::refused(Scope::Sender, 21611);
    let unreachable = SendFailure::NotConnected { detail: "refused".to_owned() };
    provider.fail_next([refused, unreachable]);
    gateway.publish(&request("r1", ALICE));
    provider.until_posted(1).await;
    gateway.publish(&request("r2", BOB));
    let began = Instant::now();
    for _ in 0..2 {
        gateway.result().await.expect_sent();
    }
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_sender_keeps_its_rate_when_it_replaces_another() {
    let mut gateway = with_senders(2, Options { sender_rate: Some(5.0), ..maintained() });
    gateway.world.provider.script_default(Script::RefuseSender(0, 21606));
    let began = Instant::now();
    send_to(&mut gateway, "r", 30).await;
    let made = gateway.world.provider.made();
    assert_eq!(made.iter().map(|made| made.sender).collect::<HashSet<_>>(), [1].into());
    assert!(began.elapsed() >= Duration::from_millis(5_500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_recipient_refused_by_every_sender_fails_alone() {
    for senders in [1, 2, 3] {
        let mut gateway = with_senders(senders, maintained());
        let provider = gateway.world.provider.clone();
        provider.script_default(Script::RefuseFor(ALICE, 21606));
        // One sender alone cannot decide whose fault the refusal is, until another recipient accepts its message.
        gateway.publish(&request("refused", ALICE));
        provider.until_posted(1).await;
        for n in 0..100 {
            let began = Instant::now();
            gateway.publish(&request(&format!("r{n}"), &person(n)));
            let mut ended = gateway.result().await;
            if ended.body["request_id"] == "refused" {
                ended.expect("failed", Some("provider_rejected"));
                assert_eq!(ended.body["error"]["provider_code"], 21606);
                assert_eq!(ended.body["attempts"], 2);
                ended = gateway.result().await;
            }
            ended.expect_sent();
            assert!(began.elapsed() < Duration::from_millis(100), "{senders}, {n}: {:?}", began.elapsed());
            sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(provider.posted().len(), 102, "{senders}");
        assert!(provider.probes().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn two_recipients_refused_by_every_sender_at_once_pause_no_other() {
    let mut gateway = with_senders(3, maintained());
    let provider = gateway.world.provider.clone();
    let refused = SendFailure::refused(Scope::Sender, Some(21659));
    for n in 0..20 {
        provider.fail_next(std::iter::repeat_n(refused.clone(), 4));
        let (one, other) = (person(1_000 + 2 * n), person(1_001 + 2 * n));
        gateway.publish(&request(&format!("one{n}"), &one));
        gateway.publish(&request(&format!("other{n}"), &other));
        for _ in 0..2 {
            gateway.result().await.expect("failed", Some("provider_rejected"));
        }
        let began = Instant::now();
        gateway.request(&format!("good{n}"), &person(n)).await.expect_sent();
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_country_that_the_only_sender_cannot_reach_pauses_no_other_country() {
    let mut options = maintained();
    options.rules.allowed_countries = None;
    let mut gateway = with_senders(1, options);
    gateway.world.provider.script_default(Script::RefuseFor("+593", 21659));
    gateway.request("before", BOB).await.expect_sent();
    for n in 0..20 {
        sleep(Duration::from_secs(60)).await;
        for abroad in 0..3 {
            gateway.publish(&request(&format!("abroad{n}-{abroad}"), &format!("+593987{n:03}{abroad:03}")));
        }
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        gateway.publish(&request(&format!("good{n}"), &person(n)));
        gateway.result().await.expect_sent();
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        for _ in 0..3 {
            gateway.result().await.expect("failed", Some("provider_rejected"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_only_sender_fail_no_request_if_it_recovers_in_time() {
    let mut gateway = with_senders(1, maintained());
    let provider = gateway.world.provider.clone();
    provider.script_default(Script::RefuseSender(0, 21660));
    for n in 0..10 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(provider.posted().len(), 2, "the refusal of a second recipient makes the sender cool down");
    gateway.expect_no_result();
    provider.script_default(Script::Accept);
    for _ in 0..10 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(provider.posted().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_every_sender_does_not_go_unnoticed() {
    let mut gateway = with_senders(2, maintained());
    let provider = gateway.world.provider.clone();
    provider.script_default(Script::Fail(SendFailure::refused(Scope::Sender, Some(21660))));
    for n in 0..5 {
        let ended = gateway.request(&format!("r{n}"), &person(n)).await;
        ended.expect("failed", Some("provider_rejected"));
        assert_eq!(ended.body["error"]["provider_code"], 21660);
    }
    sleep(Duration::from_secs(3)).await;
    assert!(!provider.probes().is_empty(), "five different recipients open the circuit breaker");
}
