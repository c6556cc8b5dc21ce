//! Events of key check values. A fingerprint reveals no key.

use std::fmt::Display;

use tracing::{error, info};

use crate::domain::key_check::{KeyCheck, KeyUse};
use crate::telemetry::metrics::{KeyLabels, KeyUseLabel, METRICS};

pub fn key_in_use(key: &KeyCheck) {
    let labels = KeyLabels {
        r#use: key.key_use.as_str(),
        kid: key.kid.clone(),
        fingerprint: key.fingerprint.to_string(),
    };
    METRICS.key_info.get_or_create(&labels).set(1);
}

pub fn key_mismatch(key_use: KeyUse, differs: bool) {
    let labels = KeyUseLabel { r#use: key_use.as_str() };
    METRICS.key_mismatch.get_or_create(&labels).set(i64::from(differs));
}

/// The keys may differ.
pub fn keys_not_compared(error: &impl Display) {
    error!(%error, "keys could not be compared with the recorded ones");
}

pub fn key_differs(key: &KeyCheck) {
    let (setting, fingerprint) = (key.key_use.setting(), &key.fingerprint);
    error!(
        key = %key, setting, %fingerprint,
        "key differs from the recorded one: compare the setting with other processes' (otpost status)"
    );
}

pub fn key_agrees(key: &KeyCheck) {
    let (setting, fingerprint) = (key.key_use.setting(), &key.fingerprint);
    info!(key = %key, setting, %fingerprint, "key agrees with the recorded one again");
}
