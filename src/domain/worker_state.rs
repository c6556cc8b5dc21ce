//! The state that a worker reports of one of its channels, and its packed form.
//!
//! A packed state is a version and then fields: each a tag, a length and bytes. Readers skip tags that they do not know, and a field that
//! is missing has its default, so versions of otpost read each other's states.

use std::time::Duration;

use super::channel::Channel;
use super::circuit_breaker::{BreakerState, Cause};
use super::key_check::KeyCheck;
use super::limit_hits::LimitHits;
use super::routes::PROVIDERS_MAX;
use super::time::millis;
use super::traffic::{DurationCounts, OutcomeCounts, Traffic};

const VERSION: u8 = 1;
/// Of a process without a worker. Versions that know only workers leave it out.
const VERSION_WITHOUT_WORKER: u8 = 2;
/// Bytes of a text.
const TEXT_MAX: usize = 64;
/// Bytes of a provider's name.
const NAME_MAX: usize = 16;
const BREAKER_BYTES: usize = 6;
/// Keys in a state, so that it stays below 1 KiB, or 1,280 bytes with the most providers.
pub const KEYS_MAX: usize = 16;

const CHANNEL: u8 = 1;
const OTPOST_VERSION: u8 = 2;
const CLOSED_BY: u8 = 3;
const HANDLERS_MAX: u8 = 4;
const IN_FLIGHT: u8 = 5;
const WAITING: u8 = 6;
const ENDED: u8 = 7;
const CAPACITY: u8 = 8;
const DRAINING: u8 = 9;
const ROLE: u8 = 10;
const BREAKER: u8 = 11;
const SENDERS: u8 = 12;
const SENDERS_SUSPENDED: u8 = 13;
const CONCURRENCY_LIMIT: u8 = 14;
const CONCURRENCY_IN_USE: u8 = 15;
const OLDEST_TAKEN: u8 = 16;
const LIMIT_HITS: u8 = 17;
const KEY: u8 = 18;
const UPTIME: u8 = 19;
/// One for each provider, where there are several.
const PROVIDER: u8 = 20;
const ENDED_RECENTLY: u8 = 60;
const HANDLED_WITHIN: u8 = 61;
const PROVIDER_WITHIN: u8 = 62;

/// The kind of process that reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessRole {
    #[default]
    Worker,
    Serve,
    Dev,
    /// It has no worker: of the state only the version, the limits that it found reached, and the keys mean something.
    Http,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
    pub role: ProcessRole,
    pub channel: Channel,
    /// The version of otpost.
    pub version: String,
    /// The reason for which the send gate is closed; `None`: it is open.
    pub closed_by: Option<String>,
    pub handlers_max: u32,
    /// Handlers that hold a slot.
    pub in_flight: u32,
    /// Those of them that wait for the send gate or for their next attempt.
    pub waiting: u32,
    /// Handlers that ended lately.
    pub ended: Rate,
    /// The rate at which all slots, busy without such waits, would end deliveries; `None` before the first.
    pub capacity: Option<Rate>,
    /// The worker consumes nothing more.
    pub draining: bool,
    /// Of the provider; of several, the best one. Senders and messages in flight are those of all.
    pub breaker: BreakerState,
    /// The provider's number that opened the circuit breaker, if there was one.
    pub breaker_code: Option<u32>,
    pub senders: u32,
    /// Senders that cool down.
    pub senders_suspended: u32,
    pub concurrency_limit: u32,
    pub concurrency_in_use: u32,
    /// Each of several; empty if there is only one.
    pub providers: Vec<ProviderState>,
    /// The longest time that a request taken up in the last minute had waited.
    pub oldest_taken: Option<Duration>,
    /// Of the last hour.
    pub limit_hits: LimitHits,
    pub keys: Vec<KeyCheck>,
    /// Since the start of the process.
    pub uptime: Duration,
    pub traffic: Traffic,
}

/// One of the several providers of a channel, as a worker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderState {
    pub name: String,
    pub breaker: BreakerState,
    pub breaker_code: Option<u32>,
    pub senders: u32,
    pub senders_suspended: u32,
    pub concurrency_limit: u32,
    pub concurrency_in_use: u32,
}

/// A state as others read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedWorker {
    /// Each channel of a worker has one of its own.
    pub worker_id: u64,
    /// Since the report, by the store's clock.
    pub silent_for: Duration,
    pub state: WorkerState,
}

/// Deliveries a second, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u32);

impl Rate {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    pub fn per_second(rate: f64) -> Rate {
        Rate((rate * 1_000.0).round() as u32)
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl ProcessRole {
    const ALL: [ProcessRole; 4] =
        [ProcessRole::Worker, ProcessRole::Serve, ProcessRole::Dev, ProcessRole::Http];

    pub const fn as_str(self) -> &'static str {
        match self {
            ProcessRole::Worker => "worker",
            ProcessRole::Serve => "serve",
            ProcessRole::Dev => "dev",
            ProcessRole::Http => "http",
        }
    }
}

impl WorkerState {
    pub fn has_worker(&self) -> bool {
        self.role != ProcessRole::Http
    }

    pub fn pack(&self) -> Vec<u8> {
        let mut packed = vec![if self.has_worker() { VERSION } else { VERSION_WITHOUT_WORKER }];
        let mut text = |tag, text: &str| add(&mut packed, tag, &text.as_bytes()[..text.len().min(TEXT_MAX)]);
        text(CHANNEL, self.channel.as_str());
        text(OTPOST_VERSION, &self.version);
        if let Some(cause) = &self.closed_by {
            text(CLOSED_BY, cause);
        }
        let mut number = |tag, number: u32| add(&mut packed, tag, &number.to_be_bytes());
        number(HANDLERS_MAX, self.handlers_max);
        number(IN_FLIGHT, self.in_flight);
        number(WAITING, self.waiting);
        number(ENDED, self.ended.0);
        if let Some(capacity) = self.capacity {
            number(CAPACITY, capacity.0);
        }
        if self.draining {
            add(&mut packed, DRAINING, &[]);
        }
        self.pack_details(&mut packed);
        packed
    }

    fn pack_details(&self, packed: &mut Vec<u8>) {
        add(packed, ROLE, self.role.as_str().as_bytes());
        if self.breaker != BreakerState::Closed {
            add(packed, BREAKER, &pack_breaker(self.breaker, self.breaker_code));
        }
        for provider in self.providers.iter().take(PROVIDERS_MAX) {
            add(packed, PROVIDER, &provider.pack());
        }
        let mut number = |tag, number: u32| {
            if number > 0 {
                add(packed, tag, &number.to_be_bytes());
            }
        };
        number(SENDERS, self.senders);
        number(SENDERS_SUSPENDED, self.senders_suspended);
        number(CONCURRENCY_LIMIT, self.concurrency_limit);
        number(CONCURRENCY_IN_USE, self.concurrency_in_use);
        number(UPTIME, u32::try_from(self.uptime.as_secs()).unwrap_or(u32::MAX));
        if let Some(oldest) = self.oldest_taken {
            add(packed, OLDEST_TAKEN, &u32::try_from(millis(oldest)).unwrap_or(u32::MAX).to_be_bytes());
        }
        if !self.limit_hits.is_empty() {
            add(packed, LIMIT_HITS, &self.limit_hits.pack());
        }
        for key in self.keys.iter().take(KEYS_MAX) {
            add(packed, KEY, &key.pack());
        }
        self.pack_traffic(packed);
    }

    fn pack_traffic(&self, packed: &mut Vec<u8>) {
        let Traffic { ended, handled, provider } = &self.traffic;
        if !ended.is_empty() {
            add(packed, ENDED_RECENTLY, &ended.pack());
        }
        for (tag, durations) in [(HANDLED_WITHIN, handled), (PROVIDER_WITHIN, provider)] {
            if durations.total() > 0 {
                add(packed, tag, &durations.pack());
            }
        }
    }

    /// `None` if the state cannot be read.
    pub fn unpack(packed: &[u8]) -> Option<WorkerState> {
        let (version, mut rest) = packed.split_first()?;
        if ![VERSION, VERSION_WITHOUT_WORKER].contains(version) {
            return None;
        }
        let mut state = WorkerState::default();
        while let [tag, length, more @ ..] = rest {
            let (value, after) = more.split_at_checked(usize::from(*length))?;
            state.set(*tag, value)?;
            rest = after;
        }
        rest.is_empty().then_some(state)
    }

    fn set(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok();
        let number = || Some(u32::from_be_bytes(value.try_into().ok()?));
        match tag {
            CHANNEL => self.channel = Channel::parse(text()?)?,
            OTPOST_VERSION => text()?.clone_into(&mut self.version),
            CLOSED_BY => self.closed_by = Some(text()?.to_owned()),
            HANDLERS_MAX => self.handlers_max = number()?,
            IN_FLIGHT => self.in_flight = number()?,
            WAITING => self.waiting = number()?,
            ENDED => self.ended = Rate(number()?),
            CAPACITY => self.capacity = Some(Rate(number()?)),
            DRAINING => self.draining = true,
            // Of a word that only later versions know, the default stays.
            ROLE => {
                self.role = ProcessRole::ALL
                    .into_iter()
                    .find(|role| Some(role.as_str()) == text())
                    .unwrap_or_default()
            }
            BREAKER => (self.breaker, self.breaker_code) = unpack_breaker(value)?,
            PROVIDER => self.providers.extend(ProviderState::unpack(value)),
            SENDERS => self.senders = number()?,
            SENDERS_SUSPENDED => self.senders_suspended = number()?,
            CONCURRENCY_LIMIT => self.concurrency_limit = number()?,
            CONCURRENCY_IN_USE => self.concurrency_in_use = number()?,
            OLDEST_TAKEN => self.oldest_taken = Some(Duration::from_millis(number()?.into())),
            LIMIT_HITS => self.limit_hits = LimitHits::unpack(value),
            KEY => self.keys.extend(KeyCheck::unpack(value)),
            UPTIME => self.uptime = Duration::from_secs(number()?.into()),
            ENDED_RECENTLY => self.traffic.ended = OutcomeCounts::unpack(value),
            // Of a version with other buckets the durations are left out.
            HANDLED_WITHIN => self.traffic.handled = DurationCounts::unpack(value).unwrap_or_default(),
            PROVIDER_WITHIN => self.traffic.provider = DurationCounts::unpack(value).unwrap_or_default(),
            _ => {}
        }
        Some(())
    }
}

impl ProviderState {
    /// The numbers, and the name behind them.
    fn pack(&self) -> Vec<u8> {
        let mut packed = pack_breaker(self.breaker, self.breaker_code);
        let counts = [self.senders, self.senders_suspended, self.concurrency_limit, self.concurrency_in_use];
        for count in counts {
            packed.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        }
        packed.extend(&self.name.as_bytes()[..self.name.len().min(NAME_MAX)]);
        packed
    }

    /// `None` if it cannot be read.
    fn unpack(packed: &[u8]) -> Option<ProviderState> {
        let (breaker, rest) = packed.split_at_checked(BREAKER_BYTES)?;
        let (counts, name) = rest.split_at_checked(8)?;
        let count = |place: usize| u32::from(u16::from_be_bytes([counts[2 * place], counts[2 * place + 1]]));
        let (breaker, breaker_code) = unpack_breaker(breaker)?;
        Some(ProviderState {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            breaker,
            breaker_code,
            senders: count(0),
            senders_suspended: count(1),
            concurrency_limit: count(2),
            concurrency_in_use: count(3),
        })
    }
}

fn pack_breaker(breaker: BreakerState, code: Option<u32>) -> Vec<u8> {
    let (state, cause) = match breaker {
        BreakerState::Closed => (0, None),
        BreakerState::Open(cause) => (1, Some(cause)),
        BreakerState::HalfOpen(cause) => (2, Some(cause)),
    };
    let mut packed = vec![state, u8::from(cause == Some(Cause::Account))];
    packed.extend(code.unwrap_or(0).to_be_bytes());
    packed
}

fn unpack_breaker(packed: &[u8]) -> Option<(BreakerState, Option<u32>)> {
    let (state, code) = packed.split_at_checked(2)?;
    let cause = if state[1] == 1 { Cause::Account } else { Cause::Failures };
    let breaker = match state[0] {
        1 => BreakerState::Open(cause),
        2 => BreakerState::HalfOpen(cause),
        _ => BreakerState::Closed,
    };
    let code = u32::from_be_bytes(code.try_into().ok()?);
    Some((breaker, (code > 0).then_some(code)))
}

fn add(packed: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let length = u8::try_from(value.len()).expect("a number or a short text");
    packed.extend([tag, length]);
    packed.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key_check::{KeyFingerprint, KeyUse};
    use crate::domain::outcome::{ErrorCode, Status};
    use crate::domain::reached_limit::ReachedLimit;

    fn state() -> WorkerState {
        WorkerState {
            channel: Channel::Email,
            version: "1.2.3".to_owned(),
            closed_by: Some("breaker".to_owned()),
            handlers_max: 64,
            in_flight: 7,
            waiting: 3,
            ended: Rate::per_second(12.5),
            capacity: Some(Rate::per_second(320.0)),
            draining: true,
            role: ProcessRole::Serve,
            breaker: BreakerState::HalfOpen(Cause::Account),
            breaker_code: Some(20_003),
            senders: 3,
            senders_suspended: 1,
            concurrency_limit: 16,
            concurrency_in_use: 5,
            providers: Vec::new(),
            oldest_taken: Some(Duration::from_millis(1_500)),
            limit_hits: LimitHits::of(&[(ReachedLimit::Cooldown, 7), (ReachedLimit::All, 2)]),
            keys: vec![check("k2"), check("")],
            uptime: Duration::from_secs(90),
            traffic: traffic(),
        }
    }

    fn traffic() -> Traffic {
        let second = Duration::from_secs(1);
        Traffic {
            ended: OutcomeCounts::of(&[
                (Status::Sent, None, 9),
                (Status::Failed, Some(ErrorCode::ProviderRejected), 1),
            ]),
            handled: DurationCounts::of(&[second; 10]),
            provider: DurationCounts::of(&[second / 4; 10]),
        }
    }

    fn check(kid: &str) -> KeyCheck {
        let key_use = if kid.is_empty() { KeyUse::Recipient } else { KeyUse::Code };
        KeyCheck { key_use, kid: kid.to_owned(), fingerprint: KeyFingerprint([7; 8]) }
    }

    fn provider(name: &str) -> ProviderState {
        ProviderState {
            name: name.to_owned(),
            breaker: BreakerState::Open(Cause::Failures),
            breaker_code: Some(30_001),
            senders: 2,
            senders_suspended: 1,
            concurrency_limit: 40,
            concurrency_in_use: 7,
        }
    }

    #[test]
    fn a_packed_state_reads_back() {
        let several = WorkerState {
            providers: vec![
                provider("twilio"),
                ProviderState { name: "infobip".to_owned(), ..Default::default() },
            ],
            ..state()
        };
        assert_eq!(WorkerState::unpack(&several.pack()), Some(several));
        let small = WorkerState { handlers_max: 1, ..WorkerState::default() };
        for state in [state(), small] {
            assert_eq!(WorkerState::unpack(&state.pack()), Some(state));
        }
    }

    #[test]
    fn a_state_of_a_later_version_reads_but_for_its_new_fields() {
        let mut packed = state().pack();
        packed.extend([200, 2, 1, 1]);
        assert_eq!(WorkerState::unpack(&packed), Some(state()));
        packed[0] = VERSION_WITHOUT_WORKER + 1;
        assert_eq!(WorkerState::unpack(&packed), None, "another form");
    }

    #[test]
    fn a_damaged_state_is_not_read() {
        let whole = state().pack();
        let read: Vec<usize> =
            (0..whole.len()).filter(|length| WorkerState::unpack(&whole[..*length]).is_some()).collect();
        // A state that ends behind a field misses the later ones.
        let ends =
            [1, 8, 15, 24, 30, 36, 42, 48, 54, 56, 63, 71, 77, 83, 89, 95, 101, 107, 153, 166, 177, 191, 245];
        assert_eq!(read, ends);
        let mut channel = state().pack();
        channel[3] = b'x';
        assert_eq!(WorkerState::unpack(&channel), None);
    }

    fn every_outcome() -> OutcomeCounts {
        let mut outcomes = OutcomeCounts::default();
        for status in Status::ALL {
            ErrorCode::ALL.iter().for_each(|code| outcomes.count(status, Some(*code)));
        }
        outcomes
    }

    #[test]
    fn a_state_has_at_most_1280_bytes_and_1024_with_one_provider() {
        let longest = "x".repeat(2 * TEXT_MAX);
        let largest = WorkerState {
            version: longest.clone(),
            closed_by: Some(longest),
            limit_hits: LimitHits::of(&ReachedLimit::ALL.map(|limit| (limit, u32::MAX))),
            keys: vec![check("sixteen-letters-"); 3 * KEYS_MAX],
            providers: vec![provider("sixteenletterssx"); PROVIDERS_MAX + 1],
            traffic: Traffic { ended: every_outcome(), ..traffic() },
            ..state()
        };
        let packed = largest.pack();
        assert!(packed.len() <= 1_280, "{}", packed.len());
        let of_one = WorkerState { providers: Vec::new(), ..largest }.pack();
        assert!(of_one.len() <= 1_024, "{}", of_one.len());
        assert_eq!(WorkerState::unpack(&packed).map(|state| state.keys.len()), Some(KEYS_MAX));
    }

    #[test]
    fn a_version_that_knows_only_workers_leaves_the_state_of_another_process_out() {
        let http = WorkerState { role: ProcessRole::Http, ..WorkerState::default() };
        assert_eq!(http.pack()[0], VERSION_WITHOUT_WORKER);
        assert_eq!(WorkerState::unpack(&http.pack()), Some(http));
        assert_eq!(state().pack()[0], VERSION);
    }

    #[test]
    fn a_rate_is_never_beyond_its_range() {
        assert_eq!(Rate::per_second(1e12), Rate(u32::MAX));
        assert_eq!(Rate::per_second(-1.0), Rate(0));
        assert!((Rate::per_second(0.1).as_f64() - 0.1).abs() < 1e-9);
    }
}
