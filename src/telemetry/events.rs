//! One function per event: each writes a log line and counts a metric.
//!
//! Messages are constant and lower case; values are fields. The names of fields are part of the interface: those of the
//! API's JSON, and of the metric's labels. Recipients are passed in their masked form.

mod audit;
mod broker;
mod certificates;
mod counted;
mod defence;
mod http;
mod keys;
mod operators;
mod spend;
mod store;
mod test_numbers;
mod tokens;
pub(super) mod traces;
mod webhooks;

use std::fmt::Display;
use std::time::Duration;

use tracing::{debug, error, info, warn};

pub use self::audit::{
    audit_dropped, audit_not_published, audit_pending, audit_published, audit_published_again,
    audit_stream_refused, audit_unreadable,
};
pub use self::broker::{
    broker_blocked, broker_closed, broker_connected, broker_connecting, broker_host_failed, broker_lost,
    broker_not_replaced, broker_restored, broker_still_lost, broker_unblocked, declaration_retried,
    declaration_unanswered, result_unroutable, topology_refused,
};
pub use self::certificates::{
    broker_replaced, certificates_refused, certificates_reloaded, client_certificate_expired, store_replaced,
};
pub use self::counted::{
    GateUse, InFlightGuard, circuit_breaker_changed, code_sent, code_verified, gate_measured,
    handler_started, hourly_cap_configured, http_route_served, kill_switch_read, limit_refused, prefetch_set,
    provider_configured, provider_shut_or_opened, queue_read, request_taken_up, store_operation_ended,
};
pub use self::defence::{
    defence_list_read, defence_not_counted, defence_refused, defence_unanswered, defence_would_refuse,
};
pub use self::http::{forwarded_hop_unreadable, http_answered, http_bound_reached, http_connection_closed};
pub use self::keys::{key_agrees, key_differs, key_in_use, key_mismatch, keys_not_compared};
pub use self::operators::{
    AdminAction, Operator, OperatorAct, older_messages_not_listed, operator_acts, operator_asked,
};
pub use self::spend::{SampleResult, budget_near, budget_read, price_sampled, refused_by_budget, spent};
pub use self::store::{
    conversion_not_counted, shared_key_damaged, store_available, store_call_unanswered, store_failed,
    store_not_replaced, store_unavailable, store_warning, store_warning_over, store_warning_value,
    worker_not_reported,
};
pub use self::test_numbers::test_number_not_in_force;
pub use self::tokens::token_refused;
pub use self::webhooks::{callback_refused, opt_message_failed, opt_message_unknown, opt_status_changed};
use super::metrics::provider_codes::{code_label, receipt_code_label};
use super::metrics::{
    ChannelReason, ChannelStatus, CodeLabel, CountryLabels, FailoverLabels, METRICS, ProbeLabels,
    ProviderCode, ProviderLabel, ProviderResult, ReasonLabel, ReportLabels, RequestLabels, ResultLabel,
    StatusLabel, VerdictLabel, country_label, observe, words,
};
use super::repeats::{About, log_all_repeats, repeating};
use crate::domain::channel::Channel;
use crate::domain::failover_reason::FailoverReason;
use crate::domain::outcome::Outcome;
use crate::domain::phone::Region;
use crate::domain::send_failure::{RefusalReason, Scope, SendFailure};
use crate::domain::suppression::after_refusal;
use crate::domain::time::millis;
use crate::domain::verdict::Verdict;

/// The broker has confirmed the result. `region` is the country of the recipient, if it is known.
pub fn request_completed(
    channel: Channel,
    request_id: &str,
    to: &str,
    region: Option<Region>,
    outcome: &Outcome,
    replayed: bool,
    elapsed: Duration,
) {
    let of = channel;
    let channel = channel.as_str();
    let (status, reason) = (outcome.status.as_str(), outcome.reason());
    if outcome.history.is_test() {
        METRICS.test_requests.get_or_create(&StatusLabel { status }).inc();
    } else {
        let replayed = if replayed { "true" } else { "false" };
        METRICS.requests.get_or_create(&RequestLabels { channel, status, reason, replayed }).inc();
        observe(&METRICS.request_duration.get_or_create(&ChannelStatus { channel, status }), elapsed);
    }
    if !replayed {
        if of == Channel::Sms && !outcome.history.is_test() {
            let country = country_label(region);
            METRICS.requests_by_country.get_or_create(&CountryLabels { country, status }).inc();
        }
        if let Some(limit) = outcome.error.as_ref().and_then(|error| error.limit) {
            limit_refused(of, limit);
        }
        if let Some(rule) = outcome.error.as_ref().and_then(|error| error.rule) {
            defence_refused(rule, to);
        }
    }
    let elapsed_ms = millis(elapsed);
    let (attempts, provider_code) =
        (outcome.attempts, outcome.error.as_ref().and_then(|error| error.provider_code));
    let test = outcome.history.is_test().then_some(true);
    info!(
        channel,
        request_id,
        to,
        status,
        reason,
        attempts,
        provider_code,
        replayed,
        test,
        elapsed_ms,
        "request completed"
    );
}

/// The message goes without a field that cannot be read.
pub fn field_left_out(request_id: &str, fault: &impl Display) {
    repeating!(info, "request field left out", About::NOTHING; request_id, fault = display(fault),);
}

/// `segments` are those of a text message.
pub fn provider_accepted(provider: &'static str, segments: Option<u32>, elapsed: Duration) {
    if let Some(segments) = segments {
        METRICS.message_segments.get_or_create(&ProviderLabel { provider }).inc_by(segments.into());
    }
    observe(
        &METRICS.provider_request_duration.get_or_create(&ProviderResult { provider, result: "accepted" }),
        elapsed,
    );
}

pub fn provider_failed(
    provider: &'static str,
    request_id: &str,
    attempt: u32,
    failure: &SendFailure,
    elapsed: Duration,
) {
    let result = failure.as_str();
    observe(&METRICS.provider_request_duration.get_or_create(&ProviderResult { provider, result }), elapsed);
    if let SendFailure::Refused { provider_code, .. }
    | SendFailure::Throttled { provider_code, .. }
    | SendFailure::Deferred { provider_code } = failure
    {
        let labels = ProviderCode { provider, code: code_label(provider, *provider_code) };
        METRICS.provider_refusals.get_or_create(&labels).inc();
    }
    let about = About::provider(provider);
    match failure {
        SendFailure::Refused { provider_code, scope, reason } => {
            message_refused(provider, request_id, attempt, *provider_code, *scope, *reason);
        }
        SendFailure::Throttled { provider_code, retry_after } => {
            let retry_after_ms = retry_after.map(millis);
            repeating!(warn, "provider throttled a message", about.code(*provider_code); request_id, provider, attempt, provider_code, retry_after_ms,);
        }
        SendFailure::Deferred { provider_code } => {
            repeating!(warn, "provider deferred a message", about.code(*provider_code); request_id, provider, attempt, provider_code,);
        }
        SendFailure::NotConnected { detail } => {
            repeating!(warn, "provider is unreachable", about; request_id, provider, attempt, detail,);
        }
        SendFailure::InDoubt { detail } => {
            repeating!(warn, "send in doubt", about; request_id, provider, attempt, detail,);
        }
    }
}

/// A refusal of one recipient is normal. An operator must act on one of the account, or of every message.
fn message_refused(
    provider: &'static str,
    request_id: &str,
    attempt: u32,
    provider_code: Option<u32>,
    scope: Scope,
    reason: RefusalReason,
) {
    // A refusal of a range of numbers suppresses the recipient only, as the range is not known.
    let suppressed = after_refusal(scope, reason, provider_code);
    let word = suppressed.map_or(scope.as_str(), |suppression| suppression.scope.as_str());
    let about = About::provider(provider).of(word).code(provider_code);
    if scope == Scope::Account || reason.concerns_every_message() {
        repeating!(error, "provider refused a message", about; request_id, provider, attempt, provider_code, scope = word,);
    } else if scope == Scope::Recipient {
        repeating!(info, "provider refused a message", about; request_id, provider, attempt, provider_code, scope = word,);
    } else {
        repeating!(warn, "provider refused a message", about; request_id, provider, attempt, provider_code, scope = word,);
    }
}

pub fn send_retried(request_id: &str, attempt: u32, failure: &SendFailure, wait: Duration) {
    METRICS.send_retries.get_or_create(&ReasonLabel { reason: failure.as_str() }).inc();
    let wait_ms = millis(wait);
    repeating!(info, "send will be retried", About::reason(failure.as_str()); request_id, attempt, wait_ms,);
}

/// A send waits for the gate or for a sender, beyond its own backoff.
pub fn send_waits_at_gate(channel: Channel, request_id: &str, reason: &'static str) {
    METRICS.sends_waiting.get_or_create(&ReasonLabel { reason }).inc();
    repeating!(info, "send waiting", About::reason(reason); channel = channel.as_str(), request_id, reason,);
}

/// Another provider than before sends the message.
pub fn provider_failed_over(request_id: &str, from: &'static str, to: &'static str, reason: FailoverReason) {
    let word = reason.as_str();
    METRICS.senders.failovers.get_or_create(&FailoverLabels { from, to, reason: word }).inc();
    let about = About::provider(from).of(word);
    if reason == FailoverReason::DoubtUnanswered {
        repeating!(warn, "next provider sends a code that is in doubt", about; request_id, from, to, reason = word,);
    } else {
        repeating!(info, "next provider sends", about; request_id, from, to, reason = word,);
    }
}

/// Other senders take over. `sender` is its place in the settings.
pub fn sender_cooling_down(
    provider: &'static str,
    sender: u32,
    provider_code: Option<u32>,
    cooldown: Duration,
) {
    METRICS.senders.suspensions.get_or_create(&ProviderLabel { provider }).inc();
    let cooldown_seconds = cooldown.as_secs();
    let about = About::provider(provider).code(provider_code);
    repeating!(error, "provider refused a sender", about; provider, sender, provider_code, cooldown_seconds,);
}

/// The attempt in doubt is not known to have sent the message, so another one will repeat it.
pub fn send_to_be_repeated(request_id: &str, attempt: u32) {
    METRICS.in_doubt_repeated.inc();
    repeating!(warn, "in-doubt send will be repeated", About::NOTHING; request_id, attempt,);
}

pub fn message_lookup(provider: &'static str, request_id: &str, error: Option<&impl Display>) {
    match error {
        None => debug!(request_id, provider, "message lookup answered"),
        Some(error) => {
            repeating!(warn, "message lookup failed", About::provider(provider); request_id, provider, %error,)
        }
    }
}

pub fn message_redaction_tried(provider: &'static str, message_id: &str, error: Option<&impl Display>) {
    match error {
        None => debug!(message_id, provider, "message redaction answered"),
        Some(error) => {
            repeating!(warn, "message redaction failed", About::provider(provider); message_id, provider, %error,)
        }
    }
}

/// `answer` is `found`, `reported`, `absent` or `unknown`.
pub fn in_doubt_resolved(request_id: &str, answer: &'static str) {
    METRICS.in_doubt_resolutions.get_or_create(&ResultLabel { result: answer }).inc();
    repeating!(info, "in-doubt send resolved", About::reason(answer); request_id, result = answer,);
}

/// `closed_by` is `None` when the gate opens. `fault` is the store's; it may pass.
pub fn gate_changed(
    channel: Channel,
    closed_by: Option<&'static str>,
    fault: Option<&impl Display>,
    may_pass: bool,
) {
    let channel = channel.as_str();
    for reason in words::PAUSES.into_iter().filter(|reason| *reason != words::KILL_SWITCH) {
        let labels = ChannelReason { channel, reason };
        METRICS.sending_paused.get_or_create(&labels).set(i64::from(closed_by == Some(reason)));
    }
    match closed_by {
        // An operator's own act is no fault.
        Some(reason) if may_pass || reason == words::KILL_SWITCH => {
            warn!(channel, reason, fault = fault.map(display), "sending paused");
        }
        Some(reason) => error!(channel, reason, fault = fault.map(display), "sending paused"),
        None => warn!(channel, "sending resumed"),
    }
}

/// After a warning: the pause did not pass.
pub fn pause_lasts(channel: Channel, reason: &'static str, fault: Option<&impl Display>, lasted: Duration) {
    let (channel, seconds) = (channel.as_str(), lasted.as_secs());
    error!(channel, reason, fault = fault.map(display), seconds, "sending is still paused");
}

pub fn provider_probed(channel: Channel, provider: &'static str, good: bool, waited: Duration) {
    let (channel, result) = (channel.as_str(), if good { "good" } else { "bad" });
    METRICS.circuit_breaker_probes.get_or_create(&ProbeLabels { channel, provider, result }).inc();
    let waited_ms = millis(waited);
    warn!(channel, provider, result, waited_ms, "provider account probed");
}

/// `answer` is `news` (a final status to publish), `known` (all others) or `no_request`: words of the interface.
pub fn receipt_recorded(
    request_id: &str,
    status: &'static str,
    provider_code: Option<u32>,
    reason: RefusalReason,
    answer: &'static str,
) {
    METRICS.delivery_reports.get_or_create(&ReportLabels { status, result: answer }).inc();
    if let Some(code) = provider_code.filter(|_| answer == "news") {
        METRICS.delivery_report_codes.get_or_create(&CodeLabel { code: receipt_code_label(code) }).inc();
    }
    if reason.concerns_every_message() {
        let about = About::reason(status).code(provider_code);
        repeating!(error, "receipt recorded", about; request_id, status, provider_code, result = answer,);
    } else {
        debug!(request_id, status, provider_code, result = answer, "receipt recorded");
    }
}

/// The receipt was not recorded or not published; the provider sends it again.
pub fn receipt_failed(request_id: &str, error: &impl Display) {
    repeating!(warn, "receipt processing failed", About::NOTHING; request_id, %error,);
}

pub fn receipt_lapsed(request_id: &str) {
    METRICS.delivery_reports.get_or_create(&ReportLabels { status: "unconfirmed", result: "lapsed" }).inc();
    repeating!(info, "receipt did not come in time", About::NOTHING; request_id,);
}

pub fn receipt_poll_failed(error: &impl Display) {
    repeating!(warn, "overdue receipts could not be polled", About::NOTHING; %error,);
}

pub fn store_not_closed(error: &impl Display) {
    warn!(%error, "unused places under the cap over all sends were not given back");
}

/// The lease of the handler that was sending has expired.
pub fn in_doubt_taken_over(request_id: &str, attempt: u32) {
    let about = About::NOTHING;
    repeating!(warn, "in-doubt send taken over from a lost handler", about; request_id, attempt,);
}

/// `place` is a file of the source, with line and column.
pub fn panicked(place: &str) {
    repeating!(error, "panicked", About::NOTHING; place,);
}

pub fn handler_panicked(delivery_count: u64) {
    METRICS.deliveries.panicked.inc();
    repeating!(error, "handler panicked", About::NOTHING; delivery_count,);
}

pub fn delivery_requeued(reason: &'static str) {
    METRICS.deliveries.requeued.inc();
    debug!(reason, "delivery requeued");
}

/// Every provider of its route is shut, so the request waits on the delay queue.
pub fn delivery_delayed() {
    METRICS.deliveries.delayed.inc();
    debug!("delivery delayed");
}

/// The delivery is requeued. A broker that blocks publishers is logged once.
pub fn delivery_not_delayed(error: &impl Display, is_blocked: bool) {
    if is_blocked {
        return debug!(%error, "delivery not delayed");
    }
    METRICS.publish_errors.inc();
    repeating!(warn, "delivery not delayed", About::NOTHING; %error,);
}

pub fn consumption_paused(channel: Channel) {
    info!(channel = channel.as_str(), "consumption paused");
}

pub fn consumption_resumed(channel: Channel) {
    info!(channel = channel.as_str(), "consumption resumed");
}

pub fn dead_lettered(reason: &'static str, error: &str) {
    METRICS.dead_lettered.get_or_create(&ReasonLabel { reason }).inc();
    repeating!(error, "message dead-lettered", About::reason(reason); reason, error,);
}

/// The settings do not allow the request's `reply_to`.
pub fn reply_ignored(request_id: &str) {
    METRICS.replies_ignored.inc();
    repeating!(warn, "reply queue is not allowed", About::NOTHING; request_id,);
}

pub fn reply_failed(reason: &'static str) {
    METRICS.replies_failed.inc();
    repeating!(warn, "reply was not delivered", About::reason(reason); reason,);
}

/// The broker blocks publishers, which is logged once.
pub fn reply_dropped() {
    METRICS.replies_failed.inc();
    debug!("reply was dropped");
}

/// While the broker blocks publishers, which is logged and measured once, the messages that wait are no news.
pub fn publish_failed(error: &impl Display, is_blocked: bool, retry_in: Option<Duration>) {
    let retry_in_ms = retry_in.map(millis);
    if is_blocked {
        return debug!(%error, retry_in_ms, "message waits");
    }
    METRICS.publish_errors.inc();
    repeating!(warn, "broker did not confirm a message", About::NOTHING; %error, retry_in_ms,);
}

pub fn code_checked(to: &impl Display, purpose: &str, verdict: &Verdict) {
    METRICS.verifications.get_or_create(&VerdictLabel { verdict: verdict.as_str() }).inc();
    info!(%to, purpose, verdict = verdict.as_str(), "code checked");
}

/// No record of the request is kept, so a reader could not know which code it was.
pub fn verified_without_request(to: &impl Display, purpose: &str) {
    repeating!(warn, "verified event not published: the request of the code has no record", About::NOTHING; %to, purpose,);
}

/// The provider that made the code gave no verdict.
pub fn code_check_failed(to: &impl Display, fault: &impl Display) {
    repeating!(warn, "code check failed", About::NOTHING; %to, %fault,);
}

/// The service that made the codes was deleted, or it refuses the account.
pub fn code_verifier_refused(fault: &impl Display) {
    let about = About::NOTHING;
    repeating!(error, "codes cannot be checked: the provider refuses the service or the account", about; %fault,);
}

/// Counts every failure. A caller that fails often logs some of them.
pub fn accept_failed(error: &impl Display, is_logged: bool) {
    METRICS.http_accept_errors.inc();
    if is_logged {
        error!(%error, "http connection not accepted");
    }
}

pub fn token_keys_fetched() {
    METRICS.jwks_fetches.get_or_create(&ResultLabel { result: "good" }).inc();
    debug!("token keys fetched");
}

/// The issuer publishes another set of keys. Unusable keys are logged once for each set.
pub fn token_keys_changed(usable: usize, ignored: impl Iterator<Item = &'static str>) {
    METRICS.jwks_keys.set(i64::try_from(usable).unwrap_or(i64::MAX));
    info!(usable, "token keys changed");
    for reason in ignored {
        METRICS.jwks_keys_ignored.get_or_create(&ReasonLabel { reason }).inc();
        warn!(reason, "token key ignored");
    }
}

/// Keys fetched earlier stay valid.
pub fn token_keys_failed(reason: &'static str, error: &impl Display, retry_in: Duration) {
    METRICS.jwks_fetches.get_or_create(&ResultLabel { result: reason }).inc();
    let retry_in_ms = millis(retry_in);
    warn!(reason, %error, retry_in_ms, "token keys not fetched");
}

/// The last fetched keys are too old to be trusted.
pub fn token_keys_dropped() {
    METRICS.jwks_keys.set(0);
    error!("token keys dropped: the last good answer is too long ago");
}

pub fn started(role: &'static str, version: &'static str) {
    info!(role, version, "started");
}

/// A process has one worker for each channel.
pub fn stopping(channel: Channel, grace: Duration) {
    let (channel, grace_seconds) = (channel.as_str(), grace.as_secs());
    info!(channel, grace_seconds, "stopping: finishing what is in flight");
}

pub fn stopped(unfinished: usize) {
    log_all_repeats();
    if unfinished == 0 {
        info!("stopped with nothing in flight");
    } else {
        warn!(unfinished, "stopped with deliveries unfinished; the broker gives them to another worker");
    }
}

/// Logs advice about the settings at the start.
pub fn notice(notice: &str) {
    warn!(notice, "notice");
}
