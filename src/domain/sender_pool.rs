//! The senders of a provider: which one sends a message, and how long one cools down after a refusal.
//!
//! A recipient always gets the same sender, on every worker and in every version, so that a person's codes arrive in one
//! thread. While that sender cools down, the recipient gets a stand-in: the same one as long as the same senders cool
//! down. After the cooldown one trial message goes to the sender, and only the answer to that message decides.
//!
//! A refusal seldom shows its cause: a recipient of another country can look like a sender that is not ours. So a refusal
//! for one recipient says nothing of the sender; a second one in a row, for another recipient, does. If the provider refuses
//! a message alike from two senders, the recipient is the cause. If all refusals concern one country, and the sender last worked
//! in another country, more of them are needed.

use std::time::Duration;

use super::keyed_digest::Digest16;
use super::outcome::ErrorCode;
use super::send_failure::{RefusalReason, Scope, SendFailure};

/// A queue drains at one message a second or faster, so it soon has room again.
const COOLDOWN_QUEUE_FULL: Duration = Duration::from_secs(30);
/// Any other problem of a sender needs an operator; until it is solved it costs one refusal per cooldown.
const SENDER_COOLDOWN: Duration = Duration::from_secs(300);
/// Refusals in a row, each for another recipient than the one before, that start a cooldown.
const REFUSED_MAX: u32 = 2;
/// The same if all may concern one country: as many as the circuit breaker needs of unrecognised refusals.
const REFUSED_ONE_COUNTRY_MAX: u32 = 5;

/// Assigns a recipient to a sender: FNV-1a, 64 bits, of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientHash(u64);

impl RecipientHash {
    pub fn of(address: &str) -> RecipientHash {
        RecipientHash(address.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// A number between 0 and 1, both excluded, for each choice apart: splitmix64, whose upper 53 bits are a fraction.
    pub(super) fn fraction(self, choice: u64) -> f64 {
        let mut bits = self.0.wrapping_add((choice + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let above_zero = ((bits >> 11) as f64) + 0.5;
        above_zero / 9_007_199_254_740_992.0
    }

    /// The index of the recipient's own sender.
    fn own(self, count: usize) -> usize {
        nth(self.0, count)
    }

    /// The index of the stand-in. Another part of the hash spreads one sender's recipients over the others.
    fn stand_in(self, own_of: usize, count: usize) -> usize {
        nth(self.0 / u64::try_from(own_of).expect("a count fits"), count)
    }
}

fn nth(hash: u64, count: usize) -> usize {
    let count = u64::try_from(count).expect("a count fits");
    usize::try_from(hash % count).expect("a remainder is below the count")
}

/// The health of all senders, as far as one process knows. Times count from a fixed moment.
#[derive(Debug)]
pub struct SenderPool(Vec<Sender>);

#[derive(Clone, Debug)]
struct Sender {
    health: SenderHealth,
    /// The last refusal, if no message sent after it was accepted.
    suspicion: Option<Suspicion>,
    /// The start of the latest message that was accepted.
    worked_at: Option<Duration>,
    /// The country of that message.
    worked_in: Option<String>,
}

#[derive(Clone, Debug)]
struct Suspicion {
    recipient: Digest16,
    country: Option<String>,
    at: Duration,
    /// Refusals in a row, each for another recipient than the one before.
    refused: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct RecipientInfo<'a> {
    pub recipient: Digest16,
    /// `None` for an e-mail address, and for a number of no country.
    pub country: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SenderHealth {
    Healthy,
    /// Until this time; then one trial message may go to it.
    CoolingDown(Duration),
    /// The trial message is in flight.
    OnTrial,
}

/// The refusals of one message by the provider: the latest of each sender.
#[derive(Clone, Debug, Default)]
pub struct SenderRefusals(Vec<SenderRefusal>);

#[derive(Clone, Copy, Debug)]
struct SenderRefusal {
    sender: usize,
    provider_code: Option<u32>,
    at: Duration,
    /// The end of the cooldown that it started.
    cools_down_until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderChoice {
    Sender(usize),
    /// None at present. The wait until one is available, if known.
    NoneAvailable(Option<Duration>),
}

#[derive(Clone, Copy, Debug)]
pub struct SenderAssignment {
    pub sender: usize,
    /// The trial message of a sender after its cooldown.
    pub is_trial: bool,
    pub started: Duration,
}

/// The consequence of an answer for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderVerdict {
    Nothing,
    /// The sender starts to cool down, for this time.
    CoolingDown(Duration),
    /// The sender works for other recipients: a message refused from it may be sent from it once more.
    Works,
    /// Refused alike from another sender, or from one that works for others. Probably the recipient is the cause, perhaps
    /// all our senders are refused now.
    RefusedFromSeveralSenders,
}

/// An answer, as far as it concerns the sender of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SenderAnswer {
    Accepted,
    /// Refused for another cause than the sender.
    OtherRefusal,
    /// Refused for the sender, or for the sender together with this recipient. Holds the provider's code.
    Refused(Option<u32>),
    QueueFull,
    Nothing,
}

impl SenderPool {
    /// `count` healthy senders, at least one.
    pub fn new(count: usize) -> SenderPool {
        let healthy =
            Sender { health: SenderHealth::Healthy, suspicion: None, worked_at: None, worked_in: None };
        SenderPool(vec![healthy; count.max(1)])
    }

    /// Chooses the sender of a message, which the provider may have refused from some senders already.
    ///
    /// Such a sender gets the message again after the time of a cooldown, or once another message from it was accepted: then
    /// the cause of the refusal will show.
    pub fn choose(&self, hash: RecipientHash, refusals: &SenderRefusals, now: Duration) -> SenderChoice {
        let count = self.0.len();
        let own = hash.own(count);
        let waits: Vec<Option<Duration>> =
            (0..count).map(|n| self.free_at(n, refusals).map(|at| at.saturating_sub(now))).collect();
        let free = |n: usize| waits[n] == Some(Duration::ZERO);
        if free(own) {
            return SenderChoice::Sender(own);
        }
        for healthy in [true, false] {
            let others: Vec<usize> =
                (0..count).filter(|&n| free(n) && self.0[n].is_healthy() == healthy).collect();
            if !others.is_empty() {
                return SenderChoice::Sender(others[hash.stand_in(count, others.len())]);
            }
        }
        SenderChoice::NoneAvailable(waits.into_iter().flatten().min())
    }

    /// The time from which a sender may get the message, if known.
    fn free_at(&self, sender: usize, refusals: &SenderRefusals) -> Option<Duration> {
        let healthy_at = match self.0[sender].health {
            SenderHealth::Healthy => Duration::ZERO,
            SenderHealth::CoolingDown(until) => until,
            SenderHealth::OnTrial => return None,
        };
        let again_at = match refusals.of(sender) {
            Some(refusal) if !self.worked_since(refusal) => refusal.at + SENDER_COOLDOWN,
            _ => Duration::ZERO,
        };
        Some(healthy_at.max(again_at))
    }

    fn worked_since(&self, refusal: &SenderRefusal) -> bool {
        self.0[refusal.sender].worked_at.is_some_and(|at| at > refusal.at)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Senders that cool down, or whose trial message is in flight.
    pub fn suspended(&self) -> usize {
        self.0.iter().filter(|sender| !sender.is_healthy()).count()
    }

    /// True while every sender is unhealthy or was refused for the message.
    pub fn none_available(&self, refusals: &SenderRefusals) -> bool {
        (0..self.0.len()).all(|n| !self.0[n].is_healthy() || refusals.of(n).is_some())
    }

    /// Assigns a message to a sender. True if it is the sender's trial message.
    pub fn assign(&mut self, sender: usize) -> bool {
        let sender = &mut self.0[sender];
        let is_trial = !sender.is_healthy();
        if is_trial {
            sender.health = SenderHealth::OnTrial;
        }
        is_trial
    }

    /// Updates the senders by the answer to a message, and records a refusal.
    ///
    /// A message that was in flight before the cooldown started says nothing of a sender that cools down.
    pub fn record_answer(
        &mut self,
        assignment: SenderAssignment,
        to: RecipientInfo<'_>,
        refusals: &mut SenderRefusals,
        now: Duration,
        failure: Option<&SendFailure>,
    ) -> SenderVerdict {
        let SenderAssignment { sender: n, is_trial, started } = assignment;
        let answer = answer_for_sender(failure);
        if let SenderAnswer::Refused(provider_code) = answer
            && self.is_about_recipient(n, provider_code, refusals)
        {
            self.clear_suspicions(to.recipient, refusals, now);
            if is_trial {
                self.trial_undecided(n, now);
            }
            return SenderVerdict::RefusedFromSeveralSenders;
        }
        let sender = &mut self.0[n];
        let counts = is_trial || sender.is_healthy();
        match answer {
            SenderAnswer::Accepted => {
                if sender.worked_at.is_none_or(|at| at <= started) {
                    (sender.worked_at, sender.worked_in) = (Some(started), to.country.map(str::to_owned));
                }
                if is_trial {
                    sender.health = SenderHealth::Healthy;
                }
                if sender.suspicion.as_ref().is_some_and(|suspicion| started > suspicion.at) {
                    sender.suspicion = None;
                    return SenderVerdict::Works;
                }
            }
            SenderAnswer::OtherRefusal if is_trial => sender.health = SenderHealth::Healthy,
            SenderAnswer::QueueFull if counts => return sender.cool_down(COOLDOWN_QUEUE_FULL, now),
            SenderAnswer::Refused(provider_code) => {
                let cools_down = counts && sender.add_suspicion(to, now);
                let cools_down_until = cools_down.then_some(now + SENDER_COOLDOWN);
                refusals.add(SenderRefusal { sender: n, provider_code, at: now, cools_down_until });
                if cools_down {
                    sender.suspicion = None;
                    return sender.cool_down(SENDER_COOLDOWN, now);
                }
                // The refusal of one recipient starts no new cooldown either: the next message is the trial.
                if is_trial {
                    self.trial_undecided(n, now);
                }
            }
            SenderAnswer::Nothing if is_trial => self.trial_undecided(n, now),
            SenderAnswer::OtherRefusal | SenderAnswer::QueueFull | SenderAnswer::Nothing => {}
        }
        SenderVerdict::Nothing
    }

    /// The trial message was not sent, or decided nothing: the next message is the trial.
    pub fn trial_undecided(&mut self, sender: usize, now: Duration) {
        self.0[sender].health = SenderHealth::CoolingDown(now);
    }

    /// True if the message was refused alike from another sender, or from this one, which has worked for others since.
    fn is_about_recipient(
        &self,
        sender: usize,
        provider_code: Option<u32>,
        refusals: &SenderRefusals,
    ) -> bool {
        let alike = |before: &&SenderRefusal| before.provider_code == provider_code;
        refusals.0.iter().filter(alike).any(|before| before.sender != sender || self.worked_since(before))
    }

    /// The recipient was the cause of its refusals: a cooldown that they started ends with a trial message.
    fn clear_suspicions(&mut self, recipient: Digest16, refusals: &SenderRefusals, now: Duration) {
        for sender in &mut self.0 {
            sender.suspicion.take_if(|suspicion| suspicion.recipient == recipient);
        }
        for refusal in &refusals.0 {
            let health = &mut self.0[refusal.sender].health;
            if refusal.cools_down_until.is_some_and(|until| *health == SenderHealth::CoolingDown(until)) {
                *health = SenderHealth::CoolingDown(now);
            }
        }
    }
}

impl Sender {
    fn is_healthy(&self) -> bool {
        self.health == SenderHealth::Healthy
    }

    /// Records a refusal. True if the sender is now the likely cause.
    fn add_suspicion(&mut self, to: RecipientInfo<'_>, now: Duration) -> bool {
        let before = self.suspicion.as_ref();
        let count = before.map_or(1, |before| before.refused + u32::from(before.recipient != to.recipient));
        let may_be_the_country = before.is_some_and(|before| before.country.as_deref() == to.country)
            && self.worked_at.is_some()
            && self.worked_in.as_deref() != to.country;
        let country = to.country.map(str::to_owned);
        self.suspicion = Some(Suspicion { recipient: to.recipient, country, at: now, refused: count });
        count >= if may_be_the_country { REFUSED_ONE_COUNTRY_MAX } else { REFUSED_MAX }
    }

    fn cool_down(&mut self, cooldown: Duration, now: Duration) -> SenderVerdict {
        self.health = SenderHealth::CoolingDown(now + cooldown);
        SenderVerdict::CoolingDown(cooldown)
    }
}

impl SenderRefusals {
    fn of(&self, sender: usize) -> Option<&SenderRefusal> {
        self.0.iter().find(|refusal| refusal.sender == sender)
    }

    fn add(&mut self, refusal: SenderRefusal) {
        self.0.retain(|before| before.sender != refusal.sender);
        self.0.push(refusal);
    }
}

/// The error of a message that no sender could send before its deadline.
pub fn error_code(reason: RefusalReason) -> ErrorCode {
    match reason {
        RefusalReason::QueueFull => ErrorCode::ProviderUnavailable,
        _ => ErrorCode::ProviderMisconfigured,
    }
}

fn answer_for_sender(failure: Option<&SendFailure>) -> SenderAnswer {
    match failure {
        None => SenderAnswer::Accepted,
        Some(SendFailure::Refused { scope: Scope::Sender, reason: RefusalReason::QueueFull, .. }) => {
            SenderAnswer::QueueFull
        }
        Some(SendFailure::Refused { scope: Scope::Sender, provider_code, .. }) => {
            SenderAnswer::Refused(*provider_code)
        }
        // Refused before the provider checked the sender, or never answered.
        Some(SendFailure::Refused { scope: Scope::Account, .. }) => SenderAnswer::Nothing,
        Some(
            SendFailure::Throttled { .. }
            | SendFailure::Deferred { .. }
            | SendFailure::NotConnected { .. }
            | SendFailure::InDoubt { .. },
        ) => SenderAnswer::Nothing,
        Some(SendFailure::Refused { .. }) => SenderAnswer::OtherRefusal,
    }
}

#[cfg(test)]
mod tests;
