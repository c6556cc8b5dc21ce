//! Real Redis servers for tests: a Cluster, or a primary with replicas and sentinels, on free loopback ports.
//!
//! Every server is killed, and the folder removed, when the value is dropped, also by a panic. All functions take `&self`, so
//! that one task can harm a server while others use it.

mod cluster;
mod node;
mod sentinel;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use self::cluster::Cluster;
pub use self::node::{Node, Persistence};
pub use self::sentinel::Sentinel;

/// The interval of polling; a server announces none of these states.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// This machine has `redis-server`.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("redis-server").exists())
}

/// Polls until there is an answer. The error has the last reason.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + within;
    loop {
        let why_not = match check().await {
            Ok(found) => return Ok(found),
            Err(why_not) => why_not,
        };
        if Instant::now() >= deadline {
            return Err(format!("{what} did not come within {within:?}: {why_not}"));
        }
        sleep(POLL_EVERY).await;
    }
}

/// The folder of some servers, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, String> {
        if !is_installed() {
            return Err("this machine has no redis-server".to_owned());
        }
        let name = format!("otpost-redis-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("a folder: {error}"))?;
        Ok(Folder(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
