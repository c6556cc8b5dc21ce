//! The settings of the collector of traces, checked.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// The export of traces. It holds secrets, hence no `Debug`.
pub struct Traces {
    /// The full URL of the collector.
    pub url: String,
    pub headers: Vec<(String, SecretString)>,
    pub timeout: Duration,
    /// Roots that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The variable that names the file.
    pub ca_setting: &'static str,
    /// `service.name` and others.
    pub resource: Vec<(String, String)>,
    /// A publisher's decision to record its trace holds for its requests.
    pub follows_publisher: bool,
    /// The share of traces that are recorded, from 0 to 1.
    pub ratio: f64,
    /// The trace of a publisher goes on with its requests.
    pub joins_publisher: bool,
}
