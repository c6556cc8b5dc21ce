//! One function per event: each writes a log line and counts a metric.
//!
//! Messages are constant and lower case; values are fields. The names of fields are part of the interface, and some
//! are older than the glossary: `request` is a request id, `code` a provider code. Recipients are passed in their
//! masked form.

mod broker;
mod certificates;
mod store;

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::display;
use tracing::{debug, error, info, warn};

pub use self::broker::{
    broker_blocked, broker_closed, broker_connected, broker_host_failed, broker_lost, broker_not_replaced,
    broker_still_lost, broker_unblocked, declaration_retried, declaration_unanswered, result_unroutable,
    topology_refused,
};
pub use self::certificates::{
    broker_replaced, certificates_refused, certificates_reloaded, client_certificate_expired, store_replaced,
};
pub use self::store::{
    shared_key_damaged, store_available, store_call_unanswered, store_failed, store_not_replaced,
    store_unavailable, store_warning, store_warning_over, store_warning_value, worker_not_reported,
};
use super::metrics::{
    ClosedLabels, HttpLabels, METRICS, OutcomeLabels, ProviderLabels, ReasonLabel, ReceiptLabels, observe,
};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::outcome::Outcome;
use crate::domain::send_failure::{RefusalReason, SendFailure};
use crate::domain::suppression::after_refusal;
use crate::domain::time::millis;
use crate::domain::verdict::Verdict;

/// The broker has confirmed the result.
pub fn request_completed(
    channel: Channel,
    request_id: &str,
    to: &str,
    outcome: &Outcome,
    replayed: bool,
    elapsed: Duration,
) {
    let channel = channel.as_str();
    let (status, reason) = (outcome.status.as_str(), outcome.reason());
    let replayed_word = if replayed { "true" } else { "false" };
    let labels = OutcomeLabels { channel, status, reason, replayed: replayed_word };
    METRICS.outcomes.get_or_create(&labels).inc();
    observe(&METRICS.request, elapsed);
    let elapsed_ms = millis(elapsed);
    let (attempts, provider_code) =
        (outcome.attempts, outcome.error.as_ref().and_then(|error| error.provider_code));
    info!(
        channel,
        request = request_id,
        to,
        status,
        reason,
        attempts,
        provider_code,
        replayed,
        elapsed_ms,
        "request completed"
    );
}

/// The message goes without a field that cannot be read.
pub fn field_left_out(request_id: &str, fault: &impl Display) {
    info!(request = request_id, fault = display(fault), "request field left out");
}

pub fn admission_answered(elapsed: Duration) {
    observe(&METRICS.admission, elapsed);
}

pub fn provider_accepted(provider: &'static str, elapsed: Duration) {
    observe(&METRICS.provider.get_or_create(&ProviderLabels { provider, answer: "accepted" }), elapsed);
}

pub fn provider_failed(
    provider: &'static str,
    request_id: &str,
    attempt: u32,
    failure: &SendFailure,
    elapsed: Duration,
) {
    let answer = failure.as_str();
    observe(&METRICS.provider.get_or_create(&ProviderLabels { provider, answer }), elapsed);
    match failure {
        SendFailure::Refused { provider_code, scope, reason } => {
            // A refusal of a range of numbers suppresses the recipient only, as the range is not known.
            let suppressed = after_refusal(*scope, *reason, *provider_code);
            let scope = suppressed.map_or(scope.as_str(), |suppression| suppression.scope.as_str());
            warn!(
                request = request_id,
                provider,
                attempt,
                code = provider_code,
                scope,
                "provider refused a message"
            );
        }
        SendFailure::Throttled { provider_code, retry_after } => {
            let retry_after_ms = retry_after.map(millis);
            warn!(
                request = request_id,
                provider,
                attempt,
                code = provider_code,
                retry_after_ms,
                "provider throttled a message"
            );
        }
        SendFailure::Deferred { provider_code } => {
            warn!(
                request = request_id,
                provider,
                attempt,
                code = provider_code,
                "provider deferred a message"
            )
        }
        SendFailure::NotConnected { detail } => {
            warn!(request = request_id, provider, attempt, detail, "provider is unreachable")
        }
        SendFailure::InDoubt { detail } => {
            warn!(request = request_id, provider, attempt, detail, "send in doubt")
        }
    }
}

pub fn send_retried(request_id: &str, attempt: u32, failure: &SendFailure, wait: Duration) {
    METRICS.retries.get_or_create(&ReasonLabel { reason: failure.as_str() }).inc();
    let wait_ms = millis(wait);
    info!(request = request_id, attempt, wait_ms, "send will be retried");
}

/// A send waits for the gate or for a sender, beyond its own backoff.
pub fn send_waits_at_gate(channel: Channel, request_id: &str, reason: &'static str) {
    METRICS.held.get_or_create(&ReasonLabel { reason }).inc();
    info!(channel = channel.as_str(), request = request_id, reason, "send waiting");
}

/// Other senders take over. `sender` is its place in the settings.
pub fn sender_cooling_down(
    provider: &'static str,
    sender: u32,
    provider_code: Option<u32>,
    cooldown: Duration,
) {
    METRICS.sender_rests.inc();
    let cooldown_seconds = cooldown.as_secs();
    error!(provider, sender, code = provider_code, cooldown_seconds, "provider refused a sender");
}

/// The attempt in doubt is not known to have sent the message, so another one will repeat it.
pub fn send_to_be_repeated(request_id: &str, attempt: u32) {
    METRICS.resent.inc();
    warn!(request = request_id, attempt, "in-doubt send will be repeated");
}

pub fn message_lookup(provider: &'static str, request_id: &str, error: Option<&impl Display>) {
    match error {
        None => debug!(request = request_id, provider, "message lookup answered"),
        Some(error) => warn!(request = request_id, provider, %error, "message lookup failed"),
    }
}

/// `answer` is `found`, `reported`, `absent` or `unknown`.
pub fn in_doubt_resolved(request_id: &str, answer: &'static str) {
    METRICS.doubts.get_or_create(&ReasonLabel { reason: answer }).inc();
    info!(request = request_id, answer, "in-doubt send resolved");
}

/// `closed_by` is `None` when the gate opens. `fault` is the store's; it may pass by itself.
pub fn gate_changed(
    channel: Channel,
    closed_by: Option<&'static str>,
    fault: Option<&impl Display>,
    may_pass: bool,
) {
    let channel = channel.as_str();
    for reason in ["kill_switch", "store_silent", "store_damaged", "breaker"] {
        let labels = ClosedLabels { channel, reason };
        METRICS.gate_shut.get_or_create(&labels).set(i64::from(closed_by == Some(reason)));
    }
    match closed_by {
        Some(reason) if may_pass => warn!(channel, reason, fault = fault.map(display), "sending paused"),
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
    let answer = if good { "good" } else { "bad" };
    METRICS.probes.get_or_create(&ReasonLabel { reason: answer }).inc();
    let waited_ms = millis(waited);
    warn!(channel = channel.as_str(), provider, answer, waited_ms, "provider account probed");
}

/// `answer` is `news` (a final status to publish), `known` (all others) or `no_request`: words of the interface.
pub fn receipt_recorded(
    request_id: &str,
    status: &'static str,
    provider_code: Option<u32>,
    reason: RefusalReason,
    answer: &'static str,
) {
    METRICS.receipts.get_or_create(&ReceiptLabels { status, taken: answer }).inc();
    if reason.concerns_every_message() {
        error!(request = request_id, status, code = provider_code, taken = answer, "receipt recorded");
    } else {
        info!(request = request_id, status, code = provider_code, taken = answer, "receipt recorded");
    }
}

/// The receipt was not recorded or not published; the provider sends it again.
pub fn receipt_failed(request_id: &str, error: &impl Display) {
    warn!(request = request_id, %error, "receipt processing failed");
}

pub fn receipt_lapsed(request_id: &str) {
    METRICS.receipts.get_or_create(&ReceiptLabels { status: "unconfirmed", taken: "lapsed" }).inc();
    info!(request = request_id, "receipt did not come in time");
}

pub fn receipt_poll_failed(error: &impl Display) {
    warn!(%error, "overdue receipts could not be polled");
}

pub fn store_not_closed(error: &impl Display) {
    warn!(%error, "unused places under the cap over all sends were not given back");
}

/// `reason` is `forged`, `unreadable` or `ignored`.
pub fn callback_refused(reason: &'static str) {
    METRICS.callbacks_refused.get_or_create(&ReasonLabel { reason }).inc();
    warn!(reason, "callback refused");
}

/// The lease of the handler that was sending has expired.
pub fn in_doubt_taken_over(request_id: &str, attempt: u32) {
    warn!(request = request_id, attempt, "in-doubt send taken over from a lost handler");
}

/// The guard counts the handler until it is dropped.
pub fn handler_started() -> InFlightGuard {
    METRICS.in_flight.inc();
    InFlightGuard(())
}

pub struct InFlightGuard(());

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        METRICS.in_flight.dec();
    }
}

pub fn handler_panicked(delivery_count: u64) {
    METRICS.panics.inc();
    error!(delivery_count, "handler panicked");
}

pub fn delivery_requeued(reason: &'static str) {
    METRICS.given_back.inc();
    debug!(reason, "delivery requeued");
}

pub fn consumption_paused(channel: Channel) {
    info!(channel = channel.as_str(), "consumption paused");
}

pub fn consumption_resumed(channel: Channel) {
    info!(channel = channel.as_str(), "consumption resumed");
}

pub fn dead_lettered(reason: &'static str, error: &str) {
    METRICS.dead_letters.get_or_create(&ReasonLabel { reason }).inc();
    warn!(reason, error, "message dead-lettered");
}

/// The settings do not allow the request's `reply_to`.
pub fn reply_ignored(request_id: &str) {
    METRICS.replies_ignored.inc();
    warn!(request = request_id, "reply queue is not allowed");
}

pub fn reply_failed(reason: &'static str) {
    METRICS.replies_failed.inc();
    warn!(reason, "reply was not delivered");
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
    METRICS.publish_failures.inc();
    warn!(%error, retry_in_ms, "broker did not confirm a message");
}

pub fn code_checked(to: &impl Display, purpose: &str, verdict: &Verdict) {
    METRICS.checks.get_or_create(&ReasonLabel { reason: verdict.as_str() }).inc();
    info!(%to, purpose, verdict = verdict.as_str(), "code checked");
}

/// No record of the request is kept, so a reader could not know which code it was.
pub fn verified_without_request(to: &impl Display, purpose: &str) {
    warn!(%to, purpose, "verified event not published: the request of the code has no record");
}

/// The provider that made the code gave no verdict.
pub fn code_check_failed(to: &impl Display, fault: &impl Display) {
    warn!(%to, %fault, "code check failed");
}

/// The service that made the codes was deleted, or it refuses the account.
pub fn code_verifier_refused(fault: &impl Display) {
    error!(%fault, "codes cannot be checked: the provider refuses the service or the account");
}

/// `route` is the pattern, never the path or the query.
pub fn http_answered(method: &str, route: &str, status: u16, elapsed: Duration) {
    METRICS.http.get_or_create(&HttpLabels { route: route.to_owned(), status }).inc();
    observe(&METRICS.http_seconds, elapsed);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    debug!(method, route, status, elapsed_us, "http request answered");
}

/// The request counts for the proxy that stated the hop. It is logged once a minute: every request may have one.
pub fn forwarded_hop_unreadable() {
    static LOGGED: Mutex<Option<Instant>> = Mutex::new(None);
    METRICS.forwarded_unreadable.inc();
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    if logged.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
        *logged = Some(Instant::now());
        warn!("unreadable hop in X-Forwarded-For; requests behind it count for a trusted proxy");
    }
}

/// `reason` is `head` (not complete in time), `idle`, `unread` (an answer), or the bound that it gave way to: `connections`,
/// `bytes`.
pub fn http_connection_closed(reason: &'static str) {
    METRICS.http_connections_closed.get_or_create(&ReasonLabel { reason }).inc();
    debug!(reason, "http connection closed");
}

/// `bound` is `connections` or `bytes`.
pub fn http_bound_reached(bound: &'static str, max: usize) {
    warn!(bound, max, "http bound reached: clients that only wait give way");
}

/// Counts every failure. A caller that fails often logs some of them.
pub fn accept_failed(error: &impl Display, is_logged: bool) {
    METRICS.accept_failures.inc();
    if is_logged {
        error!(%error, "http connection not accepted");
    }
}

pub fn token_refused(reason: &'static str) {
    info!(reason, "token refused");
}

pub fn token_keys_fetched() {
    METRICS.jwks_fetches.get_or_create(&ReasonLabel { reason: "good" }).inc();
    debug!("token keys fetched");
}

/// The issuer publishes another set of keys. Unusable keys are logged once for each set.
pub fn token_keys_changed(usable: usize, ignored: impl Iterator<Item = &'static str>) {
    METRICS.jwks_keys.set(i64::try_from(usable).unwrap_or(i64::MAX));
    info!(usable, "token keys changed");
    for reason in ignored {
        METRICS.jwks_ignored.get_or_create(&ReasonLabel { reason }).inc();
        warn!(reason, "token key ignored");
    }
}

/// Keys fetched earlier stay valid.
pub fn token_keys_failed(reason: &'static str, error: &impl Display, retry_in: Duration) {
    METRICS.jwks_fetches.get_or_create(&ReasonLabel { reason }).inc();
    let retry_in_ms = millis(retry_in);
    warn!(reason, %error, retry_in_ms, "token keys not fetched");
}

/// The last fetched keys are too old to be trusted.
pub fn token_keys_dropped() {
    METRICS.jwks_keys.set(0);
    error!("token keys dropped: the last good answer is too long ago");
}

/// A query of an operator with the scope `otp:admin`, for the audit log and the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    Status,
    RateLimit,
    Validate,
    Request,
    Requests,
}

impl AdminAction {
    pub const ALL: [AdminAction; 5] = [
        AdminAction::Status,
        AdminAction::RateLimit,
        AdminAction::Validate,
        AdminAction::Request,
        AdminAction::Requests,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AdminAction::Status => "status",
            AdminAction::RateLimit => "rate_limit",
            AdminAction::Validate => "validate",
            AdminAction::Request => "request",
            AdminAction::Requests => "requests",
        }
    }
}

/// `sub` is the subject of the token.
pub fn admin_asked(sub: &str, action: AdminAction, request_id: Option<&str>, to: Option<&Address>) {
    let what = action.as_str();
    METRICS.admin.get_or_create(&ReasonLabel { reason: what }).inc();
    let (sub, to) = (printable(sub), to.map(display));
    info!(target: "otpost::audit", audit = true, sub, what, request = request_id, to, "operator query");
}

/// Replaces every character that could forge a log line or hide a part of one.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 255;
    let shown = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    text.chars().take(CHARS_MAX).map(shown).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_words_of_the_audit_log_and_no_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        let page = std::fs::read_to_string(path).expect("a file of text");
        let words: Vec<String> =
            AdminAction::ALL.iter().map(|action| format!("`{}`", action.as_str())).collect();
        let [first @ .., last] = &words[..] else { panic!("there are some") };
        let logged = format!("`what`: {} or {last};", first.join(", "));
        assert!(page.contains(&logged), "{logged}");
        let counted = format!("operator queries over HTTP: {}, {last} (", first.join(", "));
        assert!(page.contains(&counted), "{counted}");
    }
}
