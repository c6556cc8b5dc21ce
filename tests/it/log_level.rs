//! `otpost log-level` changes the filter of running processes, and no level lets out a code or a number.

use otpost::broker::Properties;
use serde_json::{Value, json};

use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::inspect::rows;
use crate::logs::Running;
use crate::promises::secrets::has_run;
use crate::real::Redis;
use crate::why::otpost;

const NUMBER: &str = "+573001234567";
const CODE: &str = "98761234";

async fn request(world: &RabbitWorld, id: &str) {
    let body = json!({"request_id": id, "to": NUMBER, "code": CODE, "user_name": "Ana", "client_ip": "198.51.100.77"});
    world.send(&body.to_string(), Properties::default()).await;
}

fn levels(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["level"].as_str()).collect()
}

#[tokio::test]
async fn a_filter_reaches_all_processes_for_a_while_and_no_level_shows_a_code_or_a_number() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let more = [("OTP_CALLER_CODES", "allow")];
        let mut worker = Running::with_servers("worker", world, &redis, &more);
        let mut http = Running::with_servers("http", world, &redis, &[]);
        worker.says("started").await;
        http.says("started").await;
        request(world, "r1").await;
        assert!(!levels(&worker.lines_until("request completed").await).contains(&"DEBUG"));

        let row = &rows(&otpost(&redis, &["--json", "log-level", "trace", "--for", "5m"]), 0)[0];
        assert_eq!(
            (&row["filter"], &row["seconds_left"], &row["before"]["set"]),
            (&json!("trace"), &json!(300), &json!(false))
        );
        for process in [&mut worker, &mut http] {
            let line = process.says("log filter changed").await;
            assert_eq!(
                (&line["filter"], &line["set_by"], &line["audit"]),
                (&json!("trace"), &row["set_by"], &json!(true))
            );
            assert_eq!(line["target"], "otpost::audit");
        }
        request(world, "r2").await;
        request(world, "r2").await;
        let mut lines = worker.lines_until("request completed").await;
        lines.extend(worker.lines_until("request completed").await);
        assert!(levels(&lines).contains(&"DEBUG") || levels(&lines).contains(&"TRACE"), "{lines:?}");

        let shown = &rows(&otpost(&redis, &["--json", "log-level", "show"]), 0)[0];
        assert_eq!((&shown["filter"], &shown["set_by"]), (&json!("trace"), &row["set_by"]));
        let before = &rows(&otpost(&redis, &["--json", "log-level", "reset"]), 0)[0]["before"];
        assert_eq!(before["filter"], "trace");
        for process in [&mut worker, &mut http] {
            lines.extend(process.lines_until("log filter restored").await);
            assert_eq!(lines.last().expect("a line")["reason"], "reset");
        }
        for line in lines.iter().map(Value::to_string) {
            for secret in [&NUMBER[3..], CODE, "198.51.100.77"] {
                assert!(!has_run(&line, secret), "{secret} is in: {line}");
            }
        }
        request(world, "r3").await;
        assert!(!levels(&worker.lines_until("request completed").await).contains(&"DEBUG"));
    })
    .await;
}

#[tokio::test]
async fn a_filter_ends_by_itself() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        let mut worker = Running::with_servers("worker", world, &redis, &[("RUST_LOG", "info")]);
        worker.says("started").await;
        rows(&otpost(&redis, &["--json", "log-level", "otpost=debug", "--for", "1s"]), 0);
        worker.says("log filter changed").await;
        assert_eq!(worker.says("log filter restored").await["reason"], "expired");
    })
    .await;
}

#[test]
fn a_bad_filter_is_refused_with_the_part_that_is_wrong() {
    let redis = Redis::fresh();
    for (arguments, wrong) in [
        (&["otpost=loud"] as &[&str], "`loud` is no level"),
        (&["inof"], "`inof` is no level"),
        (&["info,[{to=1}]=trace"], "is no level"),
        (&["Otpost=info"], "`Otpost` is no target"),
        (&["debug", "--for", "25h"], "at most 24h"),
        (&["show", "--for", "1m"], "--for goes with a filter"),
    ] {
        let output = otpost(&redis, &[&["log-level"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(wrong), "{arguments:?}: {error}");
    }
    assert_eq!(rows(&otpost(&redis, &["--json", "log-level", "show"]), 0)[0], json!({"set": false}));
}
