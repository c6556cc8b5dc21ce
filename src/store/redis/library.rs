//! The steps in Lua: one function library, named by its content. Old and new libraries stand side by side in a rollout.
//!
//! Where a server does not allow functions, the same source runs as one script a step.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use sha2::{Digest as _, Sha256};

/// In this order: each file uses what those before it define. Lua allows 200 local names for all of them together.
const SOURCES: [&str; 27] = [
    include_str!("layout.lua"),
    include_str!("limits.lua"),
    include_str!("charges.lua"),
    include_str!("admit.lua"),
    include_str!("progress.lua"),
    include_str!("panics.lua"),
    include_str!("claims.lua"),
    include_str!("suppressions.lua"),
    include_str!("complete.lua"),
    include_str!("readers.lua"),
    include_str!("checks.lua"),
    include_str!("receipts.lua"),
    include_str!("shared.lua"),
    include_str!("reports.lua"),
    include_str!("log_filter.lua"),
    include_str!("key_checks.lua"),
    include_str!("conversion.lua"),
    include_str!("forget.lua"),
    include_str!("redactions.lua"),
    include_str!("spend.lua"),
    include_str!("defence.lua"),
    include_str!("audit.lua"),
    include_str!("places.lua"),
    include_str!("shards.lua"),
    include_str!("reshard.lua"),
    include_str!("old_layout.lua"),
    include_str!("move_old.lua"),
];

/// Runs a step. An error of Lua, or a key of another type, means that something stored cannot be read. It answers
/// `UNREADABLE <name>`: the whole name for a key that requests share; for a key with a digest only its first letter, so that no
/// digest leaks. Any other error is the server's own, such as a full memory or a missing right.
const GUARD: &str = r"
local function guarded(step, keys, args)
  if not call then fetch_api() end
  last_key = nil
  local is_done, answer = pcall(step, keys, args)
  if is_done then return answer end
  -- Redis 7.0 raises an error of a command as its text, which begins with a code; later servers raise a table. An error of Lua
  -- begins with its place.
  local error = tostring(type(answer) == 'table' and answer.err or answer)
  -- In a Redis Cluster, while the slot moves: a key of the step is not here, or not any more.
  if find(error, 'non local key', 1, true) then return redis.error_reply('TRYAGAIN a key of the step is moving') end
  if find(error, 'cluster is down', 1, true) then return redis.error_reply('CLUSTERDOWN') end
  local code = string.match(error, '^%-?(%u+) ')
  if not code or code == 'WRONGTYPE' then
    local name = sub(last_key or '', (find(last_key or '', '}:', 1, true) or 0) + 2)
    -- Names of layout 1 become the letter of layout 2: `<32 hex digits>:…` s, `id:…` q, `net:…` w. A name of more than 16 bytes holds a
    -- digest.
    if find(name, ':', 1, true) == 33 then name = 's' end
    name = string.gsub(string.gsub(name, '^id:.*$', 'q'), '^net:.*$', 'w')
    return redis.error_reply('UNREADABLE ' .. (#name > 16 and sub(name, 1, 1) or name))
  end
  local is_forbidden = find(error, 'user executing the script', 1, true) or find(error, 'ACL failure', 1, true)
  return redis.error_reply(is_forbidden and 'NOPERM a command of the step' or error)
end
";

/// Lists the steps, each with its function in the sources: a local name, or a field of a table.
macro_rules! steps {
    ($($step:ident $function:literal)+) => {
        /// A step of the store: one function, or one script.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Step {
            $($step),+
        }

        const STEPS: [Step; [$($function),+].len()] = [$(Step::$step),+];

        impl Step {
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Step::$step => $function),+
                }
            }
        }
    };
}

steps! {
    Admit "admit"
    UpdateProgress "update_progress"
    CountPanic "count_panic"
    ClaimMessage "claim_message"
    Complete "complete"
    Verify "verify"
    BeginProviderCheck "begin_provider_check"
    FinishProviderCheck "finish_provider_check"
    ReopenChallenge "reopen_challenge"
    LinkVerification "link_verification"
    Usage "usage"
    IdempotencyKey "idempotency_key"
    RecordReceipt "record_receipt"
    OverdueReceipts "overdue_receipts"
    EndReceiptWait "end_receipt_wait"
    CheckSharedData "check_shared_data"
    Heartbeat "heartbeat"
    CheckWritable "shards.check_writable"
    ReadKillSwitch "read_kill_switch"
    KillSwitch "reports.audit.kill_switch"
    RequestRecord "request_record"
    RecentRequests "recent_requests"
    RequestsOfUser "shards.requests_of_user"
    Suppress "reports.audit.suppress"
    RecordOptStatus "opts.record_opt_status"
    Suppressions "suppressions"
    ReadWhetherOpen "reshard.read_whether_open"
    OpenStore "open_store"
    MoveOldData "move_old_data"
    LeasePlaces "places.lease"
    RefundPlace "places.refund"
    FreePlaces "places.free"
    Charge "charges.charge"
    CorrectCharge "charges.correct_charge"
    ChargeWait "charges.charge_wait"
    SuppressCountry "countries.suppress_country"
    SuppressedCountries "countries.suppressed_countries"
    ReceiptSuppresses "shards.receipt_suppresses"
    CheckServer "shards.check_server"
    CountDue "shards.count_due"
    CheckShardData "shards.check_shard_data"
    BeginReshard "reshard.begin"
    SurveyShard "reshard.survey"
    ReadSuppressions "reshard.read"
    WriteSuppression "reshard.write"
    DeleteShard "reshard.delete"
    FinishReshard "reshard.finish"
    ReportWorker "reports.report_worker"
    ReportedWorkers "reports.reported_workers"
    ReadLogFilter "reports.read_log_filter"
    SetLogFilter "reports.audit.set_log_filter"
    CheckKeys "reports.check_keys"
    RecordedKeys "reports.recorded_keys"
    AddConversion "reports.conversion.add"
    Conversion "reports.conversion.read"
    RecordAct "reports.audit.record"
    ReadOutbox "reports.audit.read"
    HoldsRecord "reports.audit.holds"
    RemoveFromOutbox "reports.audit.remove"
    LeasePublishing "reports.audit.lease"
    ForgettableRecords "reports.forget.records"
    Forget "reports.forget.forget"
    AddRedactions "reports.redactions.add"
    TakeRedactions "reports.redactions.take"
    EndRedaction "reports.redactions.finish"
    RedactionJobs "reports.redactions.jobs"
    SpendBook "reports.spend.book"
    AddDefence "reports.defence.add"
    Defence "reports.defence.read"
    SetDefenceOverride "reports.audit.override"
    NoteVerified "reports.defence.note_verified"
    HasVerified "reports.defence.has_verified"
    ForgetVerified "reports.defence.forget_verified"
}

impl Step {
    /// Must data of layout 1 be moved before this step? Opening has copied what all requests share. There are no shards with
    /// such data.
    pub(super) const fn needs_move(self) -> bool {
        !matches!(
            self,
            Step::OverdueReceipts
                | Step::EndReceiptWait
                | Step::CheckSharedData
                | Step::Heartbeat
                | Step::CheckWritable
                | Step::ReadKillSwitch
                | Step::KillSwitch
                | Step::RequestsOfUser
                | Step::Suppressions
                | Step::ReadWhetherOpen
                | Step::OpenStore
                | Step::MoveOldData
                | Step::LeasePlaces
                | Step::RefundPlace
                | Step::FreePlaces
                | Step::Charge
                | Step::CorrectCharge
                | Step::ChargeWait
                | Step::SuppressCountry
                | Step::SuppressedCountries
                | Step::ReceiptSuppresses
                | Step::CheckServer
                | Step::CountDue
                | Step::CheckShardData
                | Step::BeginReshard
                | Step::SurveyShard
                | Step::ReadSuppressions
                | Step::WriteSuppression
                | Step::DeleteShard
                | Step::FinishReshard
                | Step::ReportWorker
                | Step::ReportedWorkers
                | Step::ReadLogFilter
                | Step::SetLogFilter
                | Step::CheckKeys
                | Step::RecordedKeys
                | Step::AddConversion
                | Step::Conversion
                | Step::RecordAct
                | Step::ReadOutbox
                | Step::HoldsRecord
                | Step::RemoveFromOutbox
                | Step::LeasePublishing
                | Step::AddRedactions
                | Step::TakeRedactions
                | Step::EndRedaction
                | Step::RedactionJobs
                | Step::SpendBook
                | Step::AddDefence
                | Step::Defence
                | Step::SetDefenceOverride
                | Step::NoteVerified
                | Step::HasVerified
                | Step::ForgetVerified
        )
    }

    /// It only reads, so a server that refuses writes answers it. Redis refuses its writes.
    const fn only_reads(self) -> bool {
        matches!(
            self,
            Step::Usage
                | Step::CheckSharedData
                | Step::ReadKillSwitch
                | Step::RequestRecord
                | Step::RecentRequests
                | Step::RequestsOfUser
                | Step::Suppressions
                | Step::ReadWhetherOpen
                | Step::FreePlaces
                | Step::ChargeWait
                | Step::SuppressedCountries
                | Step::ReceiptSuppresses
                | Step::CountDue
                | Step::CheckShardData
                | Step::ReportedWorkers
                | Step::ReadLogFilter
                | Step::RecordedKeys
                | Step::Conversion
                | Step::ReadOutbox
                | Step::HoldsRecord
                | Step::ForgettableRecords
                | Step::RedactionJobs
                | Step::SpendBook
                | Step::Defence
                | Step::HasVerified
        )
    }
}

#[derive(Default)]
pub(super) struct Library {
    /// The server has no functions, or the user may not use them.
    pub(super) runs_as_scripts: AtomicBool,
}

/// The code of a library, made once.
struct Code {
    /// For `FUNCTION LOAD`.
    library: String,
    functions: [String; STEPS.len()],
    scripts: [redis::Script; STEPS.len()],
    /// Of a script, without its end, which names the step.
    source: String,
}

static CODE: LazyLock<Code> = LazyLock::new(Code::new);

impl Code {
    fn new() -> Code {
        let source = SOURCES.concat() + GUARD;
        let name = format!("otpost_{}", &hex::encode(Sha256::digest(&source))[..12]);
        let functions = STEPS.map(|step| format!("{name}_{}", step.name().replace('.', "_")));
        let mut library = format!("#!lua name={name}\n{source}");
        for (step, function) in STEPS.iter().zip(&functions) {
            let (name, flags) = (step.name(), if step.only_reads() { "'no-writes'" } else { "" });
            writeln!(
                library,
                "redis.register_function{{function_name='{function}', flags={{{flags}}}, \
                 callback=function(keys, args) return guarded({name}, keys, args) end}}"
            )
            .expect("a string takes all");
        }
        let scripts = STEPS.map(|step| redis::Script::new(&script_code(&source, step)));
        Code { library, functions, scripts, source }
    }
}

/// For `FUNCTION LOAD`.
pub(super) fn code() -> &'static str {
    &CODE.library
}

pub(super) fn function(step: Step) -> &'static str {
    &CODE.functions[step as usize]
}

pub(super) fn script_hash(step: Step) -> &'static str {
    CODE.scripts[step as usize].get_hash()
}

/// For `SCRIPT LOAD`.
pub(super) fn script(step: Step) -> String {
    script_code(&CODE.source, step)
}

fn script_code(source: &str, step: Step) -> String {
    format!("{source}\nreturn guarded({}, KEYS, ARGV)", step.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_the_place_of_its_variant() {
        for (place, step) in STEPS.into_iter().enumerate() {
            assert_eq!(step as usize, place, "{step:?}");
        }
    }
}
