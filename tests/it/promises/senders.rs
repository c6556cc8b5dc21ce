//! Several senders: each recipient has its own, and one that the provider refuses rests alone.

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

fn tended() -> Options {
    Options { tended: true, ..Options::default() }
}

fn person(n: usize) -> String {
    format!("+5730012{n:05}")
}

/// Who carried the messages that people got, by recipient.
fn carriers(gateway: &Embedded) -> HashMap<String, usize> {
    gateway.world.provider.made().into_iter().map(|made| (made.to, made.sender)).collect()
}

async fn send_to(gateway: &mut Embedded, round: &str, people: usize) -> HashMap<String, usize> {
    for n in 0..people {
        gateway.publish(&request(&format!("{round}-{n}"), &person(n)));
    }
    for _ in 0..people {
        gateway.result().await.expect_sent();
    }
    carriers(gateway)
}

#[tokio::test(start_paused = true)]
async fn while_a_sender_rests_its_recipients_get_another_and_come_back_to_it() {
    let mut gateway = with_senders(3, tended());
    let provider = gateway.world.provider.clone();
    let before = send_to(&mut gateway, "before", 60).await;
    provider.otherwise(Script::RefuseSender(1, 21606));
    let meanwhile = send_to(&mut gateway, "meanwhile", 60).await;
    for (to, own) in &before {
        match own {
            1 => assert_ne!(meanwhile[to], 1),
            own => assert_eq!(meanwhile[to], *own, "who has another sender keeps it"),
        }
    }
    assert_eq!(meanwhile, send_to(&mut gateway, "again", 60).await, "the same other one each time");
    let refused = provider.posted().iter().filter(|post| !post.made).count();
    assert!((1..=8).contains(&refused), "{refused}: what was under way, and no more");
    provider.otherwise(Script::Accept);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(before, send_to(&mut gateway, "after", 60).await);
    assert!(provider.probed().is_empty(), "it is nobody else's trouble");
}

#[tokio::test(start_paused = true)]
async fn a_refused_sender_costs_its_message_no_wait_and_the_timeline_tells_of_both() {
    let mut gateway = with_senders(2, tended());
    let own = send_to(&mut gateway, "own", 1).await[&person(0)];
    gateway.world.provider.otherwise(Script::RefuseSender(own, 21611));
    let began = Instant::now();
    let ended = gateway.request("r1", &person(0)).await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 2);
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    let id = RequestId::parse("r1").expect("an id");
    let story =
        gateway.world.store.inner.request_record(&id, None).await.expect("answers").expect("it is known");
    let told = explain_request(&id, &story, 5, gateway.world.clock.now());
    let texts: Vec<&str> = told.timeline.iter().map(|line| line.text.as_str()).collect();
    let expected = [
        format!("attempt 1 by sender {}: the provider refused the sender (21611)", own + 1),
        format!("attempt 2 by sender {}: the provider took the message", 2 - own),
    ];
    for (text, expected) in texts[1..3].iter().zip(&expected) {
        assert!(text.starts_with(expected), "{texts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_sender_a_message_waits_and_one_tries_for_all() {
    let mut gateway = with_senders(1, tended());
    let provider = gateway.world.provider.clone();
    provider.otherwise(Script::RefuseSender(0, 21611));
    for n in 0..20 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    sleep(Duration::from_secs(29)).await;
    let first = provider.posted().len();
    assert!((1..=8).contains(&first), "{first}: what was under way");
    sleep(Duration::from_secs(90)).await;
    assert_eq!(provider.posted().len(), first + 3, "one message every 30 s");
    gateway.expect_no_result();
    provider.otherwise(Script::Accept);
    for _ in 0..20 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(provider.made().len(), 20);
    assert!(provider.probed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stays_refused_ends_requests_in_time_and_free_of_charge() {
    for (code, word) in [(21606, "provider_misconfigured"), (21611, "provider_unavailable")] {
        let mut gateway = with_senders(1, tended());
        gateway.world.provider.otherwise(Script::RefuseSender(0, code));
        let began = Instant::now();
        let ended = gateway.request("r1", ALICE).await;
        ended.expect("failed", Some(word));
        assert_eq!(ended.body["error"]["provider_code"], code);
        assert!(began.elapsed() < Duration::from_secs(600), "{:?}", began.elapsed());
        let posted = gateway.posted().len();
        assert!(posted <= if code == 21611 { 20 } else { 2 }, "{code}: {posted} messages");
        gateway.world.provider.otherwise(Script::Accept);
        sleep(Duration::from_secs(300)).await;
        for n in 0..5 {
            gateway.request(&format!("again{n}"), ALICE).await.expect_sent();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_gets_no_answer_is_followed_by_another() {
    let mut gateway = with_senders(1, tended());
    let provider = gateway.world.provider.clone();
    let refused = SendFailure::Rejected { code: Some(21611), scope: Scope::Sender };
    let unreachable = SendFailure::Unreachable { detail: "refused".to_owned() };
    provider.answer([refused, unreachable]);
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
async fn each_sender_keeps_its_pace_when_it_stands_in_for_another() {
    let mut gateway = with_senders(2, Options { pace: Some(5.0), ..tended() });
    gateway.world.provider.otherwise(Script::RefuseSender(0, 21606));
    let began = Instant::now();
    send_to(&mut gateway, "r", 30).await;
    let made = gateway.world.provider.made();
    assert_eq!(made.iter().map(|made| made.sender).collect::<HashSet<_>>(), [1].into());
    assert!(began.elapsed() >= Duration::from_millis(5_500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_recipient_that_every_sender_refuses_ends_alone() {
    for senders in [1, 2, 3] {
        let mut gateway = with_senders(senders, tended());
        let provider = gateway.world.provider.clone();
        provider.otherwise(Script::RefuseFor(ALICE, 21606));
        // With one sender nobody knows whose fault it is, until that one has carried somebody else's message.
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
        assert!(provider.probed().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn two_recipients_at_once_that_every_sender_refuses_stop_nobody() {
    let mut gateway = with_senders(3, tended());
    let provider = gateway.world.provider.clone();
    let refused = SendFailure::Rejected { code: Some(21659), scope: Scope::Sender };
    for n in 0..20 {
        provider.answer(std::iter::repeat_n(refused.clone(), 4));
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
async fn people_of_a_country_that_the_only_sender_does_not_reach_stop_nobody_elsewhere() {
    let mut options = tended();
    options.rules.allowed_countries = None;
    let mut gateway = with_senders(1, options);
    gateway.world.provider.otherwise(Script::RefuseFor("+593", 21659));
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
async fn the_only_senders_refusals_cost_nobody_a_code_if_it_is_mended_in_time() {
    let mut gateway = with_senders(1, tended());
    let provider = gateway.world.provider.clone();
    provider.otherwise(Script::RefuseSender(0, 21660));
    for n in 0..10 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(provider.posted().len(), 2, "the second recipient makes it rest");
    gateway.expect_no_result();
    provider.otherwise(Script::Accept);
    for _ in 0..10 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(provider.posted().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_every_sender_does_not_go_unnoticed() {
    let mut gateway = with_senders(2, tended());
    let provider = gateway.world.provider.clone();
    provider.otherwise(Script::Fail(SendFailure::Rejected { code: Some(21660), scope: Scope::Sender }));
    for n in 0..5 {
        let ended = gateway.request(&format!("r{n}"), &person(n)).await;
        ended.expect("failed", Some("provider_rejected"));
        assert_eq!(ended.body["error"]["provider_code"], 21660);
    }
    sleep(Duration::from_secs(3)).await;
    assert!(!provider.probed().is_empty(), "five different people: the breaker has opened");
}
