//! The scripts: one for each step.

use super::script_call::Script;

pub(super) struct Scripts {
    pub(super) admit: Script,
    pub(super) update_progress: Script,
    pub(super) claim_message: Script,
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
    pub(super) end_receipt_wait: Script,
    pub(super) check_shared_keys: Script,
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
            admit: Script::new(include_str!("admit.lua")),
            update_progress: Script::new(include_str!("update_progress.lua")),
            claim_message: Script::new(include_str!("claim_message.lua")),
            complete: Script::new(include_str!("complete.lua")),
            verify: Script::new(include_str!("verify.lua")),
            begin_provider_check: Script::new(include_str!("begin_provider_check.lua")),
            finish_provider_check: Script::new(include_str!("finish_provider_check.lua")),
            reopen_challenge: Script::new(include_str!("reopen_challenge.lua")),
            link_verification: Script::new(include_str!("link_verification.lua")),
            usage: Script::new(include_str!("usage.lua")),
            idempotency_key: Script::new(include_str!("idempotency_key.lua")),
            record_receipt: Script::new(include_str!("record_receipt.lua")),
            overdue_receipts: Script::new(include_str!("overdue_receipts.lua")),
            end_receipt_wait: Script::new(include_str!("end_receipt_wait.lua")),
            check_shared_keys: Script::new(include_str!("check_shared_keys.lua")),
            heartbeat: Script::new(include_str!("heartbeat.lua")),
            kill_switch: Script::new(include_str!("kill_switch.lua")),
            request_record: Script::new(include_str!("request_record.lua")),
            recent_requests: Script::new(include_str!("recent_requests.lua")),
            suppress: Script::new(include_str!("suppress.lua")),
            suppressions: Script::new(include_str!("suppressions.lua")),
        }
    }
}
