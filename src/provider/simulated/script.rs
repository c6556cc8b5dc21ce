//! The results of simulated messages, by the last four digits of the recipient.
//!
//! `docs/simulation.md` has the same table for users.

use std::time::Duration;

use crate::domain::address::Address;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::send_failure::{RefusalReason, Scope, SendFailure};

/// The numbers whose last four digits choose a script.
const SCRIPTED: &str = "+57300555";

/// A receipt, and its delay after the send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) after: Duration,
    pub(super) status: DeliveryStatus,
    pub(super) code: Option<u32>,
    pub(super) reason: RefusalReason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// `None`: accepted.
    pub(super) failure: Option<SendFailure>,
    /// The receipts of a message that is sent, even if its answer is lost.
    pub(super) sent: Option<&'static [Step]>,
}

const fn step(seconds: u64, status: DeliveryStatus) -> Step {
    Step { after: Duration::from_secs(seconds), status, code: None, reason: RefusalReason::Other }
}

const fn undelivered(code: u32, reason: RefusalReason) -> [Step; 1] {
    [Step { code: Some(code), reason, ..step(1, DeliveryStatus::Undelivered) }]
}

const DELIVERED: &[Step] = &[step(1, DeliveryStatus::Delivered)];
const DELIVERED_AFTER_HALF_A_MINUTE: &[Step] = &[step(30, DeliveryStatus::Delivered)];
const DELIVERED_AFTER_THE_DEATH: &[Step] = &[step(70, DeliveryStatus::Delivered)];
const DELIVERED_LATE: &[Step] = &[step(60, DeliveryStatus::Delivered)];
const OUT_OF_ORDER: &[Step] = &[
    step(1, DeliveryStatus::Delivered),
    step(2, DeliveryStatus::Sent),
    step(3, DeliveryStatus::Queued),
    step(4, DeliveryStatus::Delivered),
];
const UNREACHABLE_PHONE: &[Step] = &undelivered(30003, RefusalReason::Other);
const UNKNOWN_PHONE: &[Step] = &undelivered(30005, RefusalReason::Unreachable);
const FILTERED: &[Step] = &undelivered(30007, RefusalReason::FilteredAsSpam);

/// The result of attempt number `nth`, counted from 1.
pub(super) fn plan(to: &Address, nth: u32) -> Plan {
    let accepted = |steps| Plan { failure: None, sent: Some(steps) };
    let failed = |failure| Plan { failure: Some(failure), sent: None };
    let rejected =
        |scope, reason, code| failed(SendFailure::Refused { scope, reason, provider_code: Some(code) });
    match scripted(to).unwrap_or_default() {
        "0001" => accepted(DELIVERED_LATE),
        "0002" => accepted(OUT_OF_ORDER),
        "0408" => Plan { failure: Some(timed_out()), sent: Some(DELIVERED_AFTER_HALF_A_MINUTE) },
        "0429" if nth <= 2 => failed(throttled(2)),
        "0430" if nth <= 1 => failed(throttled(60)),
        "0503" if nth <= 2 => failed(unreachable()),
        "0504" if nth <= 1 => failed(timed_out()),
        "0505" => failed(timed_out()),
        "0900" if nth <= 1 => failed(timed_out()),
        "0901" if nth <= 1 => Plan { failure: Some(timed_out()), sent: Some(DELIVERED_AFTER_THE_DEATH) },
        "1408" => rejected(Scope::Country, RefusalReason::CountryDisabled, 21408),
        "1610" => rejected(Scope::Recipient, RefusalReason::OptedOut, 21610),
        "1614" => rejected(Scope::Recipient, RefusalReason::Other, 21614),
        "3003" => accepted(UNREACHABLE_PHONE),
        "3005" => accepted(UNKNOWN_PHONE),
        "3007" => accepted(FILTERED),
        _ => accepted(DELIVERED),
    }
}

/// The same of a provider that never dies and has time.
pub(super) fn plan_of_stand_in(to: &Address, nth: u32) -> Plan {
    match scripted(to) {
        Some("0430" | "0900" | "0901") => Plan { failure: None, sent: Some(DELIVERED) },
        _ => plan(to, nth),
    }
}

/// The first attempt to this number ends the life of its provider for a while.
pub(super) fn kills(to: &Address, nth: u32) -> bool {
    nth <= 1 && matches!(scripted(to), Some("0900" | "0901"))
}

/// The last four digits of a number that has a script.
pub(super) fn scripted(to: &Address) -> Option<&str> {
    to.as_str().strip_prefix(SCRIPTED)
}

fn throttled(seconds: u64) -> SendFailure {
    SendFailure::Throttled { provider_code: Some(20429), retry_after: Some(Duration::from_secs(seconds)) }
}

fn unreachable() -> SendFailure {
    SendFailure::NotConnected { detail: "no connection (simulated)".to_owned() }
}

pub(super) fn timed_out() -> SendFailure {
    SendFailure::InDoubt { detail: "timed out before the answer (simulated)".to_owned() }
}
