//! The scripts: one for each step, behind what all of them share.

use super::script_call::Script;

pub(super) struct Scripts {
    pub(super) admit: Script,
    pub(super) update_progress: Script,
    pub(super) complete: Script,
    pub(super) verify: Script,
    pub(super) begin_provider_check: Script,
    pub(super) finish_provider_check: Script,
    pub(super) reopen_challenge: Script,
    pub(super) link_verification: Script,
    pub(super) usage: Script,
    pub(super) idempotency_key: Script,
    pub(super) record_receipt: Script,
    pub(super) overdue_receipts: Script,
    pub(super) heartbeat: Script,
    pub(super) kill_switch: Script,
    pub(super) request_record: Script,
    pub(super) recent_requests: Script,
    pub(super) suppress: Script,
    pub(super) suppressions: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            admit: script(include_str!("admit.lua")),
            update_progress: script(include_str!("update_progress.lua")),
            complete: script(include_str!("complete.lua")),
            verify: script(include_str!("verify.lua")),
            begin_provider_check: script(include_str!("begin_provider_check.lua")),
            finish_provider_check: script(include_str!("finish_provider_check.lua")),
            reopen_challenge: script(include_str!("reopen_challenge.lua")),
            link_verification: script(include_str!("link_verification.lua")),
            usage: script(include_str!("usage.lua")),
            idempotency_key: script(include_str!("idempotency_key.lua")),
            record_receipt: script(include_str!("record_receipt.lua")),
            overdue_receipts: script(include_str!("overdue_receipts.lua")),
            heartbeat: script(include_str!("heartbeat.lua")),
            kill_switch: script(include_str!("kill_switch.lua")),
            request_record: script(include_str!("request_record.lua")),
            recent_requests: script(include_str!("recent_requests.lua")),
            suppress: script(include_str!("suppress.lua")),
            suppressions: script(include_str!("suppressions.lua")),
        }
    }
}

fn script(body: &str) -> Script {
    Script::new(&format!("{}\n{body}", include_str!("prelude.lua")))
}
