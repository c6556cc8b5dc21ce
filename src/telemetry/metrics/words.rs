//! The closed sets of label values that no type of `domain` has. Tests compare them with the types of other layers.

use crate::domain::circuit_breaker::Cause;
use crate::domain::history::PoisonCause;
use crate::domain::opt_status::OptAnswer;
use crate::domain::outcome::{ErrorCode, Status};

/// The queues that workers read.
pub const QUEUES: [&str; 4] = ["sms", "email", DELAYED, DEAD_LETTERS];
pub const DELAYED: &str = "delayed";
pub const DEAD_LETTERS: &str = "dead_letters";

/// The reasons with which a request ends, by status.
pub const REASONS: [(Status, &[&str]); 4] = [
    (Status::Sent, &["ok"]),
    (
        Status::Rejected,
        &[
            ErrorCode::InvalidRequest.as_str(),
            ErrorCode::InvalidRecipient.as_str(),
            ErrorCode::Landline.as_str(),
            ErrorCode::CountryNotAllowed.as_str(),
            ErrorCode::RateLimited.as_str(),
            ErrorCode::Cooldown.as_str(),
            ErrorCode::Suppressed.as_str(),
            ErrorCode::Blocked.as_str(),
            ErrorCode::Expired.as_str(),
            ErrorCode::ChannelDisabled.as_str(),
        ],
    ),
    (
        Status::Failed,
        &[
            ErrorCode::InvalidRequest.as_str(),
            ErrorCode::Expired.as_str(),
            ErrorCode::ProviderRejected.as_str(),
            ErrorCode::ProviderMisconfigured.as_str(),
            ErrorCode::ProviderUnavailable.as_str(),
            ErrorCode::Internal.as_str(),
        ],
    ),
    (Status::Unknown, &[ErrorCode::InDoubt.as_str(), ErrorCode::Internal.as_str()]),
];

pub const KILL_SWITCH: &str = "kill_switch";
pub const PAUSES: [&str; 4] = [KILL_SWITCH, "store_silent", "store_damaged", "breaker"];
/// The causes that open a circuit breaker.
pub const BREAKER_CAUSES: [&str; 2] = [Cause::Account.as_str(), Cause::Failures.as_str()];
pub const WAITS: [&str; 5] = ["kill_switch", "store_silent", "store_damaged", "breaker", "senders_rest"];
/// The failures after which a send is repeated.
pub const RETRIED: [&str; 3] = ["throttled", "deferred", "unreachable"];
pub const ANSWERS: [&str; 6] = ["accepted", "rejected", "throttled", "deferred", "unreachable", "in_doubt"];
pub const PROBES: [&str; 2] = ["good", "bad"];
pub const RESOLUTIONS: [&str; 4] = ["found", "reported", "absent", "unknown"];
/// The results of a receipt. `lapsed` is that of the status `unconfirmed`, and of no other.
pub const REPORTS: [&str; 3] = ["news", "known", "no_request"];
pub const UNCONFIRMED: &str = "unconfirmed";
pub const LAPSED: &str = "lapsed";
/// The results of a message by which a person opts in or out.
pub const OPT_RESULTS: [&str; 4] =
    [OptAnswer::Recorded.as_str(), OptAnswer::Outdated.as_str(), "unknown", "failed"];
/// A request that the pumping defence refuses; one that it would refuse is sent in `monitor`.
pub const DEFENCE_RESULTS: [&str; 3] = ["refused", "monitored", "unanswered"];
pub const CALLBACKS_REFUSED: [&str; 4] = ["forged", "unreadable", "foreign", "ignored"];
pub const DEAD_LETTERED: [&str; 4] =
    ["unattributable", "record", PoisonCause::Crash.as_str(), PoisonCause::Panic.as_str()];
pub const CONNECTIONS_CLOSED: [&str; 5] = ["head", "idle", "unread", "connections", "bytes"];
/// Their answers are constant, so their durations tell nothing.
pub const CONSTANT_ROUTES: [&str; 4] = ["/livez", "/readyz", "/openapi.json", "/.well-known/jwks.json"];
pub const JWKS_FETCHES: [&str; 6] = ["good", "unreachable", "status", "too_long", "unreadable", "too_many"];
pub const JWKS_IGNORED: [&str; 6] =
    ["symmetric", "private", "other_use", "unsupported", "unfit", "duplicate"];
pub const OPERATOR_ACTIONS: [&str; 24] = [
    "status",
    "rate_limit",
    "validate",
    "request",
    "requests",
    "conversion",
    "spend",
    "defence",
    "overview",
    "kill_switch_on",
    "kill_switch_off",
    "suppressions",
    "suppress",
    "end_suppression",
    "dead_letters",
    "replay_dead_letters",
    "drop_dead_letters",
    "forget",
    "redactions",
    "audit",
    "defence_explain",
    "defence_allow",
    "defence_deny",
    "defence_remove",
];
pub const SAMPLES: [&str; 3] = ["priced", "other_currency", "no_price"];
pub const STORE_WARNINGS: [&str; 3] = ["cluster_node", "sentinels_silent", "shards_silent"];
pub const ROLES: [&str; 4] = ["requests", "results", "replies", "asking"];
pub const PROVIDERS: [&str; 6] = ["twilio", "verify", "sendgrid", "smtp", "simulated", "absent"];

/// The HTTP statuses that have a series of their own.
const HTTP_STATUSES: [(u16, &str); 13] = [
    (200, "200"),
    (202, "202"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
];

/// All others are counted by their class.
pub fn http_status(status: u16) -> &'static str {
    let own = HTTP_STATUSES.iter().find(|(known, _)| *known == status);
    own.map_or_else(|| http_class(status), |(_, word)| word)
}

fn http_class(status: u16) -> &'static str {
    match status {
        ..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// The operations of the store.
pub const OPERATIONS: [&str; 52] = [
    "add_conversion",
    "add_defence",
    "admit",
    "begin_provider_check",
    "charge",
    "check_keys",
    "check_server",
    "check_shared_data",
    "check_writable",
    "claim_message",
    "complete",
    "conversion",
    "correct_charge",
    "count_panic",
    "defence",
    "end_receipt_wait",
    "finish_provider_check",
    "forget",
    "forget_verified",
    "free_places",
    "has_verified",
    "heartbeat",
    "idempotency_key",
    "kill_switch",
    "lease_places",
    "link_verification",
    "log_filter",
    "note_verified",
    "overdue_receipts",
    "read_outbox",
    "recent_requests",
    "record_act",
    "record_receipt",
    "recorded_keys",
    "redactions",
    "refund_place",
    "remove_from_outbox",
    "reopen_challenge",
    "report_worker",
    "reported_workers",
    "request_record",
    "requests_of_user",
    "set_defence_override",
    "spend",
    "spend_book",
    "suppress",
    "suppress_country",
    "suppressed_countries",
    "suppressions",
    "update_progress",
    "usage",
    "verify",
];

/// The reasons for which the store gives no usable answer.
pub const STORE_FAULTS: [&str; 41] = [
    "no_answer",
    "connection_refused",
    "name_lookup",
    "connection_failed",
    "not_redis",
    "password",
    "database",
    "permission",
    "cluster_node",
    "sentinel",
    "no_primary",
    "failover",
    "not_sentinel",
    "not_cluster",
    "slot_moving",
    "cluster_down",
    "loading",
    "primary_down",
    "out_of_memory",
    "read_only",
    "save_failed",
    "too_few_replicas",
    "too_many_clients",
    "busy",
    "refused",
    "other_format",
    "earlier_workers",
    "shards",
    "shard_key",
    "shards_silent",
    "not_opened",
    "audit_full",
    "certificate_issuer",
    "certificate_name",
    "certificate_expired",
    "certificate_not_valid_yet",
    "certificate_signature",
    "certificate_unusable",
    "client_certificate_required",
    "client_certificate_refused",
    "tls",
];
