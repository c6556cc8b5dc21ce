//! Key check values.

use super::RedisStore;
use super::library::Step;
use super::pack::Unpacker;
use crate::domain::key_check::{KeyCheck, KeyFingerprint};
use crate::store::StoreError;

impl RedisStore {
    /// Not watched for faults, as reports are not. Returns those that differ from their records.
    pub(super) async fn compare_keys(
        &self,
        keys: &[KeyCheck],
        accept: bool,
    ) -> Result<Vec<KeyCheck>, StoreError> {
        let mut call = self
            .call(Step::CheckKeys, &[self.keys.key_checks()])
            .arg(self.settings().pack())
            .arg(u8::from(accept));
        for key in keys {
            call = call.arg(key.name()).arg(&key.fingerprint.0);
        }
        let differing = |answer: &[u8]| {
            let answers = keys.iter().zip(answer);
            (answer.len() == keys.len())
                .then(|| answers.filter(|(_, sign)| **sign == b'!').map(|(key, _)| key.clone()).collect())
        };
        self.run_unwatched("check_keys", &call, differing).await
    }

    pub(super) async fn read_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        let call = self.call(Step::RecordedKeys, &[self.keys.key_checks()]).arg(self.settings().pack());
        self.run("recorded_keys", &call, recorded_keys).await
    }
}

/// A key of a use that only a later version knows is left out.
fn recorded_keys(answer: &[u8]) -> Option<Vec<KeyCheck>> {
    let (mut words, mut keys) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        let name = words.short()?;
        let fingerprint = KeyFingerprint(words.bytes(8)?.try_into().ok()?);
        keys.extend(KeyCheck::from_name(name, fingerprint));
    }
    Some(keys)
}
