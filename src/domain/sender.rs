//! Which of our senders carries a message, and how long one rests that the provider refused.
//!
//! A recipient always gets the same sender, on every worker and in every version, so that a person's codes arrive in one
//! thread. While that one rests it gets another, the same one for as long as the same ones rest, and after that its own
//! again. Whether a rest has helped is tried with one message, and only that one's answer decides.
//!
//! Numbers: Twilio's error pages. 21611 says that too much waits for the sender already; the others, that it is not ours,
//! cannot send texts, or is not registered with the carriers.

use std::time::Duration;

use super::outcome::{ErrorCode, Scope, SendFailure};

const QUEUE_FULL: u32 = 21611;
/// What waits for a sender goes out at one message a second at worst: soon there is room again.
const REST_QUEUE_FULL: Duration = Duration::from_secs(30);
/// Whatever else is wrong with a sender, somebody has to mend it; until then it costs one refusal in this time.
const REST: Duration = Duration::from_secs(300);

/// A recipient where senders are shared out: FNV-1a, 64 bits, of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// That of an address.
    pub fn of(address: &str) -> Share {
        Share(address.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
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
pub struct Senders(Vec<Standing>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Awake,
    /// Until then. After that one message may try it.
    Rests(Duration),
    /// That message is under way.
    Tried,
}

/// Who carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Sender(usize),
    /// Nobody yet. One may after this long, if that is known.
    Nobody(Option<Duration>),
}

/// What an answer says of the sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Good,
    Refused(Duration),
    Nothing,
}

impl Senders {
    /// So many, at least one, all awake.
    pub fn new(count: usize) -> Senders {
        Senders(vec![Standing::Awake; count.max(1)])
    }

    /// Who carries a message to a recipient now.
    pub fn choose(&self, share: Share, now: Duration) -> Choice {
        let count = self.0.len();
        let own = share.own(count);
        let rested = |standing: &Standing| matches!(standing, Standing::Rests(until) if *until <= now);
        let awake = |standing: &Standing| *standing == Standing::Awake;
        if awake(&self.0[own]) || rested(&self.0[own]) {
            return Choice::Sender(own);
        }
        let all = |is: &dyn Fn(&Standing) -> bool| -> Vec<usize> {
            (0..count).filter(|&n| is(&self.0[n])).collect()
        };
        for others in [all(&awake), all(&rested)] {
            if !others.is_empty() {
                return Choice::Sender(others[share.stand_in(count, others.len())]);
            }
        }
        let rests = self.0.iter().filter_map(|standing| match standing {
            Standing::Rests(until) => Some(until.saturating_sub(now)),
            Standing::Awake | Standing::Tried => None,
        });
        Choice::Nobody(rests.min())
    }

    /// True while none is awake.
    pub fn all_rest(&self) -> bool {
        !self.0.contains(&Standing::Awake)
    }

    /// A sender gets a message. True if that message tries whether its rest has helped.
    pub fn take(&mut self, sender: usize) -> bool {
        let is_trial = self.0[sender] != Standing::Awake;
        if is_trial {
            self.0[sender] = Standing::Tried;
        }
        is_trial
    }

    /// Learns from the answer to a message of a sender. Says for how long it rests now, if it begins to.
    ///
    /// What was under way when the others were refused says nothing of a sender that rests: that is what the trial is for.
    pub fn learn(
        &mut self,
        sender: usize,
        is_trial: bool,
        now: Duration,
        failure: Option<&SendFailure>,
    ) -> Option<Duration> {
        let standing = &mut self.0[sender];
        match (word(failure), is_trial) {
            (Word::Refused(rest), _) if is_trial || *standing == Standing::Awake => {
                *standing = Standing::Rests(now + rest);
                return Some(rest);
            }
            (Word::Good, true) => *standing = Standing::Awake,
            (Word::Nothing, true) => *standing = Standing::Rests(now),
            (Word::Refused(_), _) | (Word::Good | Word::Nothing, false) => {}
        }
        None
    }

    /// The message that was to try a sender was not sent: the next one tries it.
    pub fn untried(&mut self, sender: usize, now: Duration) {
        self.0[sender] = Standing::Rests(now);
    }
}

/// What a caller is told of a message whose senders were all refused until it was too late.
pub fn told(code: Option<u32>) -> ErrorCode {
    if code == Some(QUEUE_FULL) { ErrorCode::ProviderUnavailable } else { ErrorCode::ProviderMisconfigured }
}

fn word(failure: Option<&SendFailure>) -> Word {
    match failure {
        Some(SendFailure::Rejected { scope: Scope::Sender, code: Some(QUEUE_FULL) }) => {
            Word::Refused(REST_QUEUE_FULL)
        }
        Some(SendFailure::Rejected { scope: Scope::Sender, .. }) => Word::Refused(REST),
        // Refused before anybody looked at the sender, or never answered.
        Some(SendFailure::Rejected { scope: Scope::Account, .. }) => Word::Nothing,
        Some(
            SendFailure::Throttled { .. } | SendFailure::Unreachable { .. } | SendFailure::InDoubt { .. },
        ) => Word::Nothing,
        Some(SendFailure::Rejected { .. }) | None => Word::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn refused(code: u32) -> SendFailure {
        SendFailure::Rejected { code: Some(code), scope: Scope::Sender }
    }

    fn number(n: u32) -> Share {
        Share::of(&format!("+57300123{n:04}"))
    }

    /// Lets a sender be refused by a message to it.
    fn refuse(senders: &mut Senders, sender: usize, now: Duration, code: u32) -> Option<Duration> {
        let is_trial = senders.take(sender);
        senders.learn(sender, is_trial, now, Some(&refused(code)))
    }

    #[test]
    fn senders_are_shared_out_evenly_and_for_good() {
        let (senders, mut counts) = (Senders::new(3), [0_u32; 3]);
        for n in 0..3_000 {
            let Choice::Sender(sender) = senders.choose(number(n), NOW) else { panic!("all are awake") };
            counts[sender] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
        // As it was in every version before.
        assert_eq!(Share::of("+573001234567"), Share(0xacda_5a7f_04ff_16ad));
    }

    #[test]
    fn while_a_sender_rests_its_recipients_are_spread_over_the_others_and_come_back() {
        let mut senders = Senders::new(4);
        let before: Vec<Choice> = (0..2_000).map(|n| senders.choose(number(n), NOW)).collect();
        assert_eq!(refuse(&mut senders, 2, NOW, 21_606), Some(REST));
        let mut counts = [0_u32; 4];
        for (n, own) in (0..).zip(&before) {
            let now = senders.choose(number(n), NOW);
            assert_eq!(now, senders.choose(number(n), NOW + REST / 2), "the same one all the time");
            match (own, now) {
                (Choice::Sender(2), Choice::Sender(other)) => counts[other] += 1,
                _ => assert_eq!(now, *own, "the others keep theirs"),
            }
        }
        assert_eq!(counts[2], 0);
        assert!([0, 1, 3].iter().all(|&n| counts[n] > 100), "{counts:?}");
        let is_trial = senders.take(2);
        senders.learn(2, is_trial, NOW + REST, None);
        let after: Vec<Choice> = (0..2_000).map(|n| senders.choose(number(n), NOW + REST)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn a_full_queue_is_a_short_rest_and_anything_else_a_long_one() {
        for (code, rest) in [(21_611, 30), (21_212, 300), (21_603, 300), (21_606, 300), (30_034, 300)] {
            let mut senders = Senders::new(1);
            assert_eq!(refuse(&mut senders, 0, NOW, code), Some(Duration::from_secs(rest)), "{code}");
            assert_eq!(senders.choose(number(1), NOW), Choice::Nobody(Some(Duration::from_secs(rest))));
        }
    }

    #[test]
    fn after_its_rest_one_message_tries_a_sender() {
        let mut senders = Senders::new(1);
        refuse(&mut senders, 0, NOW, 21_606);
        let then = NOW + REST;
        for (failure, free) in [
            (Some(refused(21_606)), Choice::Nobody(Some(REST))),
            (Some(SendFailure::Unreachable { detail: String::new() }), Choice::Sender(0)),
            (Some(SendFailure::Rejected { code: Some(21_211), scope: Scope::Recipient }), Choice::Sender(0)),
        ] {
            senders.0[0] = Standing::Rests(then);
            assert_eq!(senders.choose(number(1), then), Choice::Sender(0));
            assert!(senders.take(0));
            assert_eq!(
                senders.choose(number(2), then),
                Choice::Nobody(None),
                "the others wait for its answer"
            );
            senders.learn(0, true, then, failure.as_ref());
            assert_eq!(senders.choose(number(2), then), free, "{failure:?}");
        }
        assert!(!senders.all_rest());
    }

    #[test]
    fn what_was_under_way_neither_wakes_a_sender_nor_makes_it_rest_longer() {
        let mut senders = Senders::new(2);
        refuse(&mut senders, 0, NOW, 21_606);
        assert_eq!(senders.learn(0, false, NOW + REST / 2, Some(&refused(21_606))), None);
        assert_eq!(senders.learn(0, false, NOW + REST / 2, None), None);
        assert_eq!(senders.0[0], Standing::Rests(NOW + REST));
    }

    #[test]
    fn a_trial_that_is_not_made_is_the_next_ones() {
        let mut senders = Senders::new(1);
        refuse(&mut senders, 0, NOW, 21_611);
        senders.take(0);
        senders.untried(0, NOW + REST);
        assert_eq!(senders.choose(number(1), NOW + REST), Choice::Sender(0));
    }
}
