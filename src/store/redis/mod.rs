//! The store on Redis 7 or later: one function a step, each run whole or not at all.
//!
//! `layout.lua` describes what is stored. `replies.rs` reads the answers of all steps.

mod address;
mod audit;
mod charge_steps;
mod charges;
mod cluster;
mod connection;
mod conversion;
mod countries;
mod counts;
mod defence;
mod failure;
mod fault_log;
mod forget;
mod heartbeat;
mod key_checks;
mod keys;
mod library;
mod log_filter;
mod no_server;
mod node;
mod opening;
mod pack;
mod panics;
mod place_steps;
#[doc(hidden)]
pub mod places;
mod read_only;
mod receipts;
mod record_parts;
mod records;
mod repeated_calls;
mod replies;
mod reports;
mod reshard;
mod run_step;
mod sentinel;
mod sentinel_view;
mod settings;
mod shard_books;
mod shard_rounds;
mod shard_servers;
mod shard_state;
mod show;
mod spend;
mod step_call;
mod tls;
mod unverified;
mod user_requests;
mod values;
mod warning_log;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use self::connection::Link;
use self::fault_log::FaultLog;
use self::keys::{Key, Keys};
use self::library::{Library, Step};
use self::opening::Opening;
use self::pack::Packer;
use self::places::SharedPlaces;
use self::records::pack_history;
use self::settings::{CallSettings, country_of, progress_state};
use self::shard_books::ShardBooks;
use self::shard_state::{Countries, ShardServers, VerifiedParts};
use self::step_call::{About, Call};
use self::warning_log::WarningLog;
use super::code_check::{CheckAnswer, CodeCheck, ProviderCheckEnd, ProviderCheckStart};
use super::retention::{
    CLAIM_CLOCK_DIFFERENCE_MAX, CLAIM_REQUESTS_MAX, OUTCOME_KEPT, SUPPRESSIONS_MAX, is_word,
};
use super::{
    Admission, AdmissionInput, ClaimAnswer, ClaimInput, CompletionAnswer, CompletionInput, KillSwitch, Lease,
    LimitSubject, NewReceipt, OverdueReceipt, PanicCount, PanicInput, Progress, ProgressAnswer,
    ReceiptAnswer, Refund, RequestOfUser, RequestRecord, RequestSummary, SharedState, Store, StoreError,
    StoreWarning, Usage,
};
use crate::domain::challenge::{ChallengeId, PROVIDER_MADE};
use crate::domain::conversion::{Bucket, Dimension, StoredCounts};
use crate::domain::conversion_batch::ConversionBatch;
use crate::domain::history::RequestHistory;
use crate::domain::key_check::KeyCheck;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Limits;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::opt_status::{OptAnswer, OptMessage};
use crate::domain::request_id::RequestId;
use crate::domain::server_url::InvalidUrl;
use crate::domain::shards::Shards;
use crate::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry};
use crate::domain::time::{UnixMillis, millis};
use crate::domain::worker_state::{ReportedWorker, WorkerState};
use crate::tls::TlsClient;

pub struct RedisStore {
    link: Link,
    keys: Keys,
    shards: Shards,
    library: Library,
    /// A country whose suppression a step could not read: the heartbeat watches it.
    damaged_country: Mutex<Option<String>>,
    countries: Countries,
    shard_servers: ShardServers,
    opening: Opening,
    faults: FaultLog,
    warnings: WarningLog,
    places: SharedPlaces,
    books: ShardBooks,
    verified_parts: VerifiedParts,
    /// Replaces the server's clock; 0 leaves it. Tests only.
    time: AtomicU64,
}

impl RedisStore {
    /// Connects at the first step, so that a gateway can start while Redis is down.
    pub fn connect(url: &str, prefix: &str, shards: Shards) -> Result<RedisStore, InvalidUrl> {
        RedisStore::connect_with(url, prefix, shards, None)
    }

    /// Connections use this TLS, if the URL asks for TLS.
    pub fn connect_with(
        url: &str,
        prefix: &str,
        shards: Shards,
        tls: Option<TlsClient>,
    ) -> Result<RedisStore, InvalidUrl> {
        Ok(RedisStore {
            link: Link::open(url, tls)?,
            shard_servers: ShardServers::new(shards.count().into()),
            keys: Keys::new(prefix, shards),
            shards,
            countries: Countries::default(),
            library: Library::default(),
            damaged_country: Mutex::default(),
            opening: Opening::new(false),
            faults: FaultLog::default(),
            warnings: WarningLog::default(),
            places: SharedPlaces::default(),
            books: ShardBooks::default(),
            verified_parts: VerifiedParts::default(),
            time: AtomicU64::new(0),
        })
    }

    /// Sets the time of every later step. For tests of windows and expiry.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, Ordering::Relaxed);
    }

    fn settings(&self) -> CallSettings<'static> {
        CallSettings { time: self.time.load(Ordering::Relaxed), ..CallSettings::default() }
    }

    fn call(&self, step: Step, keys: &[Key]) -> Call<'_> {
        Call::new(&self.library, step, keys)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn admit(&self, input: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        if self.keys.are_sharded() {
            return Box::pin(self.admit_in_shard(input)).await;
        }
        let (lease, subject) = (&input.lease, &input.lease.subject);
        let [recipient, request] = self.keys.of_lease(lease);
        let mut keys = vec![recipient, request, self.keys.country(input.country)];
        keys.extend(self.keys.counted_logs(subject, input.limits));
        let limits = Some((Some(subject), input.limits));
        let call = self.admission_call(input, &keys, CallSettings { limits, ..self.settings() });
        self.run("admit", &call, |answer| replies::admission(answer, input)).await
    }

    async fn update_progress(
        &self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
    ) -> Result<ProgressAnswer, StoreError> {
        let (state, duration) = progress_state(progress);
        let update = Packer::new()
            .bytes(&lease.token.to_be_bytes())
            .u16(attempts_made.map_or(0, |attempts| attempts + 1))
            .u8(state)
            .millis32(millis(duration))
            .flag(history.is_some())
            .bytes(&history.map(pack_history).unwrap_or_default());
        let call = self
            .call(Step::UpdateProgress, &self.keys.of_lease(lease))
            .about(About::of(lease.request_id))
            .arg(self.settings().pack())
            .arg(update.done());
        self.run("update_progress", &call, replies::progress_answer).await
    }

    async fn count_panic(&self, input: &PanicInput<'_>) -> Result<PanicCount, StoreError> {
        self.count_panic_of_request(input).await
    }

    async fn claim_message(&self, claim: &ClaimInput<'_>) -> Result<ClaimAnswer, StoreError> {
        let requests_max = u32::try_from(CLAIM_REQUESTS_MAX).expect("a small number");
        let message_ids: Vec<_> = claim.listed.iter().copied().filter(|id| is_word(id)).collect();
        let mut call = self
            .call(Step::ClaimMessage, &self.keys.of_lease(&claim.lease))
            .about(About { message_ids: message_ids.clone(), ..About::of(claim.lease.request_id) })
            .arg(self.settings().pack())
            .arg(
                Packer::new()
                    .bytes(&claim.lease.token.to_be_bytes())
                    .flag(claim.a_text_is_missing)
                    .millis32(millis(CLAIM_CLOCK_DIFFERENCE_MAX))
                    .u16(requests_max)
                    .done(),
            );
        for message_id in message_ids {
            call = call.arg(message_id);
        }
        self.run("claim_message", &call, replies::claim_answer).await
    }

    async fn complete(&self, input: &CompletionInput<'_>) -> Result<CompletionAnswer, StoreError> {
        if self.keys.are_sharded() {
            return Box::pin(self.complete_in_shard(input)).await;
        }
        let (lease, mut settings) = (&input.lease, self.settings());
        let suppression = input.suppression.filter(NewSuppression::lasts);
        let mut keys = self.keys.of_lease(lease).to_vec();
        if input.refund != Refund::None {
            keys.extend(self.keys.counted_logs(&lease.subject, input.limits));
            settings.limits = Some((Some(&lease.subject), input.limits));
        }
        keys.extend(country_of(suppression.as_ref()).map(|country| self.keys.country(Some(country))));
        let call = self.completion_call(input, &keys, settings, suppression.as_ref());
        self.run("complete", &call, replies::completion_answer).await
    }

    async fn verify(&self, check: &CodeCheck<'_>) -> Result<CheckAnswer, StoreError> {
        let mut call = self.check_call(Step::Verify, check);
        for (kid, digest) in check.digests {
            call = call.arg(*kid).arg(&digest.bytes());
        }
        self.run_check("verify", &call, check.purpose).await
    }

    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        let call = self.check_call(Step::BeginProviderCheck, check).arg(PROVIDER_MADE);
        self.run("begin_provider_check", &call, replies::provider_check_start).await
    }

    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        answer: ProviderCheckEnd,
    ) -> Result<CheckAnswer, StoreError> {
        let call = self.check_call(Step::FinishProviderCheck, check).arg(match answer {
            ProviderCheckEnd::Right => "right",
            ProviderCheckEnd::ApprovedAfterLostAnswer => "found",
            ProviderCheckEnd::Wrong => "wrong",
            ProviderCheckEnd::NotCompared => "not_compared",
        });
        self.run_check("finish_provider_check", &call, check.purpose).await
    }

    async fn reopen_challenge(&self, check: &CodeCheck<'_>) -> Result<(), StoreError> {
        let Some((kid, digest)) = check.digests.first() else {
            return Ok(());
        };
        let call = self.check_call(Step::ReopenChallenge, check);
        let call = call.arg(PROVIDER_MADE).arg(*kid).arg(&digest.bytes());
        self.run("reopen_challenge", &call, replies::reopened).await
    }

    async fn link_verification(
        &self,
        subject: &LimitSubject<'_>,
        challenge: &ChallengeId,
        verification_sid: &str,
    ) -> Result<(), StoreError> {
        let call = self
            .call(Step::LinkVerification, &[self.keys.recipient(&subject.recipient)])
            .about(About::purpose(subject.purpose))
            .arg(self.settings().pack())
            .arg(Packer::new().bytes(&challenge.bytes()).bytes(subject.purpose.as_bytes()).done())
            .arg(verification_sid);
        self.run("link_verification", &call, replies::linked).await
    }

    async fn usage(
        &self,
        subject: &LimitSubject<'_>,
        request_id: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        if self.keys.are_sharded() {
            return self.usage_in_shards(subject, request_id, limits).await;
        }
        let to = &subject.recipient;
        let request = request_id.map_or_else(|| self.keys.recipient(to), |id| self.keys.request(id, to));
        let mut keys = vec![self.keys.recipient(to), request, self.keys.country(None)];
        keys.extend(self.keys.counted_logs(subject, limits));
        let settings = CallSettings { limits: Some((Some(subject), limits)), ..self.settings() };
        let call = self.usage_call(&keys, settings, request_id, limits);
        self.run("usage", &call, replies::usage).await
    }

    async fn bind_idempotency_key(
        &self,
        key: Digest16,
        request: Option<Digest16>,
    ) -> Result<Option<Digest16>, StoreError> {
        let call = self
            .call(Step::IdempotencyKey, &[self.keys.idempotency_key(&key)])
            .arg(self.settings().pack())
            .arg(request.map(|digest| digest.bytes().to_vec()).unwrap_or_default())
            .arg(millis(OUTCOME_KEPT));
        self.run("idempotency_key", &call, replies::idempotency_key).await
    }

    async fn record_receipt(&self, receipt: &NewReceipt<'_>) -> Result<ReceiptAnswer, StoreError> {
        self.write_receipt(receipt).await
    }

    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        if self.keys.are_sharded() {
            return self.overdue_in_shards(wait_max, count_max).await;
        }
        self.take_overdue(self.keys.due_of(0), wait_max, count_max).await
    }

    async fn end_receipt_wait(&self, lapsed: &OverdueReceipt) -> Result<(), StoreError> {
        self.forget_due(lapsed).await
    }

    async fn check_shared_data(&self) -> Result<(), StoreError> {
        let call = self.call(Step::CheckSharedData, &self.keys.all_shared());
        self.run("check_shared_data", &call, replies::shared_data_readable).await?;
        if self.keys.are_sharded() { self.check_shards().await } else { Ok(()) }
    }

    async fn heartbeat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        self.faults.watch(std::pin::pin!(self.beat(worker_id, is_active))).await
    }

    async fn report_worker(&self, worker_id: u64, state: Option<&WorkerState>) -> Result<(), StoreError> {
        self.write_report(worker_id, state).await
    }

    async fn reported_workers(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        self.read_reports().await
    }

    async fn check_keys(&self, keys: &[KeyCheck]) -> Result<Vec<KeyCheck>, StoreError> {
        self.compare_keys(keys, false).await
    }

    async fn accept_keys(&self, keys: &[KeyCheck]) -> Result<(), StoreError> {
        self.compare_keys(keys, true).await.map(drop)
    }

    async fn recorded_keys(&self) -> Result<Vec<KeyCheck>, StoreError> {
        self.read_keys().await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.faults.watch(std::pin::pin!(self.ask_whether_writable())).await
    }

    fn warnings(&self) -> Vec<StoreWarning> {
        self.current_warnings()
    }

    async fn add_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError> {
        self.write_conversion(batch).await
    }

    async fn conversion(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredCounts>, StoreError> {
        self.read_conversion(dimension, buckets).await
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        let call = self.call(Step::ReadKillSwitch, &[self.keys.kill_switch()]).arg(self.settings().pack());
        self.run("kill_switch", &call, replies::kill_switch).await
    }

    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.change_kill_switch(reason, None).await
    }

    async fn log_filter(&self) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.read_log_filter().await
    }

    async fn set_log_filter(
        &self,
        new: Option<&NewLogFilter<'_>>,
    ) -> Result<Option<TemporaryLogFilter>, StoreError> {
        self.change_log_filter(new, None).await
    }

    async fn request_record(
        &self,
        request_id: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        match recipient {
            Some(digest) => {
                let keys = vec![self.keys.request(request_id, &digest), self.keys.recipient(&digest)];
                self.read_record(keys, request_id, recipient).await
            }
            None if self.keys.are_sharded() => self.record_in_shards(request_id).await,
            None => self.read_record(vec![self.keys.request_of(request_id, 0)], request_id, None).await,
        }
    }

    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        let call =
            self.call(Step::RecentRequests, &[self.keys.recipient(&recipient)]).arg(self.settings().pack());
        self.run("recent_requests", &call, replies::recent_requests).await
    }

    async fn requests_of_user(
        &self,
        user: Digest16,
        count_max: usize,
    ) -> Result<Vec<RequestOfUser>, StoreError> {
        self.find_requests_of_user(&user, count_max).await
    }

    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        let count_max = count_max.min(SUPPRESSIONS_MAX);
        if self.keys.are_sharded() {
            return self.suppressions_in_shards(count_max).await;
        }
        self.list_suppressed(self.keys.suppressed_of(0), count_max).await
    }

    async fn add_suppression(
        &self,
        recipient: Digest16,
        suppression: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        self.write_manual_suppression(&recipient, suppression, None).await
    }

    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        self.change_suppression(false, &recipient, None, "", None).await
    }

    async fn record_opt_status(
        &self,
        recipient: Digest16,
        message: &OptMessage<'_>,
    ) -> Result<OptAnswer, StoreError> {
        self.change_opt_status(&recipient, message).await
    }

    async fn may_have_lost_writes(&self, recipient: &Digest16) -> bool {
        if self.keys.are_sharded() {
            return self.shard_may_have_lost_writes(recipient).await;
        }
        self.link.may_have_lost_writes()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.return_all_places().await
    }
}
