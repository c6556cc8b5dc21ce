//! Delivery receipts, and suppressions after a refusal.

use std::sync::Arc;
use std::time::Duration;

use otpost::broker::Properties;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::provider::twilio::errors::refusal_reason;
use otpost::provider::{DeliveryReceipt, Provider};
use otpost::store::Store as _;
use tokio::time::sleep;

use crate::harness::{ALICE, BOB, Embedded, Options, number, request};
use crate::promises::secrets::{captured_log, start_capturing};
use crate::scripted::{LookupScript, refused};

async fn receive(gateway: &Embedded, id: &str, status: DeliveryStatus, code: Option<u32>) -> bool {
    let receipt = DeliveryReceipt {
        request_id: RequestId::parse(id).expect("valid"),
        to: number(ALICE).into(),
        message_id: format!("SM{:032x}", 1),
        status,
        provider_code: code,
        reason: refusal_reason(code),
    };
    gateway.tracker.process("scripted", &receipt).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_final_receipt_is_published_once_with_the_callers_correlation() {
    let mut gateway = Embedded::start();
    let properties = Properties { correlation_id: Some("order-7".to_owned()), ..Properties::default() };
    gateway.publish_with(&request("r1", ALICE), properties);
    gateway.result().await.expect_sent();
    assert!(receive(&gateway, "r1", DeliveryStatus::Sent, None).await);
    gateway.expect_no_result();
    assert!(receive(&gateway, "r1", DeliveryStatus::Delivered, None).await);
    let event = gateway.result().await;
    event.expect("delivered", None);
    assert_eq!(event.message.routing_key, "sms.delivered");
    assert_eq!(event.message.message_id, "r1:delivered");
    assert_eq!(event.message.correlation_id.as_deref(), Some("order-7"));
    assert_eq!(
        (event.body["to"].as_str(), event.body["purpose"].as_str()),
        (Some("+57******4567"), Some("verification"))
    );
    assert!(receive(&gateway, "r1", DeliveryStatus::Delivered, None).await);
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn receipts_merge_monotonically() {
    use DeliveryStatus::{Delivered, Queued, Sent, Undelivered};
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    for status in [Delivered, Sent, Undelivered, Queued, Delivered] {
        assert!(receive(&gateway, "r1", status, None).await);
    }
    gateway.result().await.expect("delivered", None);
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_receipt_counts_as_published_only_when_its_event_is_confirmed() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.world.broker.fail_next_publishes(2);
    assert!(
        !receive(&gateway, "r1", DeliveryStatus::Undelivered, Some(30003)).await,
        "the provider must send it again"
    );
    assert!(!receive(&gateway, "r1", DeliveryStatus::Undelivered, Some(30003)).await);
    assert!(receive(&gateway, "r1", DeliveryStatus::Undelivered, Some(30003)).await);
    let event = gateway.result().await;
    event.expect("undelivered", Some("provider_rejected"));
    assert_eq!(event.body["error"]["provider_code"], 30003);
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_receipt_for_an_unknown_request_is_dropped() {
    let mut gateway = Embedded::start();
    assert!(receive(&gateway, "unknown", DeliveryStatus::Delivered, None).await);
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_missing_receipt_is_polled() {
    let mut gateway = Embedded::with(Options { maintained: true, ..Options::default() });
    gateway.request("r1", ALICE).await.expect_sent();
    sleep(Duration::from_secs(600)).await;
    gateway.expect_no_result();
    gateway.world.provider.set_status(DeliveryStatus::Delivered);
    gateway.result().await.expect("delivered", None);
    sleep(Duration::from_secs(20_000)).await;
    gateway.expect_no_result();
}

/// The next turn comes after the longest wait.
#[tokio::test(start_paused = true)]
async fn a_delivery_event_that_the_last_poll_could_not_publish_is_published_later() {
    let mut gateway = Embedded::start();
    let tracker = gateway.tracker.clone();
    let provider = gateway.world.provider.clone();
    let providers: [Arc<dyn Provider>; 1] = [provider.clone()];
    let poll = async || tracker.poll_overdue(&providers, Duration::from_secs(14_400)).await;
    gateway.request("r1", ALICE).await.expect_sent();
    sleep(Duration::from_secs(14_000)).await;
    provider.set_status(DeliveryStatus::Delivered);
    gateway.world.broker.fail_next_publishes(1);
    drop(poll().await);
    gateway.expect_no_result();
    sleep(Duration::from_secs(15_000)).await;
    poll().await.expect("answers");
    gateway.result().await.expect("delivered", None);
    sleep(Duration::from_secs(20_000)).await;
    poll().await.expect("answers");
    gateway.expect_no_result();
}

#[tokio::test(start_paused = true)]
async fn a_failed_lookup_loses_no_receipt_that_lapsed_beside_it() {
    let mut gateway = Embedded::start();
    let tracker = gateway.tracker.clone();
    let provider = gateway.world.provider.clone();
    let providers: [Arc<dyn Provider>; 1] = [provider.clone()];
    let poll = async || tracker.poll_overdue(&providers, Duration::from_secs(14_400)).await;
    gateway.request("lapses", ALICE).await.expect_sent();
    sleep(Duration::from_secs(7_200)).await;
    assert_eq!(poll().await.expect("answers"), 1);
    sleep(Duration::from_secs(7_000)).await;
    gateway.request("fails", BOB).await.expect_sent();
    sleep(Duration::from_secs(300)).await;
    provider.script_default_lookup(LookupScript::Unanswered);
    start_capturing();
    assert_eq!(poll().await.expect("answers"), 0);
    let log = captured_log();
    let lapsed = log.lines().find(|line| line.contains("receipt did not come in time")).expect("a line");
    assert!(lapsed.contains("lapses"), "{lapsed}");
    start_capturing();
    sleep(Duration::from_secs(600)).await;
    poll().await.expect("answers");
    assert!(!captured_log().contains("receipt did not come in time"), "it is counted once");
}

#[tokio::test(start_paused = true)]
async fn a_lapse_whose_step_had_no_answer_is_found_again() {
    let mut gateway = Embedded::start();
    let (tracker, store) = (gateway.tracker.clone(), gateway.world.store.clone());
    let providers: [Arc<dyn Provider>; 1] = [gateway.world.provider.clone()];
    gateway.request("r1", ALICE).await.expect_sent();
    sleep(Duration::from_secs(600)).await;
    // Its answer is lost.
    assert_eq!(store.inner.overdue_receipts(Duration::from_secs(600), 9).await.expect("answers").len(), 1);
    sleep(Duration::from_secs(120)).await;
    start_capturing();
    tracker.poll_overdue(&providers, Duration::from_secs(600)).await.expect("answers");
    assert!(captured_log().contains("receipt did not come in time"));
}

#[tokio::test(start_paused = true)]
async fn a_recipient_that_opted_out_or_is_unreachable_gets_no_more_messages() {
    use otpost::domain::send_failure::Scope;
    let mut gateway = Embedded::start();
    let refused = |code, scope| refused(scope, code);
    gateway.world.provider.fail_next([refused(21610, Scope::Recipient), refused(21614, Scope::Recipient)]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    gateway.request("r2", BOB).await.expect("failed", Some("provider_rejected"));
    sleep(Duration::from_secs(23 * 3_600)).await;
    let ended = gateway.request("r3", ALICE).await;
    ended.expect("rejected", Some("suppressed"));
    assert_eq!(ended.body["error"]["provider_code"], 21610);
    assert_eq!(ended.retry_after(), None);
    let ended = gateway.request("r4", BOB).await;
    ended.expect("rejected", Some("suppressed"));
    assert!(ended.retry_after().is_some_and(|seconds| seconds <= 3_600));
    sleep(Duration::from_secs(2 * 3_600)).await;
    gateway.request("r5", BOB).await.expect_sent();
    gateway.request("r6", ALICE).await.expect("rejected", Some("suppressed"));
}

#[tokio::test(start_paused = true)]
async fn the_log_names_the_scope_that_a_refusal_suppresses() {
    use otpost::domain::send_failure::{RefusalReason, Scope, SendFailure};
    for (code, reason, scope) in [
        (60410, RefusalReason::FraudBlocked, "recipient"),
        (30450, RefusalReason::Other, "recipient"),
        (21408, RefusalReason::CountryDisabled, "country"),
    ] {
        let mut gateway = Embedded::start();
        let provider_code = Some(code);
        gateway.world.provider.fail_next([SendFailure::Refused {
            scope: Scope::Country,
            reason,
            provider_code,
        }]);
        start_capturing();
        gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
        let log = captured_log();
        assert!(log.contains(&format!(r#""provider_code":{code},"scope":"{scope}""#)), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_country_gets_no_messages_for_a_while() {
    use otpost::domain::send_failure::Scope;
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([refused(Scope::Country, 21408)]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    gateway.request("r2", BOB).await.expect("rejected", Some("blocked"));
    sleep(Duration::from_secs(31 * 60)).await;
    gateway.request("r3", BOB).await.expect_sent();
}
