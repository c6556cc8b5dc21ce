//! Events of the files of TLS.

use std::fmt::Display;

use tracing::{error, info, warn};

use crate::domain::channel::Channel;
use crate::domain::time::UnixMillis;

/// `url` is the name of the server's setting.
pub fn certificates_reloaded(url: &'static str) {
    info!(url, "certificates reloaded");
}

/// The files with the new contents cannot be used: connections keep the old ones. `error` names a setting and its rule.
pub fn certificates_refused(url: &'static str, error: &impl Display) {
    warn!(url, %error, "certificates not reloaded");
}

/// A server may refuse it. `setting` names the file of the certificate.
pub fn client_certificate_expired(setting: &'static str, at: UnixMillis) {
    error!(setting, %at, "client certificate has expired: renew it");
}

/// Ends `store takes no new certificates`.
pub fn store_replaced() {
    info!("store takes the new certificates");
}

/// Ends `broker takes no new certificates`.
pub fn broker_replaced(role: &'static str, channel: Option<Channel>) {
    info!(role, channel = channel.map(Channel::as_str), "broker takes the new certificates");
}
