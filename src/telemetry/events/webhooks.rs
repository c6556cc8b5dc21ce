//! Events of providers' calls.

use std::fmt::Display;

use tracing::{debug, info};

use crate::domain::opt_status::{OptAnswer, OptStatus};
use crate::telemetry::metrics::{METRICS, ReasonLabel, ReportLabels};
use crate::telemetry::repeats::{About, repeating};

/// `reason` is `forged`, `unreadable`, `foreign` or `ignored`.
pub fn callback_refused(reason: &'static str) {
    METRICS.callbacks_refused.get_or_create(&ReasonLabel { reason }).inc();
    match reason {
        "ignored" => debug!(reason, "callback refused"),
        // Other messages of the account have receipts, too.
        "foreign" => repeating!(info, "callback refused", About::reason(reason); reason,),
        _ => repeating!(warn, "callback refused", About::reason(reason); reason,),
    }
}

fn count(status: OptStatus, result: &'static str) -> &'static str {
    let status = status.as_str();
    METRICS.opt_messages.get_or_create(&ReportLabels { status, result }).inc();
    status
}

/// `to` is masked. An outdated message changed nothing.
pub fn opt_status_changed(to: &str, status: OptStatus, answer: OptAnswer) {
    let result = answer.as_str();
    let status = count(status, result);
    info!(to, status, result, "opt-in or opt-out received");
}

/// The provider's account has no such message.
pub fn opt_message_unknown(status: OptStatus) {
    let status = count(status, "unknown");
    repeating!(warn, "opt-in or opt-out ignored: the provider has no such message", About::NOTHING; status,);
}

/// Nothing was recorded.
pub fn opt_message_failed(status: OptStatus, error: &impl Display) {
    let status = count(status, "failed");
    repeating!(warn, "opt-in or opt-out not recorded", About::NOTHING; status, %error,);
}
