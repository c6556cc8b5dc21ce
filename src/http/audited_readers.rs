//! Remembers whose readings of the overview are in the audit log, because the console reads it every few seconds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::events::Operator;

/// A reader is logged again after this time.
const LOGGED_EVERY: Duration = Duration::from_secs(10 * 60);
/// Beyond so many readers each reading is logged.
const READERS_MAX: usize = 256;

/// The claims `sub` and `jti` of the token, and the address of the client: a stolen token is read from another one.
type Reader = (String, Option<String>, Option<IpAddr>);

#[derive(Default)]
pub(super) struct AuditedReaders(Mutex<HashMap<Reader, Instant>>);

impl AuditedReaders {
    /// True if a reading of this reader was logged lately. Otherwise the caller logs this one.
    pub(super) fn is_repeated(&self, operator: &Operator) -> bool {
        let reader = (operator.sub.clone(), operator.jti.clone(), operator.client);
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

    fn operator(sub: &str, jti: Option<&str>, client: [u8; 4]) -> Operator {
        Operator { sub: sub.to_owned(), jti: jti.map(str::to_owned), client: Some(client.into()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_logged_every_ten_minutes_and_none_is_forgotten_for_another() {
        let readers = AuditedReaders::default();
        let is_repeated = |sub: &str| readers.is_repeated(&operator(sub, None, [192, 0, 2, 1]));
        assert_eq!(["ana", "ana"].map(is_repeated), [false, true]);
        tokio::time::advance(LOGGED_EVERY).await;
        assert_eq!(["ana", "ana"].map(is_repeated), [false, true]);
        for other in 1..READERS_MAX {
            assert!(!is_repeated(&other.to_string()));
        }
        assert_eq!(["one too many"; 2].map(is_repeated), [false; 2]);
        assert!(is_repeated("ana"));
    }

    #[test]
    fn another_token_and_another_address_are_another_reader() {
        let readers = AuditedReaders::default();
        for reader in [
            operator("ana", Some("t-1"), [192, 0, 2, 1]),
            operator("ana", Some("t-2"), [192, 0, 2, 1]),
            operator("ana", Some("t-1"), [192, 0, 2, 2]),
            operator("ana\nt-1", None, [192, 0, 2, 1]),
        ] {
            assert_eq!([0, 0].map(|_| readers.is_repeated(&reader)), [false, true]);
        }
    }
}
