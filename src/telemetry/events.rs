//! Everything that the gateway tells its operators: one function an event, a log line and a metric together.
//!
//! Messages are constant and lower case; values are fields. A number is passed as its masked form.

use std::fmt::Display;
use std::time::Duration;

use tracing::field::display;
use tracing::{debug, error, info, warn};

use super::metrics::{
    HttpLabels, METRICS, OutcomeLabels, ProviderLabels, ReasonLabel, ReceiptLabels, RoleLabel, ShutLabels,
    observe,
};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::outcome::Outcome;
use crate::domain::send_failure::{RejectReason, SendFailure};
use crate::domain::time::millis;
use crate::domain::verdict::Verdict;

/// A request's result was confirmed by the broker.
pub fn request_completed(
    channel: Channel,
    request: &str,
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
        request, to, status, reason, attempts, provider_code, replayed, elapsed_ms, "request ended"
    );
}

/// The store answered whether a request may be sent.
pub fn admitted(elapsed: Duration) {
    observe(&METRICS.admission, elapsed);
}

/// The provider took a message.
pub fn provider_accepted(provider: &'static str, elapsed: Duration) {
    observe(&METRICS.provider.get_or_create(&ProviderLabels { provider, answer: "accepted" }), elapsed);
}

/// The provider did not take a message, or its answer was lost.
pub fn provider_failed(
    provider: &'static str,
    request: &str,
    attempt: u32,
    failure: &SendFailure,
    elapsed: Duration,
) {
    let answer = failure.as_str();
    observe(&METRICS.provider.get_or_create(&ProviderLabels { provider, answer }), elapsed);
    match failure {
        SendFailure::Rejected { code, scope, .. } => {
            let scope = scope.as_str();
            warn!(request, provider, attempt, code, scope, "provider refused a message");
        }
        SendFailure::Throttled { code, retry_after } => {
            let retry_after_ms = retry_after.map(millis);
            warn!(request, provider, attempt, code, retry_after_ms, "provider throttled a message");
        }
        SendFailure::Deferred { code } => {
            warn!(request, provider, attempt, code, "provider deferred a message")
        }
        SendFailure::Unreachable { detail } => {
            warn!(request, provider, attempt, detail, "provider is unreachable")
        }
        SendFailure::InDoubt { detail } => warn!(request, provider, attempt, detail, "a send is in doubt"),
    }
}

/// A send will be tried again.
pub fn send_retried(request: &str, attempt: u32, failure: &SendFailure, wait: Duration) {
    METRICS.retries.get_or_create(&ReasonLabel { reason: failure.as_str() }).inc();
    let wait_ms = millis(wait);
    info!(request, attempt, wait_ms, "send will be tried again");
}

/// A send waits for more than its own next try.
pub fn send_paused(channel: Channel, request: &str, reason: &'static str) {
    METRICS.held.get_or_create(&ReasonLabel { reason }).inc();
    info!(channel = channel.as_str(), request, reason, "send is held");
}

/// A sender was refused: others carry its messages meanwhile. It is named by its place in the settings.
pub fn sender_cooling_down(provider: &'static str, sender: u32, code: Option<u32>, rest: Duration) {
    METRICS.sender_rests.inc();
    let rest_seconds = rest.as_secs();
    error!(provider, sender, code, rest_seconds, "provider refused a sender: it rests");
}

/// A message is sent once more, as the provider does not have the one that was in doubt.
pub fn send_repeated(request: &str, attempt: u32) {
    METRICS.resent.inc();
    warn!(request, attempt, "a send in doubt is made once more");
}

/// The provider was asked for its messages.
pub fn message_lookup(provider: &'static str, request: &str, fault: Option<&impl Display>) {
    match fault {
        None => debug!(request, provider, "provider showed its messages"),
        Some(error) => warn!(request, provider, %error, "provider was asked for its messages in vain"),
    }
}

/// A doubt is over: `found`, `reported`, `absent` or `unknown`.
pub fn in_doubt_resolved(request: &str, answer: &'static str) {
    METRICS.doubts.get_or_create(&ReasonLabel { reason: answer }).inc();
    info!(request, answer, "a doubt is over");
}

/// Messages are held back from now on, or go out again.
pub fn gate_changed(channel: Channel, shut: Option<&'static str>) {
    let channel = channel.as_str();
    for reason in ["kill_switch", "store_silent", "breaker"] {
        let labels = ShutLabels { channel, reason };
        METRICS.gate_shut.get_or_create(&labels).set(i64::from(shut == Some(reason)));
    }
    match shut {
        Some(reason) => error!(channel, reason, "sending is stopped: requests wait"),
        None => warn!(channel, "sending goes on"),
    }
}

/// A provider that failed everybody was asked about the account.
pub fn provider_probed(channel: Channel, provider: &'static str, good: bool, waited: Duration) {
    let answer = if good { "good" } else { "bad" };
    METRICS.probes.get_or_create(&ReasonLabel { reason: answer }).inc();
    let waited_ms = millis(waited);
    warn!(channel = channel.as_str(), provider, answer, waited_ms, "provider was probed");
}

/// The provider told what became of a message.
pub fn receipt_recorded(
    request: &str,
    status: &'static str,
    code: Option<u32>,
    reason: RejectReason,
    taken: &'static str,
) {
    METRICS.receipts.get_or_create(&ReceiptLabels { status, taken }).inc();
    if reason.concerns_every_message() {
        error!(request, status, code, taken, "receipt");
    } else {
        info!(request, status, code, taken, "receipt");
    }
}

/// A receipt could not be recorded or published: the provider calls again.
pub fn receipt_failed(request: &str, error: &impl Display) {
    warn!(request, %error, "receipt could not be dealt with");
}

/// Nobody ever told what became of a message.
pub fn receipt_lapsed(request: &str) {
    METRICS.receipts.get_or_create(&ReceiptLabels { status: "unconfirmed", taken: "lapsed" }).inc();
    info!(request, "no receipt came in time");
}

/// Overdue receipts could not be asked for.
pub fn receipt_poll_failed(error: &impl Display) {
    warn!(%error, "overdue receipts could not be asked for");
}

/// A call to the webhook was refused: `forged`, `unreadable`, `ignored`.
pub fn callback_refused(reason: &'static str) {
    METRICS.callbacks_refused.get_or_create(&ReasonLabel { reason }).inc();
    warn!(reason, "callback refused");
}

/// A delivery found another handling that died while it was sending.
pub fn in_doubt_taken_over(request: &str, attempt: u32) {
    warn!(request, attempt, "a send was left in doubt by a handling that ended");
}

/// A handling starts; the returned value counts it until it is dropped.
pub fn handler_started() -> InFlightGuard {
    METRICS.in_flight.inc();
    InFlightGuard(())
}

/// Counts one handling for as long as it lives.
pub struct InFlightGuard(());

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        METRICS.in_flight.dec();
    }
}

/// The handling of a delivery panicked.
pub fn handler_panicked(delivery_count: u64) {
    METRICS.panics.inc();
    error!(delivery_count, "handling a delivery panicked");
}

/// A delivery goes back to the queue.
pub fn delivery_requeued(reason: &'static str) {
    METRICS.given_back.inc();
    debug!(reason, "delivery given back");
}

/// A worker begins nothing new for now.
pub fn consumption_paused(channel: Channel) {
    info!(channel = channel.as_str(), "consumption paused");
}

/// A worker takes deliveries again.
pub fn consumption_resumed(channel: Channel) {
    info!(channel = channel.as_str(), "consumption resumed");
}

/// A message was set aside.
pub fn dead_lettered(reason: &'static str, error: &str) {
    METRICS.dead_letters.get_or_create(&ReasonLabel { reason }).inc();
    warn!(reason, error, "message set aside");
}

/// A request wants its result on a queue that is not allowed.
pub fn reply_ignored(request: &str) {
    METRICS.replies_ignored.inc();
    warn!(request, "reply queue is not allowed and ignored");
}

/// A caller's reply queue did not get its copy of a result.
pub fn reply_failed(reason: &'static str) {
    METRICS.replies_failed.inc();
    warn!(reason, "reply was not delivered");
}

/// The store did not answer a step.
pub fn store_failed(step: &'static str, error: &impl Display, retry_in: Option<Duration>) {
    METRICS.store_failures.get_or_create(&ReasonLabel { reason: step }).inc();
    let retry_in_ms = retry_in.map(millis);
    warn!(step, %error, retry_in_ms, "store did not answer");
}

/// The broker did not confirm a message.
pub fn publish_failed(error: &impl Display, retry_in: Option<Duration>) {
    METRICS.publish_failures.inc();
    let retry_in_ms = retry_in.map(millis);
    warn!(%error, retry_in_ms, "broker did not confirm a message");
}

/// A code was checked.
pub fn code_checked(to: &impl Display, purpose: &str, verdict: &Verdict) {
    METRICS.checks.get_or_create(&ReasonLabel { reason: verdict.as_str() }).inc();
    info!(%to, purpose, verdict = verdict.as_str(), "code checked");
}

/// Whoever made a code did not say whether a typed one is right.
pub fn code_check_failed(to: &impl Display, fault: &impl Display) {
    warn!(%to, %fault, "code was checked in vain");
}

/// No code can be checked by whoever made it: the service is not there any more, or does not know us.
pub fn code_verifier_refused(fault: &impl Display) {
    error!(%fault, "codes cannot be checked: the provider refuses the service or the account");
}

/// An HTTP request was answered. The route is the pattern, never the path or the query.
pub fn http_answered(method: &str, route: &str, status: u16, elapsed: Duration) {
    METRICS.http.get_or_create(&HttpLabels { route: route.to_owned(), status }).inc();
    observe(&METRICS.http_seconds, elapsed);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    debug!(method, route, status, elapsed_us, "http request answered");
}

/// A token was refused.
pub fn token_refused(reason: &'static str) {
    info!(reason, "token refused");
}

/// The issuer's published keys were fetched.
pub fn token_keys_fetched() {
    METRICS.jwks_fetches.get_or_create(&ReasonLabel { reason: "good" }).inc();
    debug!("token keys fetched");
}

/// The issuer publishes other keys than before. Those that were left out are told with the set that has them, once.
pub fn token_keys_changed(usable: usize, ignored: impl Iterator<Item = &'static str>) {
    METRICS.jwks_keys.set(i64::try_from(usable).unwrap_or(i64::MAX));
    info!(usable, "token keys changed");
    for reason in ignored {
        METRICS.jwks_ignored.get_or_create(&ReasonLabel { reason }).inc();
        warn!(reason, "token key ignored");
    }
}

/// The issuer's published keys could not be fetched; those that are known still count.
pub fn token_keys_failed(reason: &'static str, error: &impl Display, retry_in: Duration) {
    METRICS.jwks_fetches.get_or_create(&ReasonLabel { reason }).inc();
    let retry_in_ms = millis(retry_in);
    warn!(reason, %error, retry_in_ms, "token keys not fetched");
}

/// The issuer's published keys are too old to be believed.
pub fn token_keys_dropped() {
    METRICS.jwks_keys.set(0);
    error!("token keys dropped: the last good answer is too long ago");
}

/// What somebody with the scope `otp:admin` looks at: the words of the audit log and of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    /// How everything is.
    Status,
    /// What a recipient has used of its limits.
    RateLimit,
    /// Whether numbers can be sent to.
    Validate,
    /// What happened to a request.
    Request,
    /// The last requests of a recipient.
    Requests,
}

impl AdminAction {
    /// All of them.
    pub const ALL: [AdminAction; 5] = [
        AdminAction::Status,
        AdminAction::RateLimit,
        AdminAction::Validate,
        AdminAction::Request,
        AdminAction::Requests,
    ];

    /// The word: that of the endpoint.
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

/// Somebody with the scope `otp:admin` looked at something: who, at what. An audit wants to know.
pub fn admin_asked(sub: &str, look: AdminAction, request: Option<&str>, to: Option<&Address>) {
    let what = look.as_str();
    METRICS.admin.get_or_create(&ReasonLabel { reason: what }).inc();
    let (sub, to) = (printable(sub), to.map(display));
    info!(target: "otpost::audit", audit = true, sub, what, request, to, "an operator asked");
}

/// What somebody else chose, without anything that could make up another line or cover this one.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 255;
    let shown = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    text.chars().take(CHARS_MAX).map(shown).collect()
}

/// A process started.
pub fn started(role: &'static str, version: &'static str) {
    info!(role, version, "started");
}

/// A worker was told to stop. A process has one for each channel.
pub fn stopping(channel: Channel, grace: Duration) {
    let (channel, grace_seconds) = (channel.as_str(), grace.as_secs());
    info!(channel, grace_seconds, "stopping: finishing what is in flight");
}

/// A process has stopped.
pub fn stopped(unfinished: usize) {
    if unfinished == 0 {
        info!("stopped with nothing in flight");
    } else {
        warn!(unfinished, "stopped with deliveries unfinished; the broker gives them to another worker");
    }
}

/// Something that a person should know before trusting this process.
pub fn notice(notice: &str) {
    warn!(notice, "notice");
}

fn role_label(role: &'static str, channel: Option<Channel>) -> RoleLabel {
    RoleLabel { role, channel: channel.map_or("", Channel::as_str) }
}

/// A broker connection is up: one channel's, or everybody's.
pub fn broker_connected(role: &'static str, channel: Option<Channel>) {
    METRICS.connected.get_or_create(&role_label(role, channel)).set(1);
    info!(role, channel = channel.map(Channel::as_str), "broker connected");
}

/// A broker connection was lost or could not be made.
pub fn broker_lost(role: &'static str, channel: Option<Channel>, error: &impl Display, retry_in: Duration) {
    METRICS.connected.get_or_create(&role_label(role, channel)).set(0);
    METRICS.connections_lost.get_or_create(&role_label(role, channel)).inc();
    let retry_in_ms = millis(retry_in);
    warn!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "broker connection lost");
}

/// A broker connection was closed in order.
pub fn broker_closed(role: &'static str, channel: Option<Channel>) {
    METRICS.connected.get_or_create(&role_label(role, channel)).set(0);
    info!(role, channel = channel.map(Channel::as_str), "broker connection closed");
}

/// The broker takes no messages for now, as when it is low on memory or disk.
pub fn broker_blocked(role: &'static str, reason: &str) {
    METRICS.connected.get_or_create(&role_label(role, None)).set(0);
    warn!(role, reason, "broker takes no messages");
}

/// The broker takes messages again.
pub fn broker_unblocked(role: &'static str) {
    METRICS.connected.get_or_create(&role_label(role, None)).set(1);
    info!(role, "broker takes messages again");
}

/// A queue or an exchange exists with other arguments, or we may not declare it: somebody has to act. With a time to the
/// next try the connection has ended for it; without one it is tried again when it is missed.
pub fn topology_refused(
    role: &'static str,
    channel: Option<Channel>,
    error: &impl Display,
    retry_in: Option<Duration>,
) {
    if retry_in.is_some() {
        METRICS.connected.get_or_create(&role_label(role, channel)).set(0);
    }
    let retry_in_ms = retry_in.map(millis);
    error!(role, channel = channel.map(Channel::as_str), %error, retry_in_ms, "topology refused");
}

/// Nobody was bound for a result.
pub fn result_unroutable(message_id: &str) {
    METRICS.unroutable.inc();
    debug!(message_id, "no queue was bound for a result");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_words_of_the_audit_log_and_no_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        let page = std::fs::read_to_string(path).expect("a file of text");
        let words: Vec<String> = AdminAction::ALL.iter().map(|look| format!("`{}`", look.as_str())).collect();
        let [first @ .., last] = &words[..] else { panic!("there are some") };
        let logged = format!("`what`: {} or {last};", first.join(", "));
        assert!(page.contains(&logged), "{logged}");
        let counted = format!("operator queries over HTTP: {}, {last} (", first.join(", "));
        assert!(page.contains(&counted), "{counted}");
    }
}
