//! The roots of this machine, read once for all servers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use sha2::{Digest as _, Sha256};

pub(super) struct SystemRoots {
    pub(super) roots: RootCertStore,
    pub(super) fingerprint: [u8; 32],
    read_at: Instant,
}

/// Hundreds of files take some ten milliseconds.
static LATEST: Mutex<Option<Arc<SystemRoots>>> = Mutex::new(None);

impl SystemRoots {
    /// Reads them, unless that was done a moment ago. Servers are looked at together, and wait for one reading.
    pub(super) fn not_older_than(age_max: Duration) -> Arc<SystemRoots> {
        let mut latest = LATEST.lock().expect("reading them does not panic");
        match &*latest {
            Some(roots) if roots.read_at.elapsed() <= age_max => Arc::clone(roots),
            _ => Arc::clone(latest.insert(Arc::new(SystemRoots::read()))),
        }
    }

    /// Roots that cannot be read are left out, as other clients do.
    fn read() -> SystemRoots {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut digest = Sha256::new();
        for certificate in &certificates {
            digest.update((certificate.len() as u64).to_be_bytes());
            digest.update(certificate);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        SystemRoots { roots, fingerprint: digest.finalize().into(), read_at: Instant::now() }
    }
}
