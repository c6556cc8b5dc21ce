//! Commands that only read, with a `REDIS_PREFIX` that no process uses.

use otpost::store::Store as _;

use crate::harness::ALICE;
use crate::inspect::otpost;
use crate::real::{Redis, redis_url};
use crate::why::said;

const EMPTY: &str = "REDIS_PREFIX holds no data: no worker or API has started with it";

#[test]
fn commands_that_only_read_write_nothing_and_say_that_nothing_is_there() {
    let redis = Redis::fresh();
    let url = redis_url();
    for shards in ["1", "16"] {
        for (arguments, exit, is_told) in [
            (&["why", "r1"] as &[&str], 3, true),
            (&["why", "--to", ALICE], 3, true),
            (&["rate-limit", ALICE], 0, true),
            (&["suppressions", "list"], 0, true),
            (&["kill-switch", "status"], 0, true),
            (&["store", "show", "--to", ALICE], 3, false),
            (&["status"], 3, false),
        ] {
            let settings = [
                ("ENVIRONMENT", "development"),
                ("AMQP_URL", "amqp://guest:guest@127.0.0.1:9/%2f"),
                ("REDIS_URL", url.as_str()),
                ("REDIS_PREFIX", &redis.prefix),
                ("REDIS_SHARDS", shards),
            ];
            let (out, err) = said(&otpost(&settings, arguments), exit);
            assert_eq!(err.contains(EMPTY), is_told, "{arguments:?}: {out}{err}");
            assert_eq!(redis.key_names(), [""; 0].map(Vec::from), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn a_prefix_that_is_in_use_has_no_such_line() {
    let redis = Redis::fresh();
    redis.store().kill_switch().await.expect("answers");
    let url = redis_url();
    let settings =
        [("ENVIRONMENT", "development"), ("REDIS_URL", url.as_str()), ("REDIS_PREFIX", &redis.prefix)];
    let (_, err) = said(&otpost(&settings, &["suppressions", "list"]), 0);
    assert!(!err.contains(EMPTY), "{err}");
}
