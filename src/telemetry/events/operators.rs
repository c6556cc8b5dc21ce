//! The audit log: queries and acts of operators with the scope `otp:admin`.

use std::fmt::Display;
use std::net::IpAddr;

use tracing::field::display;
use tracing::{info, warn};

use crate::domain::address::Address;
use crate::telemetry::metrics::{ActionLabel, METRICS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    Status,
    RateLimit,
    Validate,
    Request,
    Requests,
    Conversion,
    Spend,
    Defence,
    Overview,
    KillSwitchOn,
    KillSwitchOff,
    Suppressions,
    Suppress,
    EndSuppression,
    DeadLetters,
    ReplayDeadLetters,
    DropDeadLetters,
    Forget,
    Redactions,
    Audit,
    DefenceExplain,
    DefenceAllow,
    DefenceDeny,
    DefenceRemove,
}

impl AdminAction {
    pub const ALL: [AdminAction; 24] = [
        AdminAction::Status,
        AdminAction::RateLimit,
        AdminAction::Validate,
        AdminAction::Request,
        AdminAction::Requests,
        AdminAction::Conversion,
        AdminAction::Spend,
        AdminAction::Defence,
        AdminAction::Overview,
        AdminAction::KillSwitchOn,
        AdminAction::KillSwitchOff,
        AdminAction::Suppressions,
        AdminAction::Suppress,
        AdminAction::EndSuppression,
        AdminAction::DeadLetters,
        AdminAction::ReplayDeadLetters,
        AdminAction::DropDeadLetters,
        AdminAction::Forget,
        AdminAction::Redactions,
        AdminAction::Audit,
        AdminAction::DefenceExplain,
        AdminAction::DefenceAllow,
        AdminAction::DefenceDeny,
        AdminAction::DefenceRemove,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AdminAction::Status => "status",
            AdminAction::RateLimit => "rate_limit",
            AdminAction::Validate => "validate",
            AdminAction::Request => "request",
            AdminAction::Requests => "requests",
            AdminAction::Conversion => "conversion",
            AdminAction::Spend => "spend",
            AdminAction::Defence => "defence",
            AdminAction::Overview => "overview",
            AdminAction::KillSwitchOn => "kill_switch_on",
            AdminAction::KillSwitchOff => "kill_switch_off",
            AdminAction::Suppressions => "suppressions",
            AdminAction::Suppress => "suppress",
            AdminAction::EndSuppression => "end_suppression",
            AdminAction::DeadLetters => "dead_letters",
            AdminAction::ReplayDeadLetters => "replay_dead_letters",
            AdminAction::DropDeadLetters => "drop_dead_letters",
            AdminAction::Forget => "forget",
            AdminAction::Redactions => "redactions",
            AdminAction::Audit => "audit",
            AdminAction::DefenceExplain => "defence_explain",
            AdminAction::DefenceAllow => "defence_allow",
            AdminAction::DefenceDeny => "defence_deny",
            AdminAction::DefenceRemove => "defence_remove",
        }
    }
}

/// The caller of an endpoint for operators: claims of its token, and its address.
pub struct Operator {
    pub sub: String,
    pub jti: Option<String>,
    pub client: Option<IpAddr>,
}

/// A change that an operator makes. Absent values do not apply.
#[derive(Default)]
pub struct OperatorAct<'a> {
    pub to: Option<&'a Address>,
    /// Masked.
    pub reason: Option<&'a str>,
    pub hours: Option<u32>,
    /// A country, digits, or a masked number.
    pub numbers: Option<&'a str>,
    pub seconds: Option<u64>,
    pub dead_letters: &'a [String],
    pub force: Option<bool>,
    pub dry_run: Option<bool>,
}

/// Before the answer. A reading that repeats itself is logged for the first time only.
pub fn operator_asked(
    by: &Operator,
    action: AdminAction,
    request_id: Option<&str>,
    to: Option<&Address>,
    is_repeated: bool,
) {
    count(action);
    if is_repeated {
        return;
    }
    let (sub, jti) = (printable(&by.sub), by.jti.as_deref().map(printable));
    let (client_ip, to, action) = (by.client.map(display), to.map(display), action.as_str());
    info!(target: "otpost::audit", audit = true, sub, jti, client_ip, action, request_id, to, "operator query");
}

/// Before the change.
pub fn operator_acts(by: &Operator, action: AdminAction, act: &OperatorAct<'_>) {
    count(action);
    let (sub, jti) = (printable(&by.sub), by.jti.as_deref().map(printable));
    let (client_ip, action) = (by.client.map(display), action.as_str());
    let OperatorAct { to, reason, hours, numbers, seconds, dead_letters, force, dry_run } = act;
    let to = to.map(display);
    let dead_letters = (!dead_letters.is_empty()).then(|| printable_list(dead_letters));
    info!(
        target: "otpost::audit", audit = true, sub, jti, client_ip, action, to, reason, hours, numbers, seconds, dead_letters, force,
        dry_run,
        "operator act"
    );
}

/// The rest of the act is done. The job shows it, too.
pub fn older_messages_not_listed(provider: &'static str, error: &impl Display) {
    warn!(provider, %error, "older messages of a forgotten person not listed");
}

fn count(action: AdminAction) {
    METRICS.operator_requests.get_or_create(&ActionLabel { action: action.as_str() }).inc();
}

fn printable_list(ids: &[String]) -> String {
    ids.iter().map(|id| printable(id)).collect::<Vec<_>>().join(",")
}

/// Replaces every character that could forge a log line or hide a part of one.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 255;
    let shown = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    text.chars().take(CHARS_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::words;

    #[test]
    fn the_documentation_has_the_words_of_the_audit_log_and_no_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        let page = std::fs::read_to_string(path).expect("a file of text");
        let words: Vec<String> =
            AdminAction::ALL.iter().map(|action| format!("`{}`", action.as_str())).collect();
        let [first @ .., last] = &words[..] else { panic!("there are some") };
        let logged = format!("`action`: {} or {last};", first.join(", "));
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&logged), "{logged}");
        assert_eq!(AdminAction::ALL.map(AdminAction::as_str), words::OPERATOR_ACTIONS);
    }
}
