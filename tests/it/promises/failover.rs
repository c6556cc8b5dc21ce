//! Several providers: the next one takes over where nothing was sent, and once where a doubt stays without an answer.

use std::sync::Arc;
use std::time::Duration;

use otpost::domain::history::{HistoryEvent, RequestHistory};
use otpost::domain::message_match::InDoubtPolicy;
use otpost::domain::purpose::Purpose;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::routes::{ProviderIndex, Route, Routes};
use otpost::domain::send_failure::{RefusalReason, Scope, SendFailure};
use otpost::provider::DeliveryReceipt;
use otpost::store::{RequestState, Store as _};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{ALICE, BOB, Embedded, Options, World, number, request, with};
use crate::scripted::{LookupScript, Script, ScriptedProvider, refused};

const SECOND: Duration = Duration::from_secs(1);

fn lost() -> SendFailure {
    SendFailure::InDoubt { detail: "timed out".to_owned() }
}

fn unreachable() -> SendFailure {
    SendFailure::NotConnected { detail: "refused".to_owned() }
}

fn throttled(seconds: u64) -> SendFailure {
    SendFailure::Throttled { provider_code: None, retry_after: Some(Duration::from_secs(seconds)) }
}

fn account() -> SendFailure {
    refused(Scope::Account, 20_003)
}

/// The world's provider is the first; this one takes over.
fn second(world: &World) -> Arc<ScriptedProvider> {
    Arc::new(ScriptedProvider::named("second", world.clock))
}

fn both(second: &Arc<ScriptedProvider>) -> Options {
    Options { others: vec![second.clone()], ..Options::default() }
}

fn start() -> (Embedded, Arc<ScriptedProvider>) {
    let world = World::new();
    let second = second(&world);
    (Embedded::in_world(world, both(&second)), second)
}

/// The record of a request to Alice.
async fn history(world: &World, id: &str) -> RequestHistory {
    let id = RequestId::parse(id).expect("an id");
    let record = world.store.request_record(&id, Some(world.recipient(ALICE))).await.expect("answers");
    match record.expect("a record").state {
        RequestState::InProgress { history, .. } => history,
        RequestState::Completed(outcome) => outcome.history,
    }
}

/// The providers of the attempts, and why it was another one.
async fn attempts(world: &World, id: &str) -> Vec<(String, Option<&'static str>)> {
    let history = history(world, id).await;
    let attempt = |event: HistoryEvent| match event {
        HistoryEvent::Attempted(attempt) => {
            Some((attempt.provider.unwrap_or_default(), attempt.failover.map(|reason| reason.as_str())))
        }
        _ => None,
    };
    history.entries.into_iter().filter_map(|entry| attempt(entry.event)).collect()
}

fn named(attempts: &[(&str, Option<&'static str>)]) -> Vec<(String, Option<&'static str>)> {
    attempts.iter().map(|(provider, why)| ((*provider).to_owned(), *why)).collect()
}

fn receipt(id: &str, message_id: String, status: DeliveryStatus) -> DeliveryReceipt {
    DeliveryReceipt {
        request_id: RequestId::parse(id).expect("an id"),
        to: number(ALICE).into(),
        message_id,
        status,
        provider_code: None,
        reason: RefusalReason::Other,
    }
}

/// Opens the circuit breaker of the first provider.
async fn shut_first(gateway: &mut Embedded) {
    gateway.world.provider.fail_next([account()]);
    let ended = gateway.request("shuts", BOB).await;
    ended.expect_sent();
    assert_eq!(ended.body["provider"], "second");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_account_goes_to_the_next_provider_at_once_and_the_next_messages_go_there() {
    let (mut gateway, second) = start();
    gateway.world.provider.fail_next([account()]);
    let started = Instant::now();
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!((ended.body["provider"].as_str(), ended.body["attempts"].as_u64()), (Some("second"), Some(2)));
    assert!(started.elapsed() < SECOND);
    let first = gateway.posted();
    assert_eq!((first.len(), &first[0].code), (1, &second.posted()[0].code));
    assert_eq!(
        attempts(&gateway.world, "r1").await,
        named(&[("scripted", None), ("second", Some("refused"))])
    );

    let ended = gateway.request("r2", ALICE).await;
    ended.expect_sent();
    assert_eq!((ended.body["attempts"].as_u64(), gateway.posted().len()), (Some(1), 1));
    assert_eq!(attempts(&gateway.world, "r2").await, named(&[("second", Some("breaker_open"))]));
}

#[tokio::test(start_paused = true)]
async fn what_was_surely_not_sent_goes_to_the_next_provider() {
    for (failure, reason) in [
        (refused(Scope::Country, 21_408), "refused"),
        (refused(Scope::Unrecognised, 99_999), "refused"),
        (SendFailure::Deferred { provider_code: None }, "refused"),
        (refused(Scope::Sender, 21_606), "no_sender"),
        (unreachable(), "unreachable"),
        (throttled(10), "throttled"),
    ] {
        let (mut gateway, _second) = start();
        gateway.world.provider.fail_next([failure]);
        let started = Instant::now();
        let ended = gateway.request("r1", ALICE).await;
        ended.expect_sent();
        assert_eq!(ended.body["provider"], "second", "{reason}");
        assert!(started.elapsed() < SECOND, "{reason}");
        let expected = named(&[("scripted", None), ("second", Some(reason))]);
        assert_eq!(attempts(&gateway.world, "r1").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_recipient_or_of_the_text_is_final_and_a_short_wait_is_no_reason() {
    for scope in [Scope::Recipient, Scope::Request] {
        let (mut gateway, second) = start();
        gateway.world.provider.fail_next([refused(scope, 21_211)]);
        gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
        assert_eq!(second.posted().len(), 0);
    }
    let (mut gateway, second) = start();
    gateway.world.provider.fail_next([throttled(1)]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!((ended.body["provider"].as_str(), second.posted().len()), (Some("scripted"), 0));
}

#[tokio::test(start_paused = true)]
async fn if_no_provider_can_be_reached_the_message_waits_and_begins_with_the_first_again() {
    let (mut gateway, second) = start();
    gateway.world.provider.fail_next([unreachable(), unreachable()]);
    second.fail_next([unreachable(), unreachable()]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(
        (ended.body["provider"].as_str(), ended.body["attempts"].as_u64()),
        (Some("scripted"), Some(5))
    );
    assert_eq!((gateway.posted().len(), second.posted().len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_country_that_every_provider_refuses_fails() {
    let (mut gateway, second) = start();
    gateway.world.provider.fail_next([refused(Scope::Country, 21_408)]);
    second.fail_next([refused(Scope::Country, 21_408)]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    assert_eq!((gateway.posted().len(), second.posted().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn while_every_provider_is_shut_messages_wait_until_one_opens() {
    let world = World::new();
    let second = second(&world);
    let mut gateway = Embedded::in_world(world, Options { maintained: true, ..both(&second) });
    gateway.world.provider.set_healthy(false);
    second.set_healthy(false);
    gateway.world.provider.fail_next([account()]);
    second.fail_next([account()]);
    gateway.publish(&request("r1", ALICE));
    sleep(60 * SECOND).await;
    gateway.expect_no_result();
    second.set_healthy(true);
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["provider"], "second");
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_looked_up_and_goes_to_no_other_provider_while_lookups_are_answered() {
    let (mut gateway, second) = start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    let ended = gateway.request("r1", ALICE).await;
    ended.expect_sent();
    assert_eq!(ended.body["provider"], "scripted");
    // Lookups without an answer, at a provider that works for others.
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Unanswered);
    gateway.request("r2", ALICE).await.expect("unknown", Some("in_doubt"));
    assert_eq!(second.posted().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_without_an_answer_goes_to_the_next_provider_after_half_a_minute_with_the_same_code() {
    let (mut gateway, second) = start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Unanswered);
    let started = Instant::now();
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    shut_first(&mut gateway).await;
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!((ended.body["provider"].as_str(), ended.body["attempts"].as_u64()), (Some("second"), Some(2)));
    let waited = started.elapsed();
    assert!((30 * SECOND..45 * SECOND).contains(&waited), "{waited:?}");
    let to_alice = second.posted().into_iter().find(|posted| posted.to == ALICE).expect("a message");
    assert_eq!(to_alice.code, gateway.posted()[0].code);
    let expected = named(&[("scripted", None), ("second", Some("doubt_unanswered"))]);
    assert_eq!(attempts(&gateway.world, "r1").await, expected);
}

#[tokio::test(start_paused = true)]
async fn without_lookups_a_doubt_goes_to_the_next_provider_alike_unless_a_receipt_comes() {
    for is_reported in [false, true] {
        let (mut gateway, second) = start();
        gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
        gateway.world.provider.script_default_lookup(LookupScript::Refused);
        gateway.publish(&request("r1", ALICE));
        gateway.world.provider.until_posted(1).await;
        shut_first(&mut gateway).await;
        sleep(10 * SECOND).await;
        if is_reported {
            let receipt = receipt("r1", format!("SM{:032x}", 1), DeliveryStatus::Delivered);
            gateway.tracker.process("scripted", &receipt).await.expect("the receipt is recorded");
            gateway.result().await.expect("delivered", None);
        }
        let ended = gateway.result().await;
        ended.expect_sent();
        assert_eq!(ended.body["provider"], if is_reported { "scripted" } else { "second" });
        assert_eq!(second.posted().len(), if is_reported { 1 } else { 2 }, "one is of Bob");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_can_forbid_the_next_provider_for_a_doubt() {
    let never = |options: Options| Options { in_doubt: InDoubtPolicy::NeverResend, ..options };
    let off = |options: Options| Options { doubt_failover_after: None, ..options };
    for forbid in [never as fn(Options) -> Options, off] {
        let world = World::new();
        let second = second(&world);
        let mut gateway = Embedded::in_world(world, forbid(both(&second)));
        gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
        gateway.world.provider.script_default_lookup(LookupScript::Unanswered);
        gateway.publish(&request("r1", ALICE));
        gateway.world.provider.until_posted(1).await;
        shut_first(&mut gateway).await;
        gateway.result().await.expect("unknown", Some("in_doubt"));
        assert_eq!(second.posted().len(), 1, "that of Bob");
    }
}

#[tokio::test(start_paused = true)]
async fn two_doubts_at_two_providers_are_looked_up_at_both_and_nothing_more_is_sent() {
    for is_made in [true, false] {
        let world = World::new();
        let second = second(&world);
        let mut gateway = Embedded::in_world(world, Options { maintained: true, ..both(&second) });
        let first = gateway.world.provider.clone();
        first.set_healthy(false);
        first.script_default_lookup(LookupScript::Unanswered);
        first.script_next([if is_made { Script::AcceptAndLoseAnswer } else { Script::Fail(lost()) }]);
        gateway.publish(&request("r1", ALICE));
        first.until_posted(1).await;
        shut_first(&mut gateway).await;
        second.fail_next([lost()]);
        second.until_posted(2).await;
        sleep(60 * SECOND).await;
        gateway.expect_no_result();
        first.script_default_lookup(LookupScript::Show);
        first.set_healthy(true);
        let ended = gateway.result().await;
        if is_made {
            ended.expect_sent();
            assert_eq!(ended.body["provider"], "scripted");
        } else {
            ended.expect("unknown", Some("in_doubt"));
        }
        let to_alice =
            |posted: Vec<crate::scripted::Posted>| posted.iter().filter(|it| it.to == ALICE).count();
        assert_eq!((to_alice(first.posted()), to_alice(second.posted())), (1, 1));
        assert!(second.lookups_of(ALICE) >= 2 && first.lookups_of(ALICE) >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_settles_two_doubts_for_the_provider_that_knows_its_message() {
    let (mut gateway, second) = start();
    let first = gateway.world.provider.clone();
    first.script_default_lookup(LookupScript::Unanswered);
    first.script_next([Script::AcceptAndLoseAnswer]);
    gateway.publish(&request("r1", ALICE));
    first.until_posted(1).await;
    shut_first(&mut gateway).await;
    second.fail_next([lost()]);
    second.script_default_lookup(LookupScript::Unanswered);
    second.until_posted(2).await;
    first.script_default_lookup(LookupScript::Show);
    let receipt = receipt("r1", format!("SM{:032x}", 1), DeliveryStatus::Queued);
    gateway.tracker.process("scripted", &receipt).await.expect("the receipt is recorded");
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["provider"], "scripted");
}

#[tokio::test(start_paused = true)]
async fn the_worker_that_takes_over_asks_the_provider_that_the_record_names() {
    let world = World::new();
    let second = second(&world);
    let mut dying = Embedded::in_world(world.clone(), both(&second));
    shut_first(&mut dying).await;
    second.script_next([Script::AcceptAndHang]);
    dying.publish(&request("r1", ALICE));
    second.until_posted(2).await;
    assert_eq!(history(&world, "r1").await.handed_to, ["second"]);
    dying.crash().await;

    let mut survivor = Embedded::in_world(world.clone(), both(&second));
    let ended = survivor.result().await;
    ended.expect_sent();
    assert_eq!((ended.body["provider"].as_str(), ended.body["attempts"].as_u64()), (Some("second"), Some(1)));
    assert_eq!((second.lookups_of(ALICE), world.provider.lookups_of(ALICE)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn no_provider_is_called_that_the_record_does_not_name() {
    let world = World::new();
    let second = second(&world);
    let mut gateway = Embedded::in_world(world.clone(), both(&second));
    world.provider.fail_next([account()]);
    second.script_next([Script::AcceptAndHang]);
    gateway.publish(&request("r1", ALICE));
    second.until_posted(1).await;
    // The first one surely did not send it.
    assert_eq!(history(&world, "r1").await.handed_to, ["second"]);
    drop(gateway.request("r2", BOB).await);
}

#[tokio::test(start_paused = true)]
async fn both_providers_stand_in_the_record_while_both_may_have_the_message() {
    let world = World::new();
    let second = second(&world);
    let mut dying = Embedded::in_world(world.clone(), both(&second));
    world.provider.fail_next([lost()]);
    world.provider.script_default_lookup(LookupScript::Unanswered);
    dying.publish(&request("r1", ALICE));
    world.provider.until_posted(1).await;
    shut_first(&mut dying).await;
    second.script_next([Script::AcceptAndHang]);
    second.until_posted(2).await;
    assert_eq!(history(&world, "r1").await.handed_to, ["scripted", "second"]);
    dying.crash().await;

    world.provider.script_default_lookup(LookupScript::Show);
    let mut survivor = Embedded::in_world(world.clone(), both(&second));
    let ended = survivor.result().await;
    ended.expect_sent();
    assert_eq!((ended.body["provider"].as_str(), second.posted().len()), (Some("second"), 2));
}

#[tokio::test(start_paused = true)]
async fn a_doubt_at_a_provider_that_the_settings_have_no_more_ends_as_unknown_unless_a_receipt_comes() {
    let world = World::new();
    let second = second(&world);
    let mut dying = Embedded::in_world(world.clone(), both(&second));
    shut_first(&mut dying).await;
    second.script_next([Script::AcceptAndHang]);
    dying.publish(&request("r1", ALICE));
    second.until_posted(2).await;
    dying.crash().await;

    let mut survivor = Embedded::in_world(world.clone(), Options::default());
    survivor.result().await.expect("unknown", Some("in_doubt"));
    let looked_up = HistoryEvent::LookedUp("refused".to_owned());
    assert!(history(&world, "r1").await.entries.iter().any(|entry| entry.event == looked_up));
    assert_eq!((world.provider.lookups_of(ALICE), world.provider.posted().len()), (0, 1), "one of Bob");
}

#[tokio::test(start_paused = true)]
async fn a_single_provider_is_named_nowhere() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([unreachable()]);
    gateway.request("r1", ALICE).await.expect_sent();
    let history = history(&gateway.world, "r1").await;
    assert_eq!(history.handed_to, [""; 0]);
    assert_eq!(attempts(&gateway.world, "r1").await, named(&[("", None), ("", None)]));
}

/// The outcome names the second provider's message.
async fn sent_by_both() -> Embedded {
    let (mut gateway, _second) = start();
    gateway.world.provider.script_next([Script::AcceptAndLoseAnswer]);
    gateway.world.provider.script_default_lookup(LookupScript::Unanswered);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    shut_first(&mut gateway).await;
    let ended = gateway.result().await;
    assert_eq!(ended.body["provider_message_id"], format!("second{:032x}", 2));
    gateway
}

#[tokio::test(start_paused = true)]
async fn of_two_messages_the_one_that_arrived_counts() {
    use DeliveryStatus::{Delivered, Failed, Undelivered};
    let (first, second) = (format!("SM{:032x}", 1), format!("second{:032x}", 2));
    let of = |message: &String, status| receipt("r1", message.clone(), status);

    let mut gateway = sent_by_both().await;
    let tracker = gateway.tracker.clone();
    let report = async |provider, receipt| tracker.process(provider, &receipt).await.expect("recorded");
    report("scripted", of(&first, Undelivered)).await;
    gateway.expect_no_result();
    report("second", of(&second, Delivered)).await;
    let event = gateway.result().await;
    event.expect("delivered", None);
    assert_eq!(
        (event.body["provider"].as_str(), event.body["provider_message_id"].as_str()),
        (Some("second"), Some(&*second))
    );

    let mut gateway = sent_by_both().await;
    let tracker = gateway.tracker.clone();
    let report = async |provider, receipt| tracker.process(provider, &receipt).await.expect("recorded");
    report("second", of(&second, Failed)).await;
    gateway.result().await.expect("undelivered", Some("provider_rejected"));
    report("scripted", of(&first, Delivered)).await;
    let event = gateway.result().await;
    event.expect("delivered", None);
    assert_eq!(event.body["provider"], "scripted");
    report("second", of(&second, Undelivered)).await;
    gateway.expect_no_result();
}

/// The first provider sends all but payments, which the second sends.
fn apart() -> Option<Routes> {
    let route = |purposes: &[&str], provider| Route {
        purposes: purposes.iter().filter_map(|purpose| Purpose::parse(purpose)).collect(),
        providers: vec![(ProviderIndex::new(provider).expect("one of few"), 1)],
        ..Route::default()
    };
    Routes::new(vec![route(&["payment"], 1), route(&[], 0)])
}

#[tokio::test(start_paused = true)]
async fn at_most_half_of_the_places_wait_for_a_route_that_is_shut() {
    let world = World::new();
    let second = second(&world);
    let options = Options { routes: apart(), maintained: true, concurrency: 4, ..both(&second) };
    let mut gateway = Embedded::in_world(world, options);
    gateway.world.provider.set_healthy(false);
    gateway.world.provider.script_default(Script::Fail(account()));
    for n in 0..4 {
        gateway.publish(&request(&format!("r{n}"), &format!("+57300123{n:04}")));
    }
    gateway.world.provider.until_posted(1).await;
    sleep(20 * SECOND).await;
    for n in 0..8 {
        let payment = with(&format!("p{n}"), &format!("+57310123{n:04}"), json!({"purpose": "payment"}));
        gateway.publish(&payment);
    }
    let started = Instant::now();
    for _ in 0..8 {
        let ended = gateway.result().await;
        ended.expect_sent();
        assert_eq!(ended.body["provider"], "second");
    }
    assert!(started.elapsed() < 30 * SECOND, "{:?}", started.elapsed());
    gateway.world.provider.script_default(Script::Accept);
    gateway.world.provider.set_healthy(true);
    for _ in 0..4 {
        gateway.result().await.expect_sent();
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_whose_providers_are_shut_stops_no_other_route() {
    let world = World::new();
    let second = second(&world);
    let mut gateway =
        Embedded::in_world(world, Options { routes: apart(), maintained: true, ..both(&second) });
    gateway.world.provider.set_healthy(false);
    gateway.world.provider.fail_next([account()]);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    sleep(SECOND).await;
    gateway.publish(&with("r2", BOB, json!({"purpose": "payment"})));
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(
        (ended.body["request_id"].as_str(), ended.body["provider"].as_str()),
        (Some("r2"), Some("second"))
    );
    gateway.world.provider.set_healthy(true);
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(
        (ended.body["request_id"].as_str(), ended.body["provider"].as_str()),
        (Some("r1"), Some("scripted"))
    );
}
