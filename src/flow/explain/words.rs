//! Sentences for the words of a history.

use crate::domain::failover_reason::FailoverReason;
use crate::flow::provider_gate::NO_SENDER_AVAILABLE;

pub(super) fn failover_in_words(reason: FailoverReason) -> &'static str {
    match reason {
        FailoverReason::BreakerOpen => "the circuit breaker of the provider before was open",
        FailoverReason::Refused => "the provider before refused it",
        FailoverReason::Throttled => "the provider before asked to wait",
        FailoverReason::Unreachable => "the provider before could not be reached",
        FailoverReason::NoSender => "the provider before had no sender for it",
        FailoverReason::DoubtUnanswered => {
            "the provider before answered no lookup: it may have sent the code, too"
        }
    }
}

pub(super) fn lookup_in_words(answer: &str) -> String {
    let words = match answer {
        "found" => "found, so it was sent",
        "absent" => "not found",
        "ambiguous" => "found, but it may be another request's",
        "unanswered" => "no answer",
        "refused" => "access refused",
        unknown => unknown,
    };
    format!("message lookup: {words}")
}

pub(super) fn gate_wait_in_words(reason: &str) -> &str {
    match reason {
        "kill_switch" => "the kill switch is on",
        "store_silent" => "the store was silent, so the kill switch was unknown",
        "store_damaged" => "stored data that all requests share was damaged",
        "breaker" => "the circuit breaker was open",
        NO_SENDER_AVAILABLE => "every sender is cooling down or was refused for this message",
        unknown => unknown,
    }
}

pub(super) fn requeue_reason_in_words(reason: &str) -> &str {
    match reason {
        "stopping" => "the worker shut down",
        "delivery_lost" => "the connection to the broker was lost",
        "taken_over" => "another handler had taken it over",
        "held_too_long" => "it had waited for 12 minutes",
        "route_shut" => "every provider of its route was shut, and too many requests waited for that",
        "record_unreadable" => "stored data that it needs could not be read",
        unknown => unknown,
    }
}
