//! The rights that `docs/deploy.md` gives the user of Redis are enough, and no more than the steps use.

use std::collections::BTreeSet;

use otpost::domain::shards::Shards;
use otpost::store::fault::MissingRight;
use otpost::store::redis::RedisStore;
use otpost::store::{Store as _, StoreError, StoreFault};

use super::cost::Server;
use super::{keeps_its_promises, request_to};
use crate::real::{self, Redis, redis_url};

const PAGE: &str = include_str!("../../../../docs/deploy.md");
const SOURCES: &[&str] = &[
    include_str!("../../../../src/store/redis/layout.lua"),
    include_str!("../../../../src/store/redis/limits.lua"),
    include_str!("../../../../src/store/redis/admit.lua"),
    include_str!("../../../../src/store/redis/progress.lua"),
    include_str!("../../../../src/store/redis/claims.lua"),
    include_str!("../../../../src/store/redis/suppressions.lua"),
    include_str!("../../../../src/store/redis/complete.lua"),
    include_str!("../../../../src/store/redis/checks.lua"),
    include_str!("../../../../src/store/redis/receipts.lua"),
    include_str!("../../../../src/store/redis/readers.lua"),
    include_str!("../../../../src/store/redis/shared.lua"),
    include_str!("../../../../src/store/redis/reports.lua"),
    include_str!("../../../../src/store/redis/log_filter.lua"),
    include_str!("../../../../src/store/redis/audit.lua"),
    include_str!("../../../../src/store/redis/key_checks.lua"),
    include_str!("../../../../src/store/redis/conversion.lua"),
    include_str!("../../../../src/store/redis/forget.lua"),
    include_str!("../../../../src/store/redis/redactions.lua"),
    include_str!("../../../../src/store/redis/defence.lua"),
    include_str!("../../../../src/store/redis/old_layout.lua"),
    include_str!("../../../../src/store/redis/move_old.lua"),
];
/// Steps that run only with more than one shard.
const SOURCES_OF_SHARDS: &[&str] = &[
    include_str!("../../../../src/store/redis/charges.lua"),
    include_str!("../../../../src/store/redis/shards.lua"),
];
pub const RIGHTS_OF_SHARDS: [&str; 1] = ["~{otpost:??}:*"];
const FUNCTIONS: [&str; 2] = ["+fcall", "+function|load"];
const SCRIPTS: [&str; 2] = ["+evalsha", "+script|load"];

/// The command of the page, in words.
pub fn of_the_page() -> Vec<&'static str> {
    let at = PAGE.find("ACL SETUSER ").expect("the page has the command");
    let block = PAGE[at..].split("```").next().expect("a part");
    block.split_whitespace().collect()
}

/// A user with the rights of the page, some of them replaced; deleted when dropped.
struct User {
    name: String,
    connection: redis::Connection,
}

impl User {
    fn with(prefix: &str, replaced: [&str; 2]) -> User {
        let name = real::unique("user");
        let client = redis::Client::open(redis_url()).expect("a Redis URL");
        let mut connection = client.get_connection().expect("Redis answers");
        let mut command = redis::cmd("ACL");
        for word in of_the_page().into_iter().skip(1) {
            match FUNCTIONS.iter().position(|right| *right == word) {
                Some(place) => command.arg(replaced[place]),
                None if word == "otpost" => command.arg(&name),
                None => command.arg(word.replace("{otpost}", &format!("{{{prefix}}}"))),
            };
        }
        let () = command.query(&mut connection).expect("the command of the page works");
        User { name, connection }
    }

    fn with_shards(prefix: &str) -> User {
        let mut user = User::with(prefix, FUNCTIONS);
        let rights = RIGHTS_OF_SHARDS.map(|right| right.replace("otpost", prefix));
        let mut command = redis::cmd("ACL");
        let () = command
            .arg("SETUSER")
            .arg(&user.name)
            .arg(&rights)
            .query(&mut user.connection)
            .expect("the rights are valid");
        user
    }

    fn store(&self, prefix: &str) -> RedisStore {
        self.store_of(prefix, Shards::ONE)
    }

    fn store_of(&self, prefix: &str, shards: Shards) -> RedisStore {
        let url = redis_url();
        let address = url.split_once("://").expect("a scheme").1;
        let server =
            address.rsplit('@').next().and_then(|server| server.split('/').next()).expect("a server");
        let url = format!("redis://{}:PASSWORD@{server}", self.name);
        RedisStore::connect(&url, prefix, shards).expect("a Redis URL")
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _: Result<(), _> = redis::cmd("ACL").arg("DELUSER").arg(&self.name).query(&mut self.connection);
    }
}

async fn keeps_its_promises_with(rights: [&str; 2]) {
    let redis = Redis::fresh();
    let user = User::with(&redis.prefix, rights);
    keeps_its_promises(&user.store(&redis.prefix)).await;
}

#[tokio::test]
async fn functions_need_no_right_to_run_scripts() {
    keeps_its_promises_with(FUNCTIONS).await;
}

#[tokio::test]
async fn scripts_need_no_right_to_run_functions() {
    keeps_its_promises_with(SCRIPTS).await;
}

#[tokio::test]
async fn shards_need_the_rights_of_the_page() {
    let redis = Redis::fresh();
    let user = User::with_shards(&redis.prefix);
    let store = user.store_of(&redis.prefix, Shards::new(16).expect("a number of shards"));
    keeps_its_promises(&store).await;
    store.heartbeat(1, true).await.expect("answers");
}

/// Nothing stored is damaged then, so no request may end for it.
#[tokio::test]
async fn a_missing_right_is_refused() {
    for rights in [FUNCTIONS, SCRIPTS] {
        let redis = Redis::fresh();
        let mut user = User::with(&redis.prefix, rights);
        let () = redis::cmd("ACL")
            .arg("SETUSER")
            .arg(&user.name)
            .arg("-set")
            .query(&mut user.connection)
            .expect("ok");
        let answer = user.store(&redis.prefix).admit(&request_to(1, "forbidden").admit()).await;
        let refused = StoreError::Unavailable(StoreFault::Permission(MissingRight::Step));
        assert_eq!(answer.expect_err("it may not write").to_string(), refused.to_string(), "{rights:?}");
    }
}

#[tokio::test]
async fn a_full_memory_is_refused() {
    let Some(server) = Server::start() else {
        eprintln!("not tried: redis-server is not installed");
        return;
    };
    let mut connection = server.connection();
    let mut set = |words: &[&str]| {
        let () = redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).expect("Redis does it");
    };
    for rights in [&["ACL", "SETUSER", "default", "+@all"][..], &["ACL", "SETUSER", "default", "-fcall"]] {
        set(rights);
        set(&["CONFIG", "SET", "maxmemory", "0"]);
        let store = RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL");
        store.kill_switch().await.expect("the step is loaded");
        store.admit(&request_to(1, "before").admit()).await.expect("there is room");
        set(&["CONFIG", "SET", "maxmemory", "1"]);
        let error = store.admit(&request_to(2, "full").admit()).await.expect_err("there is no room");
        assert_eq!(error, StoreError::Unavailable(StoreFault::OutOfMemory));
    }
}

#[test]
fn the_page_gives_the_rights_that_the_steps_use() {
    let used = used_by(SOURCES);
    let given = of_the_page().into_iter().filter(|word| !FUNCTIONS.contains(word));
    let given: BTreeSet<String> =
        given.filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect();
    assert_eq!(given, used);
    let of_shards: BTreeSet<String> = used_by(SOURCES_OF_SHARDS).difference(&given).cloned().collect();
    assert!(of_shards.is_empty(), "{of_shards:?}");
    assert!(PAGE.contains(&RIGHTS_OF_SHARDS.join(" ")));
    for right in SCRIPTS {
        assert!(PAGE.contains(right), "{right}");
    }
}

fn used_by(sources: &[&str]) -> BTreeSet<String> {
    let commands = sources.iter().flat_map(|source| source.split("call('").skip(1));
    commands.map(|call| call.split('\'').next().expect("a part").to_lowercase()).collect()
}
