//! Redis does not answer, or refuses: each cause has its reason, here of a step and in `binary.rs` as operators see it.

mod binary;
mod reads;
pub mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use otpost::domain::shards::Shards;
use otpost::store::fault::MissingRight;
use otpost::store::redis::RedisStore;
use otpost::store::{SharedState, Store as _, StoreError, StoreFault};
use otpost::tls::fault::TlsFault;

use self::server::{OwnRedis, TLS, key};
use crate::contract::broker::patiently;
use crate::inspect::otpost;

const PREFIX: &str = "otpost";

fn store(url: &str) -> RedisStore {
    crate::real::install_crypto();
    RedisStore::connect(url, PREFIX, Shards::ONE).expect("a Redis URL")
}

/// The fault of a heartbeat, which is what an idle worker runs.
async fn fault(store: &RedisStore) -> StoreFault {
    match store.heartbeat(1, false).await {
        Err(StoreError::Unavailable(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

async fn until_it_answers(store: &RedisStore) -> SharedState {
    patiently(async {
        loop {
            if let Ok(shared) = store.heartbeat(1, false).await {
                return shared;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_wrong_password_is_named_and_a_step_succeeds_once_it_is_right() {
    let Some(server) = OwnRedis::start(&["--requirepass", "right"]) else { return };
    let at = |user: &str| store(&format!("redis://{user}127.0.0.1:{}", server.port));
    let stores = [at(":wrong@"), at("unknown:wrong@"), at("")];
    for store in &stores {
        for _ in 0..2 {
            assert_eq!(fault(store).await, StoreFault::Password);
        }
    }
    let mut admin = server.connection(":right@");
    let set = |words: &[&str], admin: &mut redis::Connection| {
        let () = redis::cmd(words[0]).arg(&words[1..]).query(admin).expect("Redis does it");
    };
    set(&["CONFIG", "SET", "requirepass", "wrong"], &mut admin);
    until_it_answers(&stores[0]).await;
    set(&["ACL", "SETUSER", "unknown", "on", ">wrong", "allkeys", "+@all"], &mut admin);
    until_it_answers(&stores[1]).await;
    set(&["CONFIG", "SET", "requirepass", ""], &mut admin);
    until_it_answers(&stores[2]).await;
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_named() {
    let Some(server) = OwnRedis::start(&["--databases", "2"]) else { return };
    let url = |database: u8| format!("{}/{database}", server.url());
    assert_eq!(fault(&store(&url(2))).await, StoreFault::Database);
    until_it_answers(&store(&url(1))).await;
}

#[tokio::test]
async fn the_missing_right_is_named_and_a_step_succeeds_once_it_is_given() {
    let Some(server) = OwnRedis::start(&[]) else { return };
    for (without, database, right) in [
        ("-fcall -evalsha", "", MissingRight::Functions),
        ("-function|load -script|load", "", MissingRight::Functions),
        ("resetkeys ~other:*", "", MissingRight::Keys),
        ("-set", "", MissingRight::Step),
        ("-select", "/1", MissingRight::Other),
    ] {
        server.run(&["FUNCTION FLUSH", "SCRIPT FLUSH", "FLUSHALL"]);
        server.run(&["ACL SETUSER app reset on >secret ~* &* +@all", &format!("ACL SETUSER app {without}")]);
        let store = store(&format!("redis://app:secret@127.0.0.1:{}{database}", server.port));
        assert_eq!(fault(&store).await, StoreFault::Permission(right), "{without}");
        server.run(&["ACL SETUSER app ~* +@all"]);
        until_it_answers(&store).await;
    }
}

/// An idle worker only runs heartbeats. So each of these makes one fail, as a function and as a script.
#[tokio::test]
async fn a_server_that_refuses_writes_fails_the_heartbeat_until_it_takes_them_again() {
    let Some(server) = OwnRedis::start(&[]) else { return };
    for rights in ["+@all", "-fcall"] {
        server.run(&[&format!("ACL SETUSER default {rights}")]);
        let store = store(&server.url());
        until_it_answers(&store).await;
        for (breaks, mends, expected) in [
            ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", StoreFault::OutOfMemory),
            (
                "CONFIG SET min-replicas-to-write 1",
                "CONFIG SET min-replicas-to-write 0",
                StoreFault::TooFewReplicas,
            ),
            ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", StoreFault::ReadOnly),
        ] {
            server.run(&[breaks]);
            assert_eq!(fault(&store).await, expected, "{rights}");
            server.run(&[mends]);
            until_it_answers(&store).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_could_not_save_fails_the_heartbeat_until_writes_are_allowed() {
    let Some(server) = OwnRedis::start(&["--save", "900 1"]) else { return };
    let stores = [store(&server.url()), store(&server.url())];
    until_it_answers(&stores[0]).await;
    server.run(&["ACL SETUSER default -fcall"]);
    until_it_answers(&stores[1]).await;
    server.run(&["ACL SETUSER default +fcall"]);
    std::fs::remove_dir_all(&server.folder).expect("it is there");
    server.run(&["BGSAVE"]);
    until_the_save_has_failed(&server).await;
    for store in &stores {
        assert_eq!(fault(store).await, StoreFault::SaveFailed);
    }
    server.run(&["CONFIG SET stop-writes-on-bgsave-error no"]);
    for store in &stores {
        until_it_answers(store).await;
    }
}

async fn until_the_save_has_failed(server: &OwnRedis) {
    let mut connection = server.connection("");
    patiently(async {
        loop {
            let info: String =
                redis::cmd("INFO").arg("persistence").query(&mut connection).expect("Redis answers");
            if info.contains("rdb_last_bgsave_status:err") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_plain_url_that_leads_to_a_cluster_or_a_sentinel_is_named() {
    let Some(one) = OwnRedis::start(&["--cluster-enabled", "yes"]) else { return };
    let Some(other) = OwnRedis::start(&["--cluster-enabled", "yes"]) else { return };
    let lost = store(&one.url());
    assert_eq!(fault(&lost).await, StoreFault::ClusterDown);
    assert_eq!(fault(&store(&format!("{}/1", one.url()))).await, StoreFault::ClusterNode);
    // The slot of the prefix is at the other node.
    let slot: u16 = redis::cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg(PREFIX)
        .query(&mut one.connection(""))
        .expect("Redis answers");
    let others = format!("CLUSTER ADDSLOTSRANGE 0 {} {} 16383", slot - 1, slot + 1);
    one.run(&[&others, &format!("CLUSTER MEET 127.0.0.1 {}", other.port)]);
    other.run(&[&format!("CLUSTER ADDSLOTS {slot}")]);
    let moved = async {
        while fault(&lost).await != StoreFault::ClusterNode {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patiently(moved).await;
    let Some(sentinel) = OwnRedis::start(&["--sentinel"]) else { return };
    assert_eq!(fault(&store(&sentinel.url())).await, StoreFault::Sentinel);
    assert_eq!(fault(&store(&format!("{}/1", sentinel.url()))).await, StoreFault::Sentinel);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_by_the_cause() {
    assert_eq!(fault(&store("redis://127.0.0.1:1")).await, StoreFault::ConnectionRefused);
    assert_eq!(fault(&store("redis://redis.invalid")).await, StoreFault::NameLookup);
    let Some(server) = OwnRedis::start(&[]) else { return };
    let store = store(&server.url());
    until_it_answers(&store).await;
    server.freeze();
    assert_eq!(fault(&store).await, StoreFault::NoAnswer);
}

/// A server that gives one answer to every command.
fn always(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            std::thread::spawn(move || {
                let mut read = [0; 64 * 1_024];
                while let Ok(length @ 1..) = connection.read(&mut read) {
                    let commands = read[..length].split(|byte| *byte == b'\n');
                    let count = commands.filter(|line| line.starts_with(b"*")).count();
                    if connection.write_all(answer.repeat(count).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn errors_of_a_server_are_named_and_nothing_of_their_text_is_shown() {
    for (answer, expected) in [
        ("-LOADING Redis is loading the dataset in memory\r\n", StoreFault::Loading),
        ("-MASTERDOWN Link with MASTER is down\r\n", StoreFault::PrimaryDown),
        ("-BUSY Redis is busy running a script.\r\n", StoreFault::Busy),
        ("-CLUSTERDOWN The cluster is down\r\n", StoreFault::ClusterDown),
        ("-MOVED 1 10.9.8.7:6379\r\n", StoreFault::ClusterNode),
        ("-ERR max number of clients reached\r\n", StoreFault::TooManyClients),
        ("-WRONGPASS invalid username-password pair\r\n", StoreFault::Password),
        ("-DENIED hunter2 at 10.9.8.7\r\n", StoreFault::Refused("DENIED".to_owned())),
        ("-hunter2 at 10.9.8.7\r\n", StoreFault::Refused("?".to_owned())),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", StoreFault::NotRedis),
    ] {
        let fault = fault(&store(&always(answer))).await;
        assert_eq!(fault, expected, "{answer}");
        let shown = format!("{fault} {fault:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("10.9.8.7"), "{shown}");
    }
}

#[tokio::test]
async fn faults_of_tls_are_named() {
    for (certificate, host, more, trusts, expected) in [
        ("redis.certificate.pem", "127.0.0.1", &["--tls-auth-clients", "no"], "relay.certificate.pem", {
            StoreFault::Tls(TlsFault::UnknownIssuer)
        }),
        ("redis.certificate.pem", "localhost", &["--tls-auth-clients", "no"], "redis.certificate.pem", {
            StoreFault::Tls(TlsFault::WrongName)
        }),
        ("redis.expired.pem", "127.0.0.1", &["--tls-auth-clients", "no"], "redis.expired.pem", {
            StoreFault::Tls(TlsFault::Expired)
        }),
        ("redis.not-valid-yet.pem", "127.0.0.1", &["--tls-auth-clients", "no"], "redis.not-valid-yet.pem", {
            StoreFault::Tls(TlsFault::NotValidYet)
        }),
        ("redis.certificate.pem", "127.0.0.1", &["--tls-auth-clients", "yes"], "redis.certificate.pem", {
            StoreFault::Tls(TlsFault::ClientCertificateRequired)
        }),
    ] {
        let Some(server) = OwnRedis::start(&[&[TLS, certificate], &more[..]].concat()) else { return };
        let url = format!("rediss://{host}:{}", server.port);
        // Trust in a certificate holds for a process.
        let settings =
            [("ENVIRONMENT", "development"), ("REDIS_URL", url.as_str()), ("SSL_CERT_FILE", &key(trusts))];
        let output = otpost(&settings, &["kill-switch", "status"]);
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(error, format!("otpost: Redis (REDIS_URL): {expected}\n"), "{certificate} at {host}");
    }
    let Some(server) = OwnRedis::start(&[]) else { return };
    let plain = store(&format!("rediss://127.0.0.1:{}", server.port));
    assert_eq!(fault(&plain).await, StoreFault::NoAnswer, "it waits for the end of a command");
    let tls = OwnRedis::start(&[TLS, "redis.certificate.pem", "--tls-auth-clients", "no"]);
    let lost = fault(&store(&tls.expect("it is installed").url())).await;
    assert!(matches!(lost, StoreFault::ConnectionFailed(_)), "{lost:?}");
}
