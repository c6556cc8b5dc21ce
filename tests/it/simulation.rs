//! The recipients that script what becomes of a simulated message, as `docs/simulation.md` tells users.

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

use crate::contract::provider::Letter;

fn simulated() -> SimulatedProvider {
    SimulatedProvider::new(Channel::Sms, 1, Clock::tokio(), Box::new(io::sink()))
}

/// Sends the try of a request with this number.
async fn tried(
    provider: &SimulatedProvider,
    to: &str,
    request: &str,
    attempt: u32,
) -> Result<Accepted, SendFailure> {
    let request = RequestId::parse(request).expect("an id");
    provider.send(&Letter { request, attempt, ..Letter::to(to) }.message()).await
}

/// The kinds of answers to the first four tries of one request.
async fn tries(to: &str) -> Vec<&'static str> {
    let provider = simulated();
    let mut answers = Vec::new();
    for attempt in 1..=4 {
        let answer = tried(&provider, to, "r-1", attempt).await;
        answers.push(answer.map_or_else(|failure| failure.as_str(), |_| "accepted"));
    }
    answers
}

/// What is reported of a message, and how many seconds after the send.
async fn reports(to: &str) -> Vec<(u64, DeliveryStatus, Option<u32>)> {
    let provider = simulated();
    let (listener, mut told) = mpsc::channel(8);
    provider.on_receipts(listener);
    let began = Instant::now();
    let accepted = tried(&provider, to, "r-1", 4).await;
    drop(provider);
    let mut reports = Vec::new();
    while let Some(DeliveryReceipt { request, to: recipient, message_id, status, code, .. }) =
        told.recv().await
    {
        assert_eq!(request.as_str(), "r-1");
        assert_eq!(recipient, Letter::to(to).to);
        assert!(accepted.as_ref().is_err() || accepted.as_ref().unwrap().message_id == Some(message_id));
        reports.push((began.elapsed().as_secs(), status, code));
    }
    reports
}

async fn found(provider: &SimulatedProvider, to: &str) -> usize {
    provider.find(&Letter::to(to).to, UnixMillis(0)).await.expect("an answer").len()
}

#[tokio::test(start_paused = true)]
async fn a_recipient_chooses_what_a_send_comes_to() {
    for (to, expected) in [
        ("+573001234567", ["accepted"; 4]),
        ("+573005550000", ["accepted"; 4]),
        ("+573005559999", ["accepted"; 4]),
        ("+573005550408", ["in_doubt"; 4]),
        ("+573005550429", ["throttled", "throttled", "accepted", "accepted"]),
        ("+573005550503", ["unreachable", "unreachable", "accepted", "accepted"]),
        ("+573005550504", ["in_doubt", "accepted", "accepted", "accepted"]),
        ("+573005550505", ["in_doubt"; 4]),
        ("+573005551610", ["rejected"; 4]),
        ("+573005553003", ["accepted"; 4]),
    ] {
        assert_eq!(tries(to).await, expected, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_have_the_numbers_and_scopes_of_real_ones() {
    for (to, code, scope) in [
        ("+573005551408", 21408, Scope::Country),
        ("+573005551610", 21610, Scope::Recipient),
        ("+573005551614", 21614, Scope::Recipient),
    ] {
        let refused = tried(&simulated(), to, "r-1", 1).await;
        assert_eq!(refused, Err(crate::scripted::refused(scope, code)));
    }
    let throttled = tried(&simulated(), "+573005550429", "r-1", 1).await;
    let retry_after = Some(Duration::from_secs(2));
    assert_eq!(throttled, Err(SendFailure::Throttled { code: Some(20429), retry_after }));
}

#[tokio::test(start_paused = true)]
async fn tries_are_counted_for_each_request_even_if_the_caller_forgets() {
    let provider = simulated();
    let to = "+573005550504";
    tried(&provider, to, "r-1", 1).await.expect_err("in doubt");
    tried(&provider, to, "r-1", 1).await.expect("the second time, whatever its number");
    tried(&provider, to, "r-2", 1).await.expect_err("another request begins again");
    tried(&simulated(), to, "r-1", 2).await.expect("a new process is told the number");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_found_whatever_the_sender_was_told() {
    for (to, expected) in [
        ("+573005550000", 1),
        ("+573005550408", 1),
        ("+573005550504", 0),
        ("+573005550505", 0),
        ("+573005550429", 0),
        ("+573005551610", 0),
    ] {
        let provider = simulated();
        let _ = tried(&provider, to, "r-1", 1).await;
        assert_eq!(found(&provider, to).await, expected, "{to}");
        assert_eq!(found(&provider, "+573001234567").await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recipient_chooses_what_is_reported_and_when() {
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
        ("+573005551610", vec![]),
        ("+573005553003", vec![(1, Undelivered, Some(30003))]),
        ("+573005553005", vec![(1, Undelivered, Some(30005))]),
        ("+573005553007", vec![(1, Undelivered, Some(30007))]),
    ] {
        assert_eq!(reports(to).await, expected, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_can_be_asked_about_while_it_is_on_its_way() {
    let provider = simulated();
    let accepted = tried(&provider, "+573005550002", "r-1", 1).await.expect("accepted");
    let id = accepted.message_id.expect("an id");
    for (seconds, expected) in
        [(0, DeliveryStatus::Queued), (1, DeliveryStatus::Delivered), (5, DeliveryStatus::Delivered)]
    {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(provider.fetch(&id).await.expect("an answer").status, expected, "{seconds}");
    }
    let accepted = tried(&provider, "+573005553007", "r-2", 1).await.expect("accepted");
    tokio::time::advance(Duration::from_secs(1)).await;
    let fetched = provider.fetch(&accepted.message_id.expect("an id")).await.expect("an answer");
    assert_eq!((fetched.status, fetched.code), (DeliveryStatus::Undelivered, Some(30007)));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_messages_are_remembered() {
    let provider = simulated();
    let first = tried(&provider, "+573001234567", "r-1", 1).await.expect("accepted");
    for _ in 0..1_000 {
        tried(&provider, "+573109876543", "r-2", 1).await.expect("accepted");
    }
    assert_eq!(found(&provider, "+573001234567").await, 0);
    assert!(provider.fetch(&first.message_id.expect("an id")).await.is_err());
    assert_eq!(found(&provider, "+573109876543").await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_gone_or_behind_stops_nothing() {
    let provider = simulated();
    let (listener, told) = mpsc::channel(1);
    provider.on_receipts(listener);
    for _ in 0..20 {
        tried(&provider, "+573001234567", "r-1", 1).await.expect("accepted");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(told);
    tried(&provider, "+573001234567", "r-1", 1).await.expect("accepted");
}

#[test]
fn the_documentation_has_every_script() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).expect("a file of text");
    let script = read("src/provider/simulated/script.rs");
    let (module, page) = (read("src/provider/simulated.rs"), read("docs/simulation.md"));
    let digits = |text: &str| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let scripted: Vec<&str> = script.split('"').filter(|text| digits(text)).chain(["0000"]).collect();
    assert_eq!(scripted.len(), 14, "{scripted:?}");
    for digits in scripted {
        assert!(module.contains(&format!("//! | `{digits}` |")), "{digits} in the module");
        assert!(page.contains(&format!("| `+57 300 555 {digits}` |")), "{digits} on the page");
    }
}
