//! Every code that was sent counts once, and is verified once, in the bucket of its send. Counting asks the store nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use otpost::domain::channel::Channel;
use otpost::domain::conversion::Dimension;
use otpost::domain::conversion_report::{ConversionQuery, ConversionReport, ROWS_DEFAULT};
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::verdict::Verdict;
use otpost::flow::inspect::conversion::conversion;
use serde_json::json;

use super::secrets::has_run;
use crate::harness::{ALICE, BOB, Embedded, NeverConfirmed, Options, World, with};

const LIFE: Duration = Duration::from_secs(600);

async fn report(gateway: &Embedded, by: Dimension) -> ConversionReport {
    let query = ConversionQuery { by, since: Duration::from_secs(7_200), rows_max: ROWS_DEFAULT };
    let now = gateway.world.clock.now();
    conversion(gateway.world.store.as_ref(), query, LIFE, now).await.expect("answers")
}

/// Sent, verified, unverified and pending codes, after the counts have reached the store.
async fn total(gateway: &Embedded) -> [u32; 4] {
    gateway.conversion.flush().await;
    let row = report(gateway, Dimension::Channel).await.total;
    [row.sent, row.verified, row.unverified, row.pending]
}

#[tokio::test(start_paused = true)]
async fn a_sent_code_is_pending_until_it_is_verified_or_its_life_is_over() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.request("r2", BOB).await.expect_sent();
    assert_eq!(total(&gateway).await, [2, 0, 0, 2]);
    let code = gateway.posted()[0].code.clone();
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Verified);
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::AlreadyUsed);
    assert_eq!(total(&gateway).await, [2, 1, 0, 1]);
    // The bucket of five minutes and the code's life.
    tokio::time::advance(Duration::from_secs(900)).await;
    assert_eq!(total(&gateway).await, [2, 1, 1, 0]);
    assert_eq!(report(&gateway, Dimension::Channel).await.total.rate, Some(0.5));
}

#[tokio::test(start_paused = true)]
async fn a_code_counts_by_everything_that_it_has_in_common_with_others() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    gateway.verify(ALICE, &code).await;
    gateway.conversion.flush().await;
    let names = async |by| {
        let rows = report(&gateway, by).await.rows;
        rows.into_iter().map(|row| (row.name, row.sent, row.verified)).collect::<Vec<_>>()
    };
    let row = |name: &str| vec![(name.to_owned(), 1, 1)];
    assert_eq!(names(Dimension::Channel).await, row("sms"));
    assert_eq!(names(Dimension::Country).await, row("CO"));
    assert_eq!(names(Dimension::Prefix).await, row("+57300"));
    assert_eq!(names(Dimension::Provider).await, row("scripted"));
    assert_eq!(names(Dimension::Sender).await, row("scripted 1"));
    assert_eq!(names(Dimension::Block).await, row("other"), "a block of one person is not shown");
}

#[tokio::test(start_paused = true)]
async fn an_e_mail_counts_without_an_address() {
    let mut gateway = Embedded::with(Options { channel: Channel::Email, ..Options::default() });
    gateway.request("r1", "ana@example.co").await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    gateway.verify("ana@example.co", &code).await;
    assert_eq!(total(&gateway).await, [1, 1, 0, 0]);
    assert_eq!(report(&gateway, Dimension::Channel).await.rows[0].name, "email");
    for by in [Dimension::Country, Dimension::Prefix, Dimension::Block] {
        assert_eq!(report(&gateway, by).await.rows, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_is_sent_again_counts_once_in_the_bucket_of_its_first_send() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    tokio::time::advance(Duration::from_secs(400)).await;
    gateway.request("r2", ALICE).await.expect_sent();
    let [first, second] = [0, 1].map(|at| gateway.posted()[at].code.clone());
    assert_eq!(first, second);
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(gateway.verify(ALICE, &first).await, Verdict::Verified);
    assert_eq!(total(&gateway).await, [1, 1, 0, 0]);
    tokio::time::advance(Duration::from_secs(7_200 - 500 + 300)).await;
    assert_eq!(total(&gateway).await, [0, 0, 0, 0], "the first send is two hours old, the second is not");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_and_one_that_sent_nothing_do_not_count() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.request("r1", ALICE).await.expect_replayed(true);
    gateway.world.provider.fail_next([SendFailure::refused(Scope::Request, Some(21617))]);
    gateway.request("r3", BOB).await.expect("failed", Some("provider_rejected"));
    assert_eq!(total(&gateway).await, [1, 0, 0, 1]);
}

/// Both sides leave it out, so that no rate is over 100 %.
#[tokio::test(start_paused = true)]
async fn a_code_whose_first_request_was_not_sent_does_not_count() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([SendFailure::refused(Scope::Request, Some(21617))]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    tokio::time::advance(Duration::from_secs(60)).await;
    gateway.request("r2", ALICE).await.expect_sent();
    let code = gateway.posted().last().expect("it was sent").code.clone();
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Verified);
    assert_eq!(total(&gateway).await, [0, 0, 0, 0]);
    // The next code of the number counts. Before it came the verified event.
    gateway.result().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    gateway.request("r3", ALICE).await.expect_sent();
    let code = gateway.posted().last().expect("it was sent").code.clone();
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Verified);
    assert_eq!(total(&gateway).await, [1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_may_have_been_sent_counts_as_sent() {
    let mut gateway = Embedded::start();
    gateway.world.provider.fail_next([SendFailure::InDoubt { detail: "timed out".to_owned() }]);
    gateway.request("r1", ALICE).await;
    assert_eq!(total(&gateway).await[0], 1);
}

#[tokio::test(start_paused = true)]
async fn a_check_whose_event_is_not_published_counts_when_it_is_repeated() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    let publisher = std::mem::replace(&mut gateway.verifier.publisher, Arc::new(NeverConfirmed));
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Unpublished);
    assert_eq!(total(&gateway).await, [1, 0, 0, 1]);
    gateway.verifier.publisher = publisher;
    assert_eq!(gateway.verify(ALICE, &code).await, Verdict::Verified);
    assert_eq!(total(&gateway).await, [1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn counting_asks_the_store_nothing_and_a_second_of_counts_is_one_call() {
    let mut gateway = Embedded::start();
    let calls = |gateway: &Embedded| gateway.world.store.calls.load(Ordering::SeqCst);
    gateway.request("r1", ALICE).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    gateway.verify(ALICE, &code).await;
    // Admission, completion and check.
    assert_eq!(calls(&gateway), 3);
    gateway.conversion.flush().await;
    assert_eq!(calls(&gateway), 4);
    assert!(!gateway.conversion.flush().await);
    assert_eq!(calls(&gateway), 4, "nothing was counted");
}

#[tokio::test(start_paused = true)]
async fn counts_wait_while_the_store_is_away_and_are_added_once() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.world.store.gone.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert!(!gateway.conversion.flush().await);
    }
    gateway.world.store.gone.store(false, Ordering::SeqCst);
    gateway.request("r2", BOB).await.expect_sent();
    gateway.conversion.end().await;
    assert_eq!(total(&gateway).await, [2, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_was_lost_counts_once_and_later_codes_wait_for_it() {
    let mut gateway = Embedded::start();
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.world.store.lost_answers_of_counts.store(2, Ordering::SeqCst);
    assert!(!gateway.conversion.flush().await);
    gateway.request("r2", BOB).await.expect_sent();
    assert!(!gateway.conversion.flush().await);
    assert_eq!(report(&gateway, Dimension::Channel).await.total.sent, 1);
    assert!(gateway.conversion.flush().await);
    assert_eq!(total(&gateway).await, [2, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn no_count_holds_a_number_and_few_codes_show_no_block() {
    let world = World::new();
    let mut gateway = Embedded::in_world(world, Options::default());
    for line in 0..6 {
        let to = format!("+57300123{:04}", 4_560 + line);
        gateway.publish(&with(&format!("r{line}"), &to, json!({})));
        gateway.result().await.expect_sent();
    }
    gateway.request("other", BOB).await.expect_sent();
    gateway.conversion.flush().await;
    for by in Dimension::ALL {
        let text = serde_json::to_string(&report(&gateway, by).await).expect("plain data");
        for line in 0..6 {
            assert!(!has_run(&text, &format!("300123{:04}", 4_560 + line)), "{text}");
        }
        assert!(!text.contains("310987"), "a block of one person: {text}");
    }
    let blocks = report(&gateway, Dimension::Block).await.rows;
    let shown: Vec<(&str, u32)> = blocks.iter().map(|row| (row.name.as_str(), row.sent)).collect();
    assert_eq!(shown, [("+573001234", 6), ("other", 1)]);
}
