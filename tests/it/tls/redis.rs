//! A real Redis that requires client certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otpost::domain::shards::Shards;
use otpost::store::redis::RedisStore;
use otpost::store::{Store as _, StoreError, StoreFault};
use otpost::tls::fault::TlsFault;
use otpost::tls::{Look, TlsClient};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::pki::Pki;
use crate::contract::broker::patiently;
use crate::store_faults::server::OwnRedis;

/// A server that trusts the authority `private`, and its port with TLS.
struct Scene {
    pki: Pki,
    server: OwnRedis,
    tls_port: u16,
}

impl Scene {
    /// `None` if a program is not installed.
    fn start() -> Option<Scene> {
        let pki = Pki::new()?;
        pki.authority("private");
        pki.authority("other");
        pki.issue("private", "server", "localhost");
        pki.issue("private", "client", "otpost");
        pki.issue("other", "stranger", "otpost");
        let files = ["server.key", "server.crt", "private.pem"].map(|file| pki.path(file));
        let (server, tls_port) = OwnRedis::with_client_certificates(&files)?;
        Some(Scene { pki, server, tls_port })
    }

    fn store(&self, tls: TlsClient) -> RedisStore {
        let url = format!("rediss://127.0.0.1:{}", self.tls_port);
        RedisStore::connect_with(&url, "otpost", Shards::ONE, Some(tls)).expect("a URL")
    }

    /// The ids of the connections over TLS.
    fn connections(&self, admin: &mut redis::Connection) -> Vec<String> {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(admin).expect("Redis answers");
        let here = format!(" laddr=127.0.0.1:{} ", self.tls_port);
        let id = |line: &str| line.split(' ').next().expect("a first word").to_owned();
        list.lines().filter(|line| line.contains(&here)).map(id).collect()
    }
}

async fn fault(store: &RedisStore) -> StoreFault {
    match store.heartbeat(1, false).await {
        Err(StoreError::Unavailable(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn redis_takes_a_client_certificate_of_its_authority_and_no_other() {
    let Some(scene) = Scene::start() else { return };
    let with = |authority, client| scene.store(scene.pki.client(authority, client));
    with("private", Some("client")).heartbeat(1, false).await.expect("it answers");
    for (authority, client, expected) in [
        ("private", None, TlsFault::ClientCertificateRequired),
        ("private", Some("stranger"), TlsFault::ClientCertificateRefused),
        ("other", Some("client"), TlsFault::OtherIssuer),
    ] {
        assert_eq!(fault(&with(authority, client)).await, StoreFault::Tls(expected));
    }
}

#[tokio::test]
async fn a_renewed_certificate_replaces_the_connection_and_no_step_fails() {
    let Some(scene) = Scene::start() else { return };
    let tls = scene.pki.client("private", Some("client"));
    let store = scene.store(tls.clone());
    store.heartbeat(1, false).await.expect("it answers");
    let mut admin = scene.server.connection("");
    let before = scene.connections(&mut admin);
    assert_eq!(before.len(), 1, "{before:?}");
    let steps = async {
        loop {
            store.heartbeat(1, false).await.expect("no step fails");
            tokio::task::yield_now().await;
        }
    };
    let renewed = async {
        scene.pki.issue("private", "renewed", "otpost");
        scene.pki.replace("client", "renewed");
        assert_eq!(tls.look().await, Look::Reloaded);
        loop {
            let now = scene.connections(&mut admin);
            if now.len() == 1 && now != before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = patiently(renewed) => {}
        () = steps => unreachable!("steps go on"),
    }
    store.heartbeat(1, false).await.expect("the new connection answers");
}

/// A proxy that counts connections.
async fn counting_proxy(port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let own_port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    (own_port, count)
}

#[tokio::test]
async fn a_connection_stays_in_use_where_redis_refuses_the_renewed_certificate() {
    let Some(scene) = Scene::start() else { return };
    let tls = scene.pki.client("private", Some("client"));
    let (port, count) = counting_proxy(scene.tls_port).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let store = RedisStore::connect_with(&url, "otpost", Shards::ONE, Some(tls.clone())).expect("a URL");
    store.heartbeat(1, false).await.expect("it answers");
    let mut admin = scene.server.connection("");
    let before = scene.connections(&mut admin);
    let so_far = count.load(Ordering::Relaxed);
    scene.pki.replace("client", "stranger");
    assert_eq!(tls.look().await, Look::Reloaded);
    patiently(async {
        while count.load(Ordering::Relaxed) == so_far {
            store.heartbeat(1, false).await.expect("the old connection answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for _ in 0..50 {
        store.heartbeat(1, false).await.expect("the old connection answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(scene.connections(&mut admin), before);
    assert_eq!(count.load(Ordering::Relaxed), so_far + 1, "the next attempt is not made at once");
}
