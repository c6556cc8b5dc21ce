//! Spend of real processes: workers that stop together at a budget, one that is killed in the middle, and `otpost spend`.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::Instant;

use otpost::broker::Properties;
use otpost::clock::Clock;
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::spend::SpendGroup;
use otpost::domain::time::UnixMillis;
use otpost::store::Store as _;
use serde_json::{Value, json};

use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, FakeTwilio};
use crate::http::spend::entry;
use crate::logs::Running;
use crate::real::{Redis, redis_url};
use crate::why::{otpost, rows, said};

/// Of them half fit the budget; `OTPOST_SENDS=10000` for more.
fn sends() -> u32 {
    std::env::var("OTPOST_SENDS").ok().and_then(|text| text.parse().ok()).unwrap_or(800)
}

fn prices() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("{}.prices", crate::real::unique("spend")));
    std::fs::write(&path, "twilio * 0.01 USD\nsimulated * 0.02 USD\n").expect("written");
    path
}

fn spend(redis: &Redis, budget: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_otpost"))
        .arg("spend")
        .args(arguments)
        .env_clear()
        .env("ENVIRONMENT", "development")
        .env("REDIS_URL", redis_url())
        .env("REDIS_PREFIX", &redis.prefix)
        .env("SPEND_PER_DAY_MAX", budget)
        .output()
        .expect("the binary starts")
}

fn day(redis: &Redis, budget: &str) -> Value {
    rows(&spend(redis, budget, &["--json"]), 0)[0]["budgets"][1].clone()
}

/// The book has no amount in it that no message explains, and none is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_workers_stop_at_a_budget_and_the_book_balances_after_one_was_killed() {
    in_world(async |world: &RabbitWorld| {
        let (twilio, redis, prices, sends) = (FakeTwilio::start(), Redis::fresh(), prices(), sends());
        let (api, budget) = (twilio.base_url(), format!("{}.{:02}", sends / 200, sends / 2 % 100));
        let prices = prices.to_str().expect("text");
        let settings = [
            ("TWILIO_ACCOUNT_SID", ACCOUNT_SID),
            ("TWILIO_AUTH_TOKEN", AUTH_TOKEN),
            ("TWILIO_FROM_NUMBER", "+15005550006"),
            ("TWILIO_API_BASE_URL", api.as_str()),
            ("PRICES_FILE", prices),
            ("SPEND_PER_DAY_MAX", &budget),
            ("SMS_MAX_PER_HOUR", "0"),
            ("PROVIDER_TIMEOUT_SECONDS", "4"),
            ("WORKER_CONCURRENCY", "16"),
        ];
        let worker = || Running::with_servers("worker", world, &redis, &settings);
        let mut workers = vec![worker(), worker(), worker()];
        for worker in &mut workers {
            worker.says("started").await;
        }
        let mut results = world.results().await;
        let began = Instant::now();
        for number in 0..sends {
            let request =
                json!({"request_id": format!("spend-{number}"), "to": format!("+57300{number:07}")});
            world.send(&request.to_string(), Properties::default()).await;
            // Its requests in flight are delivered to the others.
            if number == sends / 4 {
                workers.pop().expect("one of three").signal("KILL");
            }
        }
        let (mut ended, mut sent) = (BTreeSet::new(), BTreeSet::new());
        while ended.len() < usize::try_from(sends).expect("few") {
            let result = results.next().await;
            let body: Value = serde_json::from_slice(&result.body).expect("JSON");
            let id = body["request_id"].as_str().expect("an id").to_owned();
            match result.routing_key.as_str() {
                "sms.sent" | "sms.unknown" => drop(sent.insert(id.clone())),
                _ => assert_eq!(body["error"]["limit"], "spend_day", "{body}"),
            }
            ended.insert(id);
        }
        println!("{} of {sends} sent in {:?}", twilio.created(), began.elapsed());
        let day = day(&redis, &budget);
        let cents = |amount: &Value| {
            let amount: f64 = amount.as_str().expect("an amount").parse().expect("a number");
            (amount * 100.0).round()
        };
        assert_eq!(cents(&day["reserved"]), 0.0, "{day}");
        let created = f64::from(u32::try_from(twilio.created()).expect("few"));
        assert_eq!(cents(&day["committed"]), created, "{day}: each message costs a cent");
        let allowed = f64::from(sends / 2);
        assert!((0.99 * allowed..=allowed).contains(&created), "{created} of {allowed}");
        assert_eq!(sent.len(), twilio.created());
        for worker in &mut workers {
            worker.says("spend is near its budget").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_table_shows_the_budgets_and_what_has_doubled() {
    let redis = Redis::fresh();
    let (out, err) = said(&otpost(&redis, &["spend"]), 0);
    assert!(
        out.starts_with("amounts in USD; prices are an estimate: PRICES_FILE is not set\n"),
        "{out}{err}"
    );
    let now = Clock::System.now();
    let ago = |hours: u64| UnixMillis(now.0 - hours * 3_600_000);
    let spend_of = |at, name, messages, amount| entry(at, SpendGroup::Country, name, messages, amount);
    let spend_entries = vec![
        spend_of(ago(3), "CO", 100, "4"),
        spend_of(ago(3), "LV", 50, "5"),
        spend_of(ago(27), "CO", 98, "3.92"),
        entry(ago(1), SpendGroup::Sample, "expected", 10, "0.4"),
        entry(ago(1), SpendGroup::Sample, "paid", 10, "0.42"),
        entry(ago(1), SpendGroup::Sample, "other_currency", 2, "0"),
    ];
    let batch =
        ConversionBatch { writer: 1, sequence: 1, spend: spend_entries, ..ConversionBatch::default() };
    redis.store().add_conversion(&batch).await.expect("answers");
    let (out, err) = said(&spend(&redis, "20", &["--by", "country", "--since", "1d"]), 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("budget  of     reserved  committed  left   until"), "{out}");
    assert!(lines[2].starts_with("hour    -      0.00      0.00       -      20"), "{out}");
    assert!(lines[3].starts_with("day     20.00  0.00      0.00       20.00  20"), "{out}");
    assert!(lines[4].ends_with("; before: 1 day earlier"), "{out}");
    assert_eq!(
        lines[5..],
        [
            "country  messages  amount  before",
            "LV       50        5.00    0.00",
            "CO       100       4.00    3.92",
            "total    150       9.00    3.92",
            "sampled 10 messages: 0.40 expected, 0.42 paid, +5 %",
            "sampled 2 messages with a price in another currency",
        ]
    );
    assert!(err.is_empty(), "{err}");
    let (out, _) = said(&spend(&redis, "20", &["--by", "country", "--since", "8d", "--csv"]), 0);
    assert_eq!(out, "country,messages,amount,before\nCO,198,7.92,\nLV,50,5.00,\n");
    for wrong in [["--by", "block"], ["--since", "16d"], ["--limit", "0"]] {
        said(&otpost(&redis, &[&["spend"], &wrong[..]].concat()), 2);
    }
}

#[tokio::test]
async fn the_source_of_prices_is_named_with_the_providers_that_have_none() {
    let (redis, prices) = (Redis::fresh(), prices());
    let at = Clock::System.now();
    let spend_entries = vec![
        entry(at, SpendGroup::Provider, "twilio", 1, "0.01"),
        entry(at, SpendGroup::Provider, "acme", 1, "0.02"),
    ];
    let batch =
        ConversionBatch { writer: 1, sequence: 1, spend: spend_entries, ..ConversionBatch::default() };
    redis.store().add_conversion(&batch).await.expect("answers");
    let say = |file: &str| {
        let spend = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .args(["spend", "--by", "provider"])
            .env_clear()
            .env("ENVIRONMENT", "development")
            .env("REDIS_URL", redis_url())
            .env("REDIS_PREFIX", &redis.prefix)
            .env("PRICES_FILE", file)
            .output();
        said(&spend.expect("the binary starts"), 0).0
    };
    let out = say(prices.to_str().expect("text"));
    let first = "amounts in USD; prices of 2 rows of PRICES_FILE: simulated, twilio; the highest price counts for acme\n";
    assert!(out.starts_with(first), "{out}");
    std::fs::write(&prices, "twilio * 0.01 EUR\n").expect("written");
    let out = say(prices.to_str().expect("text"));
    assert!(out.contains("prices are not known here: PRICES_FILE names a file with faults: line 1"), "{out}");
    let out = say("/nonexistent");
    assert!(out.contains("PRICES_FILE names a file that does not exist"), "{out}");
}

/// The prices of a real process, and what is left of them when it ends.
#[tokio::test]
async fn amounts_of_a_process_are_added_before_it_ends() {
    in_world(async |world: &RabbitWorld| {
        let (redis, prices) = (Redis::fresh(), prices());
        let settings = [("PRICES_FILE", prices.to_str().expect("text"))];
        let mut worker = Running::with_servers("worker", world, &redis, &settings);
        worker.says("started").await;
        let mut results = world.results().await;
        for line in 0..3 {
            let request = json!({"request_id": format!("r{line}"), "to": format!("+57300123456{line}")});
            world.send(&request.to_string(), Properties::default()).await;
            results.next().await;
        }
        worker.terminate();
        worker.says("stopped with nothing in flight").await;
        let report = rows(&spend(&redis, "", &["--by", "sender", "--json"]), 0).remove(0);
        assert_eq!(report["rows"][0]["name"], "simulated 1", "{report}");
        assert_eq!(
            (&report["rows"][0]["messages"], &report["rows"][0]["amount"]),
            (&json!(3), &json!("0.06"))
        );
        assert_eq!(report["budgets"], json!([]), "without a budget there is no book");
        let stored = redis.key_names();
        assert!(stored.iter().all(|key| !key.ends_with(b"}:e")), "no book");
    })
    .await;
}
