//! Which of our senders carries a message, and how long one rests that the provider refused.
//!
//! A recipient always gets the same sender, on every worker and in every version, so that a person's codes arrive in one
//! thread. While that one rests it gets another, the same one for as long as the same ones rest, and after that its own
//! again. Whether a rest has helped is tried with one message, and only that one's answer decides.
//!
//! A refusal seldom tells whose it is: a short code of another country gets the number of a sender that is not ours. So
//! one recipient's says nothing of a sender, a second one's in a row does, and what two senders refuse alike is about the
//! message's recipient. If both are of one country, and the sender was well in another one last, it takes more of them.
//!
//! Numbers: Twilio's error pages. 21611 says that too much waits for the sender already, whoever it is for; the others,
//! that it is not ours or not Twilio's, cannot send texts, is of another country, or is not registered with the carriers.

use std::time::Duration;

use super::keyed_digest::Digest16;
use super::outcome::ErrorCode;
use super::send_failure::{Scope, SendFailure};

const QUEUE_FULL: u32 = 21611;
/// What waits for a sender goes out at one message a second at worst: soon there is room again.
const REST_QUEUE_FULL: Duration = Duration::from_secs(30);
/// Whatever else is wrong with a sender, somebody has to mend it; until then it costs one refusal in this time.
const REST: Duration = Duration::from_secs(300);
/// Refusals in a row, each of another recipient than the one before, that make a sender rest.
const REFUSED_MAX: u32 = 2;
/// So many if all may be about one country: as many as the breaker takes for refusals that nobody knows.
const REFUSED_ABROAD_MAX: u32 = 5;

/// A recipient where senders are shared out: FNV-1a, 64 bits, of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientHash(u64);

impl RecipientHash {
    /// That of an address.
    pub fn of(address: &str) -> RecipientHash {
        RecipientHash(address.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// Which of so many senders is the recipient's own.
    fn own(self, count: usize) -> usize {
        nth(self.0, count)
    }

    /// Which of so many stands in for it: another part of the hash, so that one sender's recipients are spread.
    fn stand_in(self, own_of: usize, count: usize) -> usize {
        nth(self.0 / u64::try_from(own_of).expect("a count fits"), count)
    }
}

fn nth(hash: u64, count: usize) -> usize {
    let count = u64::try_from(count).expect("a count fits");
    usize::try_from(hash % count).expect("a remainder is below the count")
}

/// How all senders stand, as far as one process knows. Times are counted from some fixed moment.
#[derive(Debug)]
pub struct SenderPool(Vec<Sender>);

#[derive(Clone, Debug)]
struct Sender {
    standing: SenderHealth,
    /// Who was refused last, if no message that went out since was accepted.
    suspect: Option<Suspect>,
    /// When the latest message went out that was accepted.
    well: Option<Duration>,
    /// The country that it went to.
    well_in: Option<String>,
}

#[derive(Clone, Debug)]
struct Suspect {
    recipient: Digest16,
    country: Option<String>,
    /// When it was refused.
    at: Duration,
    /// Refusals in a row, each of another recipient than the one before.
    refused: u32,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub struct RecipientInfo<'a> {
    /// The recipient.
    pub recipient: Digest16,
    /// Its country, if it has one.
    pub country: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SenderHealth {
    Healthy,
    /// Until then. After that one message may try it.
    CoolingDown(Duration),
    /// That message is under way.
    Probing,
}

/// Which senders refused a message. At most one entry for each.
#[derive(Clone, Debug, Default)]
pub struct SenderRefusals(Vec<SenderRefusal>);

#[derive(Clone, Copy, Debug)]
struct SenderRefusal {
    sender: usize,
    code: Option<u32>,
    at: Duration,
    /// It made the sender rest until then.
    rests: Option<Duration>,
}

/// Who carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderChoice {
    /// This one.
    Sender(usize),
    /// Nobody yet. One may after this long, if that is known.
    NoneAvailable(Option<Duration>),
}

/// A message that a sender got.
#[derive(Clone, Copy, Debug)]
pub struct SenderAssignment {
    /// Which sender.
    pub sender: usize,
    /// It tries whether the sender's rest has helped.
    pub is_trial: bool,
    /// When it went out.
    pub began: Duration,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderVerdict {
    /// Nothing more than the answer says.
    Nothing,
    /// The sender begins to rest, for so long.
    Rests(Duration),
    /// The sender carries others' messages: whoever it refused may be refused once more, to tell.
    Carries,
    /// It is not about the sender: no other will be taken either.
    NotTheSender,
}

/// What an answer says of the sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SenderAnswer {
    Accepted,
    /// Refused, for something else.
    Passed,
    /// Refused, for the sender or for it and this recipient together.
    Refused(Option<u32>),
    QueueFull,
    Nothing,
}

impl SenderPool {
    /// So many, at least one, all awake.
    pub fn new(count: usize) -> SenderPool {
        let awake = Sender { standing: SenderHealth::Healthy, suspect: None, well: None, well_in: None };
        SenderPool(vec![awake; count.max(1)])
    }

    /// Who carries a message to a recipient now, after these senders have refused it.
    ///
    /// A sender that refused it gets it again when a rest would be over, or once it has carried another one: that tells
    /// whose the refusal was.
    pub fn choose(&self, share: RecipientHash, refusals: &SenderRefusals, now: Duration) -> SenderChoice {
        let count = self.0.len();
        let own = share.own(count);
        let waits: Vec<Option<Duration>> =
            (0..count).map(|n| self.free_at(n, refusals).map(|at| at.saturating_sub(now))).collect();
        let free = |n: usize| waits[n] == Some(Duration::ZERO);
        if free(own) {
            return SenderChoice::Sender(own);
        }
        for awake in [true, false] {
            let others: Vec<usize> =
                (0..count).filter(|&n| free(n) && self.0[n].is_healthy() == awake).collect();
            if !others.is_empty() {
                return SenderChoice::Sender(others[share.stand_in(count, others.len())]);
            }
        }
        SenderChoice::NoneAvailable(waits.into_iter().flatten().min())
    }

    /// From when on a sender may get the message, if that is known.
    fn free_at(&self, sender: usize, refusals: &SenderRefusals) -> Option<Duration> {
        let awake_at = match self.0[sender].standing {
            SenderHealth::Healthy => Duration::ZERO,
            SenderHealth::CoolingDown(until) => until,
            SenderHealth::Probing => return None,
        };
        let again_at = match refusals.of(sender) {
            Some(refusal) if !self.was_well_since(refusal) => refusal.at + REST,
            _ => Duration::ZERO,
        };
        Some(awake_at.max(again_at))
    }

    fn was_well_since(&self, refusal: &SenderRefusal) -> bool {
        self.0[refusal.sender].well.is_some_and(|well| well > refusal.at)
    }

    /// True while none is awake, but for those that refused the message.
    pub fn none_available(&self, refusals: &SenderRefusals) -> bool {
        (0..self.0.len()).all(|n| !self.0[n].is_healthy() || refusals.of(n).is_some())
    }

    /// A sender gets a message. True if that message tries whether its rest has helped.
    pub fn assign(&mut self, sender: usize) -> bool {
        let sender = &mut self.0[sender];
        let is_trial = !sender.is_healthy();
        if is_trial {
            sender.standing = SenderHealth::Probing;
        }
        is_trial
    }

    /// Learns from the answer to a message for a recipient, and notes who refused it.
    ///
    /// What was under way when the others were refused says nothing of a sender that rests: that is what the trial is for.
    pub fn record_answer(
        &mut self,
        carried: SenderAssignment,
        to: RecipientInfo<'_>,
        refusals: &mut SenderRefusals,
        now: Duration,
        failure: Option<&SendFailure>,
    ) -> SenderVerdict {
        let SenderAssignment { sender: n, is_trial, began } = carried;
        let word = word(failure);
        if let SenderAnswer::Refused(code) = word
            && self.is_about_recipient(n, code, refusals)
        {
            self.acquit(to.recipient, refusals, now);
            if is_trial {
                self.probe_not_sent(n, now);
            }
            return SenderVerdict::NotTheSender;
        }
        let sender = &mut self.0[n];
        let counts = is_trial || sender.is_healthy();
        match word {
            SenderAnswer::Accepted => {
                if sender.well.is_none_or(|well| well <= began) {
                    (sender.well, sender.well_in) = (Some(began), to.country.map(str::to_owned));
                }
                if is_trial {
                    sender.standing = SenderHealth::Healthy;
                }
                if sender.suspect.as_ref().is_some_and(|suspect| began > suspect.at) {
                    sender.suspect = None;
                    return SenderVerdict::Carries;
                }
            }
            SenderAnswer::Passed if is_trial => sender.standing = SenderHealth::Healthy,
            SenderAnswer::QueueFull if counts => return sender.rest(REST_QUEUE_FULL, now),
            SenderAnswer::Refused(code) => {
                let rests = counts && sender.suspects(to, now);
                let until = rests.then_some(now + REST);
                refusals.add(SenderRefusal { sender: n, code, at: now, rests: until });
                if rests {
                    sender.suspect = None;
                    return sender.rest(REST, now);
                }
                // One recipient's refusal does not make it rest again either: the next one tries.
                if is_trial {
                    self.probe_not_sent(n, now);
                }
            }
            SenderAnswer::Nothing if is_trial => self.probe_not_sent(n, now),
            SenderAnswer::Passed | SenderAnswer::QueueFull | SenderAnswer::Nothing => {}
        }
        SenderVerdict::Nothing
    }

    /// The message that was to try a sender was not sent: the next one tries it.
    pub fn probe_not_sent(&mut self, sender: usize, now: Duration) {
        self.0[sender].standing = SenderHealth::CoolingDown(now);
    }

    /// True if what a sender refuses now was refused alike by another one, or by itself before it carried others.
    fn is_about_recipient(&self, sender: usize, code: Option<u32>, refusals: &SenderRefusals) -> bool {
        let alike = |before: &&SenderRefusal| before.code == code;
        refusals.0.iter().filter(alike).any(|before| before.sender != sender || self.was_well_since(before))
    }

    /// No refusal of this recipient was any sender's fault. A sender that rests for it is tried again.
    fn acquit(&mut self, recipient: Digest16, refusals: &SenderRefusals, now: Duration) {
        for sender in &mut self.0 {
            sender.suspect.take_if(|suspect| suspect.recipient == recipient);
        }
        for refusal in &refusals.0 {
            let standing = &mut self.0[refusal.sender].standing;
            if refusal.rests.is_some_and(|until| *standing == SenderHealth::CoolingDown(until)) {
                *standing = SenderHealth::CoolingDown(now);
            }
        }
    }
}

impl Sender {
    fn is_healthy(&self) -> bool {
        self.standing == SenderHealth::Healthy
    }

    /// Remembers who was refused. True if it is the sender by now that is to blame.
    fn suspects(&mut self, to: RecipientInfo<'_>, now: Duration) -> bool {
        let before = self.suspect.as_ref();
        let count = before.map_or(1, |before| before.refused + u32::from(before.recipient != to.recipient));
        let may_be_the_countrys = before.is_some_and(|before| before.country.as_deref() == to.country)
            && self.well.is_some()
            && self.well_in.as_deref() != to.country;
        let country = to.country.map(str::to_owned);
        self.suspect = Some(Suspect { recipient: to.recipient, country, at: now, refused: count });
        count >= if may_be_the_countrys { REFUSED_ABROAD_MAX } else { REFUSED_MAX }
    }

    fn rest(&mut self, rest: Duration, now: Duration) -> SenderVerdict {
        self.standing = SenderHealth::CoolingDown(now + rest);
        SenderVerdict::Rests(rest)
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

/// What a caller is told of a message whose senders were all refused until it was too late.
pub fn told(code: Option<u32>) -> ErrorCode {
    if code == Some(QUEUE_FULL) { ErrorCode::ProviderUnavailable } else { ErrorCode::ProviderMisconfigured }
}

fn word(failure: Option<&SendFailure>) -> SenderAnswer {
    match failure {
        None => SenderAnswer::Accepted,
        Some(SendFailure::Rejected { scope: Scope::Sender, code: Some(QUEUE_FULL) }) => {
            SenderAnswer::QueueFull
        }
        Some(SendFailure::Rejected { scope: Scope::Sender, code }) => SenderAnswer::Refused(*code),
        // Refused before anybody looked at the sender, or never answered.
        Some(SendFailure::Rejected { scope: Scope::Account, .. }) => SenderAnswer::Nothing,
        Some(
            SendFailure::Throttled { .. }
            | SendFailure::Deferred { .. }
            | SendFailure::Unreachable { .. }
            | SendFailure::InDoubt { .. },
        ) => SenderAnswer::Nothing,
        Some(SendFailure::Rejected { .. }) => SenderAnswer::Passed,
    }
}

#[cfg(test)]
mod tests;
