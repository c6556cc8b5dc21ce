//! The recipients that script the outcome of a simulated message, as documented in `docs/simulation.md`.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::channel::Channel;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::simulated::SimulatedProvider;
use otpost::provider::{Accepted, DeliveryReceipt, Provider};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::contract::provider::Draft;

fn simulated() -> SimulatedProvider {
    SimulatedProvider::new(Channel::Sms, 1, Clock::tokio(), Box::new(io::sink()))
}

/// Sends one attempt of a request.
async fn send_attempt(
    provider: &SimulatedProvider,
    to: &str,
    request: &str,
    attempt: u32,
) -> Result<Accepted, SendFailure> {
    let request = RequestId::parse(request).expect("an id");
    provider.send(&Draft { request, attempt, ..Draft::to(to) }.message()).await
}

/// The kinds of answers to the first four attempts of one request.
async fn answers_to_attempts(to: &str) -> Vec<&'static str> {
    let provider = simulated();
    let mut answers = Vec::new();
    for attempt in 1..=4 {
        let answer = send_attempt(&provider, to, "r-1", attempt).await;
        answers.push(answer.map_or_else(|failure| failure.as_str(), |_| "accepted"));
    }
    answers
}

/// The receipts of a message, each with its seconds since the send.
async fn receipts_of(to: &str) -> Vec<(u64, DeliveryStatus, Option<u32>)> {
    let provider = simulated();
    let (listener, mut receipts) = mpsc::channel(8);
    provider.on_receipts(listener);
    let began = Instant::now();
    let accepted = send_attempt(&provider, to, "r-1", 4).await;
    drop(provider);
    let mut published = Vec::new();
    while let Some(DeliveryReceipt { request_id, to: recipient, message_id, status, provider_code, .. }) =
        receipts.recv().await
    {
        assert_eq!(request_id.as_str(), "r-1");
        assert_eq!(recipient, Draft::to(to).to);
        assert!(accepted.as_ref().is_err() || accepted.as_ref().unwrap().message_id == Some(message_id));
        published.push((began.elapsed().as_secs(), status, provider_code));
    }
    published
}

async fn found(provider: &SimulatedProvider, to: &str) -> usize {
    provider.find(&Draft::to(to).to, UnixMillis(0)).await.expect("an answer").len()
}

#[tokio::test(start_paused = true)]
async fn a_recipient_selects_the_outcome_of_a_send() {
    for (to, expected) in [
        ("+573001234567", ["accepted"; 4]),
        ("+573005550000", ["accepted"; 4]),
        ("+573005559999", ["accepted"; 4]),
        ("+573005550408", ["in_doubt"; 4]),
        ("+573005550429", ["throttled", "throttled", "accepted", "accepted"]),
        ("+573005550430", ["throttled", "accepted", "accepted", "accepted"]),
        ("+573005550503", ["unreachable", "unreachable", "accepted", "accepted"]),
        ("+573005550504", ["in_doubt", "accepted", "accepted", "accepted"]),
        ("+573005550505", ["in_doubt"; 4]),
        ("+573005551610", ["rejected"; 4]),
        ("+573005553003", ["accepted"; 4]),
    ] {
        assert_eq!(answers_to_attempts(to).await, expected, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_have_the_numbers_and_scopes_of_real_ones() {
    for (to, code, scope) in [
        ("+573005551408", 21408, Scope::Country),
        ("+573005551610", 21610, Scope::Recipient),
        ("+573005551614", 21614, Scope::Recipient),
    ] {
        let refused = send_attempt(&simulated(), to, "r-1", 1).await;
        assert_eq!(refused, Err(crate::scripted::refused(scope, code)));
    }
    let throttled = send_attempt(&simulated(), "+573005550429", "r-1", 1).await;
    let retry_after = Some(Duration::from_secs(2));
    assert_eq!(throttled, Err(SendFailure::Throttled { provider_code: Some(20429), retry_after }));
}

/// The answers of a provider to a message, a lookup and a check of its account.
async fn answers_of(provider: &SimulatedProvider, to: &str, request: &str) -> (&'static str, bool, bool) {
    let sent = send_attempt(provider, to, request, 1).await;
    let sent = sent.map_or_else(|failure| failure.as_str(), |_| "accepted");
    let looked_up = provider.find(&Draft::to(to).to, UnixMillis(0)).await.is_ok();
    (sent, looked_up, provider.check_credentials().await.is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_number_ends_the_life_of_its_provider_for_a_minute() {
    for to in ["+573005550900", "+573005550901"] {
        let provider = simulated();
        assert_eq!(answers_of(&provider, "+573001234567", "r-1").await, ("accepted", true, true));
        assert_eq!(answers_of(&provider, to, "r-2").await, ("in_doubt", false, false));
        for _ in 0..59 {
            assert_eq!(answers_of(&provider, "+573001234567", "r-3").await, ("in_doubt", false, false));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Another one does not lengthen the minute.
        assert_eq!(answers_of(&provider, "+573005550900", "r-4").await, ("in_doubt", false, false));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(answers_of(&provider, "+573001234567", "r-5").await, ("accepted", true, true));
        send_attempt(&provider, to, "r-2", 2).await.expect("the resend does not end it again");
    }
}

#[tokio::test(start_paused = true)]
async fn only_one_of_the_numbers_that_end_it_has_a_message() {
    for (to, count) in [("+573005550900", 0), ("+573005550901", 1)] {
        let provider = simulated();
        send_attempt(&provider, to, "r-1", 1).await.expect_err("in doubt");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(found(&provider, to).await, count, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_accepts_what_ends_the_life_of_another_provider() {
    let stand_in = simulated().standing_in();
    assert_eq!(stand_in.name(), "standin");
    for (to, request) in [("+573005550430", "r-1"), ("+573005550900", "r-2"), ("+573005550901", "r-3")] {
        assert_eq!(answers_of(&stand_in, to, request).await, ("accepted", true, true), "{to}");
    }
    let refused = send_attempt(&stand_in, "+573005551614", "r-4", 1).await;
    assert_eq!(refused, Err(crate::scripted::refused(Scope::Recipient, 21614)));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_for_each_request_even_if_the_caller_does_not() {
    let provider = simulated();
    let to = "+573005550504";
    send_attempt(&provider, to, "r-1", 1).await.expect_err("in doubt");
    send_attempt(&provider, to, "r-1", 1).await.expect("the second time, whatever its number");
    send_attempt(&provider, to, "r-2", 1).await.expect_err("another request begins again");
    send_attempt(&simulated(), to, "r-1", 2).await.expect("a new process has the number from the caller");
}

#[tokio::test(start_paused = true)]
async fn a_sent_message_is_found_whatever_answer_the_sender_received() {
    for (to, expected) in [
        ("+573005550000", 1),
        ("+573005550408", 1),
        ("+573005550504", 0),
        ("+573005550505", 0),
        ("+573005550429", 0),
        ("+573005551610", 0),
    ] {
        let provider = simulated();
        let _ = send_attempt(&provider, to, "r-1", 1).await;
        assert_eq!(found(&provider, to).await, expected, "{to}");
        assert_eq!(found(&provider, "+573001234567").await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recipient_selects_the_receipts_and_their_times() {
    use DeliveryStatus::{Delivered, Queued, Sent, Undelivered};
    for (to, expected) in [
        ("+573001234567", vec![(1, Delivered, None)]),
        ("+573005550000", vec![(1, Delivered, None)]),
        ("+573005550001", vec![(60, Delivered, None)]),
        (
            "+573005550002",
            vec![(1, Delivered, None), (2, Sent, None), (3, Queued, None), (4, Delivered, None)],
        ),
        ("+573005550408", vec![(30, Delivered, None)]),
        ("+573005550429", vec![(1, Delivered, None)]),
        ("+573005550505", vec![]),
        ("+573005550900", vec![(1, Delivered, None)]),
        ("+573005551610", vec![]),
        ("+573005553003", vec![(1, Undelivered, Some(30003))]),
        ("+573005553005", vec![(1, Undelivered, Some(30005))]),
        ("+573005553007", vec![(1, Undelivered, Some(30007))]),
    ] {
        assert_eq!(receipts_of(to).await, expected, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_can_be_fetched_before_it_is_delivered() {
    let provider = simulated();
    let accepted = send_attempt(&provider, "+573005550002", "r-1", 1).await.expect("accepted");
    let id = accepted.message_id.expect("an id");
    for (seconds, expected) in
        [(0, DeliveryStatus::Queued), (1, DeliveryStatus::Delivered), (5, DeliveryStatus::Delivered)]
    {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(provider.fetch(&id).await.expect("an answer").status, expected, "{seconds}");
    }
    let accepted = send_attempt(&provider, "+573005553007", "r-2", 1).await.expect("accepted");
    tokio::time::advance(Duration::from_secs(1)).await;
    let fetched = provider.fetch(&accepted.message_id.expect("an id")).await.expect("an answer");
    assert_eq!((fetched.status, fetched.provider_code), (DeliveryStatus::Undelivered, Some(30007)));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_messages_are_remembered() {
    let provider = simulated();
    let first = send_attempt(&provider, "+573001234567", "r-1", 1).await.expect("accepted");
    for _ in 0..1_000 {
        send_attempt(&provider, "+573109876543", "r-2", 1).await.expect("accepted");
    }
    assert_eq!(found(&provider, "+573001234567").await, 0);
    assert!(provider.fetch(&first.message_id.expect("an id")).await.is_err());
    assert_eq!(found(&provider, "+573109876543").await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_slow_listener_stops_no_send() {
    let provider = simulated();
    let (listener, receiver) = mpsc::channel(1);
    provider.on_receipts(listener);
    for _ in 0..20 {
        send_attempt(&provider, "+573001234567", "r-1", 1).await.expect("accepted");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(receiver);
    send_attempt(&provider, "+573001234567", "r-1", 1).await.expect("accepted");
}

#[test]
fn the_documentation_has_every_script() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).expect("a file of text");
    let script = read("src/provider/simulated/script.rs");
    let (module, page) = (read("src/provider/simulated.rs"), read("docs/simulation.md"));
    let digits = |text: &str| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let scripted: BTreeSet<&str> = script.split('"').filter(|text| digits(text)).chain(["0000"]).collect();
    assert_eq!(scripted.len(), 17, "{scripted:?}");
    for digits in scripted {
        assert!(module.contains(&format!("//! | `{digits}` |")), "{digits} in the module");
        assert!(page.contains(&format!("| `+57 300 555 {digits}` |")), "{digits} on the page");
    }
}
