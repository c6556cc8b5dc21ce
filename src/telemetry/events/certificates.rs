//! Events of the files of TLS.

use std::fmt::Display;

use tracing::{info, warn};

/// `url` is the name of the server's setting.
pub fn certificates_reloaded(url: &'static str) {
    info!(url, "certificates reloaded");
}

/// The files with the new contents cannot be used: connections keep the old ones. `error` names a setting and its rule.
pub fn certificates_refused(url: &'static str, error: &impl Display) {
    warn!(url, %error, "certificates not reloaded");
}
