//! Budgets hold over all workers: what a message may cost is reserved before it is sent, and what it cost is committed, once.

use otpost::domain::amount::Amount;
use otpost::domain::budget::{Budgets, SpendBook, UtcOffset};
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::spend::SpendGroup;
use otpost::domain::spend_report::SpendQuery;
use otpost::flow::inspect::spend::{SpendView, spend};
use otpost::flow::spend_policy::SpendPolicy;
use otpost::store::SpendStore as _;
use serde_json::json;

use crate::harness::{ALICE, BOB, Embedded, HOUR, Options, World, request};
use crate::scripted::Script;

/// The estimate for a segment to Colombia.
const PRICE: u64 = 40_000;

fn budget(micros: u64) -> Options {
    let budgets = Budgets { per_hour: Some(Amount::from_micros(micros)), per_day: None };
    Options { spend: SpendPolicy { budgets, ..SpendPolicy::default() }, ..Options::default() }
}

/// Reserved and committed amounts of the hour.
async fn book(gateway: &Embedded) -> (u64, u64) {
    let SpendBook { hour, .. } = gateway.world.store.spend_book(UtcOffset::default()).await.expect("answers");
    (hour.reserved.micros(), hour.committed.micros())
}

#[tokio::test(start_paused = true)]
async fn a_budget_refuses_new_requests_with_its_rule_until_the_hour_is_over() {
    let mut gateway = Embedded::with(budget(2 * PRICE));
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.request("r2", BOB).await.expect_sent();
    assert_eq!(book(&gateway).await, (0, 2 * PRICE));
    let refused = gateway.request("r3", ALICE).await;
    refused.expect("rejected", Some("rate_limited"));
    assert_eq!(refused.body["error"]["limit"], "spend_hour");
    let wait = refused.retry_after().expect("an end");
    assert!((1..=3_600).contains(&wait), "{wait}");
    assert_eq!(gateway.posted().len(), 2);
    tokio::time::advance(HOUR).await;
    gateway.request("r4", ALICE).await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_costs_nothing_and_what_may_have_been_sent_costs_its_price() {
    let mut gateway = Embedded::with(budget(10 * PRICE));
    gateway.world.provider.fail_next([SendFailure::refused(Scope::Request, Some(21_617))]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    assert_eq!(book(&gateway).await, (0, 0));
    gateway.request("r2", BOB).await.expect_sent();
    gateway.request("r2", BOB).await;
    assert_eq!(book(&gateway).await, (0, PRICE), "a repeat costs nothing");
    gateway.world.provider.script_default(Script::Fail(SendFailure::InDoubt { detail: "reset".to_owned() }));
    gateway.request("r3", ALICE).await.expect("unknown", Some("in_doubt"));
    assert_eq!(book(&gateway).await, (0, 2 * PRICE));
}

#[tokio::test(start_paused = true)]
async fn three_workers_stop_together_at_one_budget() {
    let world = World::new();
    let mut workers: Vec<_> = (0..3).map(|_| Embedded::in_world(world.clone(), budget(50 * PRICE))).collect();
    for number in 0..100 {
        workers[0].publish(&request(&format!("r{number}"), &format!("+5730012345{number:02}")));
    }
    let mut sent = 0;
    for _ in 0..100 {
        let ended = workers[0].result().await;
        if ended.body["status"] == json!("sent") {
            sent += 1;
        } else {
            assert_eq!(ended.body["error"]["limit"], "spend_hour");
        }
    }
    assert_eq!((sent, world.provider.posted().len()), (50, 50));
    assert_eq!(book(&workers[0]).await, (0, 50 * PRICE));
}

#[tokio::test(start_paused = true)]
async fn a_report_shows_the_budgets_and_what_was_spent_on_what() {
    let mut gateway = Embedded::with(budget(10 * PRICE));
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.request("r2", BOB).await.expect_sent();
    gateway.conversion.flush().await;
    let policy = budget(10 * PRICE).spend;
    let SpendPolicy { currency, budgets, zone, .. } = policy;
    let view = SpendView { currency, is_estimate: true, budgets, zone };
    let query = SpendQuery { by: SpendGroup::Country, since: HOUR, rows_max: 10 };
    let now = gateway.world.clock.now();
    let report = spend(gateway.world.store.as_ref(), &view, query, now).await.expect("answers");
    let [row] = report.rows.as_slice() else { panic!("one country: {report:?}") };
    assert_eq!((row.name.as_str(), row.messages, row.amount.micros()), ("CO", 2, 2 * PRICE));
    assert_eq!(row.before, Some(Amount::ZERO));
    let hour = &report.budgets[0];
    assert_eq!(hour.left.map(Amount::micros), Some(8 * PRICE));
    assert_eq!(report.budgets[1].budget, None);
}
