//! `otpost conversion`, run by the real binary on the real Redis; and the counts of a real process.

use otpost::broker::Properties;
use otpost::clock::Clock;
use otpost::domain::conversion::Dimension;
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::time::UnixMillis;
use otpost::store::Store as _;
use serde_json::json;

use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::contract::store::conversion::entry;
use crate::logs::Running;
use crate::promises::secrets::has_run;
use crate::real::Redis;
use crate::traces::{post, result, serving, token};
use crate::why::{otpost, rows, said};

const HOUR: u64 = 3_600_000;

async fn plant(redis: &Redis) {
    let now = Clock::System.now();
    let ago = |millis| UnixMillis(now.0 - millis);
    let entries = vec![
        entry(ago(HOUR), Dimension::Country, "CO", 10, 7),
        entry(now, Dimension::Country, "CO", 3, 1),
        entry(now, Dimension::Country, "MX", 2, 2),
        entry(ago(30 * HOUR), Dimension::Country, "PE", 4, 1),
    ];
    let batch = ConversionBatch { writer: 1, sequence: 1, entries, spend: Vec::new() };
    redis.store().add_conversion(&batch).await.expect("answers");
}

#[tokio::test]
async fn a_table_shows_sent_verified_unverified_and_pending_codes() {
    let redis = Redis::fresh();
    let (out, err) = said(&otpost(&redis, &["conversion"]), 0);
    assert!(out.ends_with("no code was sent\n") && err.contains("holds no data"), "{out}{err}");
    plant(&redis).await;
    let (out, err) = said(&otpost(&redis, &["conversion", "--by", "country"]), 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("codes sent from ") && lines[0].ends_with("; a code lives for 10 min"),
        "{out}"
    );
    assert_eq!(
        lines[1..],
        [
            "country  sent  verified  unverified  pending  rate",
            "CO       13    8         3           2        70.0 %",
            "MX       2     2         0           0        too young",
            "total    15    10        3           2        70.0 %",
        ]
    );
    assert!(err.is_empty(), "{err}");
}

#[tokio::test]
async fn other_programs_read_json_or_comma_separated_values() {
    let redis = Redis::fresh();
    plant(&redis).await;
    let arguments = ["conversion", "--by", "country", "--since", "2d"];
    let (out, _) = said(&otpost(&redis, &[&arguments[..], &["--csv"]].concat()), 0);
    let csv =
        "country,sent,verified,unverified,pending,rate\nCO,13,8,3,2,0.7\nPE,4,1,3,0,0.25\nMX,2,2,0,0,\n";
    assert_eq!(out, csv);
    let json = rows(&otpost(&redis, &[&arguments[..], &["--limit", "1", "--json"]].concat()), 0);
    let named = |at: usize| json[0]["rows"][at]["name"].as_str().expect("a name");
    assert_eq!((named(0), named(1), &json[0]["total"]["sent"]), ("CO", "other", &19.into()));
    for wrong in [["--by", "number"], ["--since", "16d"], ["--limit", "0"]] {
        said(&otpost(&redis, &[&["conversion"], &wrong[..]].concat()), 2);
    }
}

/// A worker counts what is sent and another process what is verified; both add the rest before they end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_of_real_processes_are_counted_in_common_and_none_is_lost_at_the_end() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let settings = [("OTP_CALLER_CODES", "allow")];
        let mut worker = Running::with_servers("worker", world, &redis, &settings);
        worker.says("started").await;
        let (mut http, base) = serving("http", world, &redis, &[]).await;
        let mut results = world.results().await;
        for line in 0..6 {
            let to = format!("+57300123456{line}");
            let request = json!({"request_id": format!("r{line}"), "to": to, "code": "20261122"});
            world.send(&request.to_string(), Properties::default()).await;
            result(&mut results, "sms.sent").await;
        }
        let token = token();
        for (line, code, status) in
            [(1, "20261122", 200), (2, "20261123", 422), (3, "20261122", 200), (3, "20261122", 409)]
        {
            let body = json!({"to": format!("+57300123456{line}"), "otp_code": code});
            let (answered, text) = post(&base, "/api/v1/otp/verify", &token, &body).await;
            assert_eq!(answered, status, "{text}");
        }
        for process in [&mut worker, &mut http] {
            process.terminate();
            process.says("stopped with nothing in flight").await;
        }
        for (by, name) in [("channel", "sms"), ("block", "+573001234"), ("sender", "simulated 1")] {
            let report = rows(&otpost(&redis, &["conversion", "--by", by, "--json"]), 0);
            let row = &report[0]["rows"][0];
            let counts = ["sent", "verified", "unverified", "pending"].map(|count| row[count].as_u64());
            assert_eq!((&row["name"], counts), (&json!(name), [6, 2, 0, 4].map(Some)), "{by}");
        }
        let stored = format!("{:?}", redis.dump());
        assert!(stored.contains("}:xh"), "{stored}");
        for line in 0..6 {
            assert!(!has_run(&stored, &format!("300123456{line}")), "a number is stored");
        }
    })
    .await;
}
