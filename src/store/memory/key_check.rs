//! Key check values.

use super::state::State;
use crate::domain::key_check::KeyCheck;
use crate::domain::time::UnixMillis;
use crate::store::retention::KEY_CHECK_KEPT;

impl State {
    pub(super) fn check_keys(&mut self, keys: &[KeyCheck], now: UnixMillis) -> Vec<KeyCheck> {
        self.key_checks.retain(|_, (_, at)| at.plus(KEY_CHECK_KEPT) > now);
        let mut differing = Vec::new();
        for key in keys {
            let (recorded, at) = self.key_checks.entry(key.name()).or_insert_with(|| (key.clone(), now));
            if recorded == key {
                *at = now;
            } else {
                differing.push(key.clone());
            }
        }
        differing
    }

    pub(super) fn accept_keys(&mut self, keys: &[KeyCheck], now: UnixMillis) {
        self.key_checks.extend(keys.iter().map(|key| (key.name(), (key.clone(), now))));
    }

    pub(super) fn recorded_keys(&self, now: UnixMillis) -> Vec<KeyCheck> {
        let kept = self.key_checks.values().filter(|(_, at)| at.plus(KEY_CHECK_KEPT) > now);
        kept.map(|(key, _)| key.clone()).collect()
    }
}
