//! TLS toward the servers that an operator runs: trusted roots, client certificates, their renewal, and faults.
//!
//! A [`TlsClient`] trusts the system's roots and those of a file. Each server has one, which all its connections share, so
//! that a private root of one server is trusted for no other. Files are read again by [`TlsClient::look`]: a connection
//! takes the newest configuration that could be built.

pub mod fault;
mod files;
mod system_roots;
mod validity;

use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::watch;

use self::files::{Configured, Fingerprint, Material};
pub use self::files::{FileFault, TlsFile, TlsFiles};
use self::system_roots::SystemRoots;
use crate::domain::time::UnixMillis;

/// The TLS configuration toward one server.
#[derive(Clone)]
pub struct TlsClient(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    current: watch::Sender<Current>,
    seen: Mutex<Seen>,
}

#[derive(Clone)]
struct Current {
    /// Counts the configurations.
    generation: u64,
    config: Arc<ClientConfig>,
    client_valid_until: Option<UnixMillis>,
}

impl Current {
    fn new(generation: u64, configured: Configured) -> Current {
        let Configured { config, client_valid_until } = configured;
        Current { generation, config: Arc::new(config), client_valid_until }
    }
}

/// The contents that the last looks found.
struct Seen {
    used: Fingerprint,
    has_system_roots: bool,
    /// Contents that cannot be used are reported once.
    refused: Option<Fingerprint>,
}

/// The effect of a look at the files.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    Unchanged,
    /// New connections use the new contents.
    Reloaded,
    /// The new contents cannot be used: the old ones stay in use.
    Refused(Vec<FileFault>),
}

/// Files that are being written are read until two readings agree.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
const READINGS_MAX: u32 = 6;
/// Less than the time between two readings.
const ROOTS_AGE_MAX: Duration = Duration::from_millis(250);

impl TlsClient {
    /// Reads the files and the system's roots.
    pub fn new(files: TlsFiles) -> Result<TlsClient, Vec<FileFault>> {
        let material = Material::read(&files, SystemRoots::not_older_than(Duration::MAX));
        let seen = Seen {
            used: material.fingerprint(),
            has_system_roots: material.has_system_roots(),
            refused: None,
        };
        let current = Current::new(0, material.config()?);
        Ok(TlsClient(Arc::new(Inner { files, current: watch::Sender::new(current), seen: Mutex::new(seen) })))
    }

    /// Without files: the system's roots.
    pub fn of_system() -> Result<TlsClient, FileFault> {
        TlsClient::new(TlsFiles::default()).map_err(|faults| faults.into_iter().next().expect("a fault"))
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.current.borrow().config)
    }

    /// The number of the configuration for new connections.
    pub fn generation(&self) -> u64 {
        self.0.current.borrow().generation
    }

    /// The end of our certificate in use, or of one in its chain that ends sooner. `None` without one.
    pub fn client_valid_until(&self) -> Option<UnixMillis> {
        self.0.current.borrow().client_valid_until
    }

    /// An error of connecting with this configuration, from which [`fault::TlsFault`] can tell a missing file from a wrong one.
    pub fn explained(&self, error: io::Error) -> io::Error {
        if self.0.files.ca.is_some() { fault::beside_file(error) } else { error }
    }

    /// Waits for a configuration that is newer than `generation`.
    pub async fn newer_than(&self, generation: u64) {
        let mut current = self.0.current.subscribe();
        let newer = current.wait_for(|current| current.generation > generation);
        newer.await.expect("this value holds the sender");
    }

    /// Reads the files again, and takes over what has changed. The first reading is compared alone; changed files are read
    /// until they no longer change.
    pub async fn look(&self) -> Look {
        let mut material = self.read().await;
        if self.is_known(material.fingerprint()) {
            return Look::Unchanged;
        }
        for _ in 1..READINGS_MAX {
            tokio::time::sleep(SETTLED_AFTER).await;
            let next = self.read().await;
            let is_settled = next.fingerprint() == material.fingerprint();
            material = next;
            if is_settled {
                break;
            }
        }
        self.take_over(material)
    }

    /// Reading waits for a disk.
    async fn read(&self) -> Material {
        let files = self.0.files.clone();
        let read = move || Material::read(&files, SystemRoots::not_older_than(ROOTS_AGE_MAX));
        tokio::task::spawn_blocking(read).await.expect("reading files does not panic")
    }

    fn is_known(&self, fingerprint: Fingerprint) -> bool {
        let seen = self.0.seen.lock().expect("nothing panics while it holds the lock");
        match seen.refused {
            Some(refused) => fingerprint == refused,
            None => fingerprint == seen.used,
        }
    }

    fn take_over(&self, material: Material) -> Look {
        let fingerprint = material.fingerprint();
        let mut seen = self.0.seen.lock().expect("nothing panics while it holds the lock");
        if fingerprint == seen.used {
            seen.refused = None;
            return Look::Unchanged;
        }
        let has_system_roots = material.has_system_roots();
        let config = match seen.has_system_roots && !has_system_roots {
            true => Err(vec![FileFault::no_system_roots()]),
            false => material.config(),
        };
        match config {
            Ok(configured) => {
                *seen = Seen { used: fingerprint, has_system_roots, refused: None };
                self.0
                    .current
                    .send_modify(|current| *current = Current::new(current.generation + 1, configured));
                Look::Reloaded
            }
            Err(faults) => {
                seen.refused = Some(fingerprint);
                Look::Refused(faults)
            }
        }
    }

    pub fn downgrade(&self) -> WeakTlsClient {
        WeakTlsClient(Arc::downgrade(&self.0))
    }
}

/// For a task that ends with the last connection.
pub struct WeakTlsClient(Weak<Inner>);

impl WeakTlsClient {
    pub fn upgrade(&self) -> Option<TlsClient> {
        self.0.upgrade().map(TlsClient)
    }
}

#[cfg(test)]
mod tests;
