//! The real servers that tests talk to, with names of their own for each test.

use std::sync::Once;

use otpost::domain::shards::Shards;
use otpost::store::redis::RedisStore;

/// Where a server is: as given, or on its standard port.
fn url(name: &str, standard: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| standard.to_owned())
}

pub fn redis_url() -> String {
    url("OTPOST_TEST_REDIS_URL", "redis://127.0.0.1:6379")
}

/// A name that no other test and no earlier run has.
pub fn unique(kind: &str) -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    format!("test-{kind}-{:016x}", u64::from_ne_bytes(bytes))
}

pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
}

/// A part of a real Redis, cleaned up when dropped.
pub struct Redis {
    pub prefix: String,
    client: redis::Client,
}

impl Redis {
    pub fn fresh() -> Redis {
        Redis::with_prefix(&unique("store"))
    }

    pub fn with_prefix(prefix: &str) -> Redis {
        install_crypto();
        let client = redis::Client::open(redis_url()).expect("a Redis URL");
        Redis { prefix: prefix.to_owned(), client }
    }

    pub fn store(&self) -> RedisStore {
        RedisStore::connect(&redis_url(), &self.prefix, Shards::ONE).expect("a Redis URL")
    }

    /// A store with more than one shard.
    pub fn sharded(&self, shards: u16) -> RedisStore {
        self.sharded_store(Shards::new(shards).expect("a number of shards"))
    }

    /// The name of a key in a shard.
    pub fn in_shard(&self, shard: u8, key: impl AsRef<[u8]>) -> Vec<u8> {
        [format!("{{{}:{shard:02x}}}:", self.prefix).as_bytes(), key.as_ref()].concat()
    }

    /// Runs any command.
    pub fn run<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let mut connection = self.client.get_connection().expect("Redis answers");
        command.query(&mut connection).expect("Redis answers")
    }

    pub fn sharded_store(&self, shards: Shards) -> RedisStore {
        RedisStore::connect(&redis_url(), &self.prefix, shards).expect("a Redis URL")
    }

    /// All keys with their time to live in milliseconds and everything in them, as one string each.
    pub fn dump(&self) -> Vec<(String, i64, String)> {
        let mut connection = self.client.get_connection().expect("Redis answers");
        self.keys(&mut connection).into_iter().map(|key| read(&mut connection, key)).collect()
    }

    pub fn key_names(&self) -> Vec<Vec<u8>> {
        let mut connection = self.client.get_connection().expect("Redis answers");
        self.keys(&mut connection)
    }

    /// Cuts the last byte of the value under a key, whose name is escaped.
    pub fn truncate(&self, escaped: &str) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let mut keys = self.keys(&mut connection).into_iter();
        let key = keys.find(|key| key.escape_ascii().to_string() == escaped).expect("it is there");
        let value: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut connection).expect("Redis answers");
        let cut = &value[..value.len() - 1];
        let () =
            redis::cmd("SET").arg(key).arg(cut).arg("KEEPTTL").query(&mut connection).expect("Redis answers");
    }

    /// Every key has a time to live, but those whose names hold these words, in their order.
    pub fn expect_only_these_without_a_ttl(&self, words: &[&str]) {
        let dump = self.dump();
        assert!(!dump.is_empty(), "a scan that finds nothing proves nothing");
        let mut without: Vec<&str> =
            dump.iter().filter(|(_, ttl, _)| *ttl <= 0).map(|(key, ..)| key.as_str()).collect();
        let name = |key: &&str| key.split_once("}:").map_or(String::new(), |(_, name)| format!(":{name}"));
        without.sort_unstable_by_key(|key| (name(key).rsplit(':').next().map(str::to_owned), key.to_owned()));
        let holds = |(key, word): (&&str, &&str)| name(key).contains(word);
        assert!(
            without.len() == words.len() && without.iter().zip(words).all(holds),
            "without a time to live: {without:?}"
        );
    }

    /// Puts a value under one of the keys, for a minute.
    pub fn write(&self, key: impl AsRef<[u8]>, value: &str) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let key = self.name(key);
        let () = redis::cmd("SET")
            .arg(key)
            .arg(value)
            .arg("EX")
            .arg(60)
            .query(&mut connection)
            .expect("Redis answers");
    }

    /// Puts a value under each of many keys.
    pub fn write_all(&self, values: impl Iterator<Item = (String, &'static str)>) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let mut all = redis::pipe();
        for (key, value) in values {
            all.set(format!("{{{}}}:{key}", self.prefix), value).ignore();
        }
        let () = all.query(&mut connection).expect("Redis answers");
    }

    /// Replaces one of the keys by the effect of a command, whose first argument it is.
    pub fn replace(&self, key: impl AsRef<[u8]>, command: &str, arguments: &[&[u8]]) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        self.delete(&key);
        let key = self.name(key);
        let () = redis::cmd(command).arg(key).arg(arguments).query(&mut connection).expect("Redis answers");
    }

    /// Everything, as a replica has it.
    pub fn copy(&self) -> Vec<(Vec<u8>, i64, Vec<u8>)> {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let keys = self.keys(&mut connection).into_iter();
        keys.map(|key| {
            let mut both = redis::pipe();
            both.cmd("PTTL").arg(&key).cmd("DUMP").arg(&key);
            let (ttl, value) = both.query(&mut connection).expect("Redis answers");
            (key, ttl, value)
        })
        .collect()
    }

    /// A failover to a replica that lacks every write since a copy.
    pub fn lose_writes_since(&self, copy: &[(Vec<u8>, i64, Vec<u8>)]) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let mut all = redis::pipe();
        all.atomic();
        for key in self.keys(&mut connection) {
            all.del(key).ignore();
        }
        for (key, ttl, value) in copy {
            all.cmd("RESTORE").arg(key).arg((*ttl).max(0)).arg(value).ignore();
        }
        let () = all.query(&mut connection).expect("Redis answers");
    }

    /// A string under one of the keys.
    pub fn read(&self, key: impl AsRef<[u8]>) -> Vec<u8> {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let key = self.name(key);
        redis::cmd("GET").arg(key).query(&mut connection).expect("Redis answers")
    }

    pub fn read_if_any(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let mut connection = self.client.get_connection().expect("Redis answers");
        redis::cmd("GET").arg(self.name(key)).query(&mut connection).expect("Redis answers")
    }

    /// Puts a value under a key of a shard.
    pub fn write_in_shard(&self, shard: &str, key: &str) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let key = format!("{{{}:{shard}}}:{key}", self.prefix);
        let () = redis::cmd("SET").arg(key).arg("x").query(&mut connection).expect("Redis answers");
    }

    pub fn delete(&self, key: impl AsRef<[u8]>) {
        let mut connection = self.client.get_connection().expect("Redis answers");
        let key = self.name(key);
        let () = redis::cmd("DEL").arg(key).query(&mut connection).expect("Redis answers");
    }

    fn name(&self, key: impl AsRef<[u8]>) -> Vec<u8> {
        [format!("{{{}}}:", self.prefix).as_bytes(), key.as_ref()].concat()
    }

    fn keys(&self, connection: &mut redis::Connection) -> Vec<Vec<u8>> {
        let pattern = format!("*{}*", self.prefix);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let (next, found): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(1_000)
                .query(connection)
                .expect("Redis answers");
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                return keys;
            }
        }
    }
}

fn read(connection: &mut redis::Connection, key: Vec<u8>) -> (String, i64, String) {
    let ttl = redis::cmd("PTTL").arg(&key).query(connection).expect("Redis answers");
    let kind: String = redis::cmd("TYPE").arg(&key).query(connection).expect("Redis answers");
    if kind == "string" {
        let value: Vec<u8> = redis::cmd("GET").arg(&key).query(connection).expect("Redis answers");
        return (key.escape_ascii().to_string(), ttl, value.escape_ascii().to_string());
    }
    let value: redis::Value = match kind.as_str() {
        "hash" => redis::cmd("HGETALL").arg(&key).query(connection),
        "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).query(connection),
        _ => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES").query(connection),
    }
    .expect("Redis answers");
    (key.escape_ascii().to_string(), ttl, format!("{value:?}"))
}

impl Drop for Redis {
    fn drop(&mut self) {
        let Ok(mut connection) = self.client.get_connection() else {
            return;
        };
        for key in self.keys(&mut connection) {
            let _: Result<(), _> = redis::cmd("UNLINK").arg(key).query(&mut connection);
        }
    }
}
