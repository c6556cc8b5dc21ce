//! Remembers whose readings of the overview are in the audit log, because the console reads it every few seconds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// A reader is logged again after this time.
const LOGGED_EVERY: Duration = Duration::from_secs(10 * 60);
/// Beyond so many readers each reading is logged.
const READERS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct AuditedReaders(Mutex<HashMap<String, Instant>>);

impl AuditedReaders {
    /// True if a reading of this reader was logged lately. Otherwise the caller logs this one.
    pub(super) fn is_repeated(&self, reader: String) -> bool {
        let now = Instant::now();
        let mut readers = self.0.lock().expect("nothing panics while it holds the lock");
        readers.retain(|_, logged| now.saturating_duration_since(*logged) < LOGGED_EVERY);
        if readers.contains_key(&reader) {
            return true;
        }
        if readers.len() < READERS_MAX {
            readers.insert(reader, now);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_logged_every_ten_minutes_and_none_is_forgotten_for_another() {
        let readers = AuditedReaders::default();
        let ana = || readers.is_repeated("ana".to_owned());
        assert_eq!([ana(), ana()], [false, true]);
        tokio::time::advance(LOGGED_EVERY).await;
        assert_eq!([ana(), ana()], [false, true]);
        for other in 1..READERS_MAX {
            assert!(!readers.is_repeated(other.to_string()));
        }
        assert_eq!([0, 0].map(|_| readers.is_repeated("one too many".to_owned())), [false; 2]);
        assert!(ana());
    }
}
