//! The state that a worker reports of one of its channels, and its packed form.
//!
//! A packed state is a version and then fields: each a tag, a length and bytes. Readers skip tags that they do not know, and a field that
//! is missing has its default, so versions of otpost read each other's states.

use std::time::Duration;

use super::channel::Channel;

const VERSION: u8 = 1;
/// Bytes of a text.
const TEXT_MAX: usize = 64;

const CHANNEL: u8 = 1;
const OTPOST_VERSION: u8 = 2;
const CLOSED_BY: u8 = 3;
const HANDLERS_MAX: u8 = 4;
const IN_FLIGHT: u8 = 5;
const WAITING: u8 = 6;
const ENDED: u8 = 7;
const CAPACITY: u8 = 8;
const DRAINING: u8 = 9;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
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

impl WorkerState {
    pub fn pack(&self) -> Vec<u8> {
        let mut packed = vec![VERSION];
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
        packed
    }

    /// `None` if the state cannot be read.
    pub fn unpack(packed: &[u8]) -> Option<WorkerState> {
        let (version, mut rest) = packed.split_first()?;
        if *version != VERSION {
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
            _ => {}
        }
        Some(())
    }
}

fn add(packed: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let length = u8::try_from(value.len()).expect("a number or a short text");
    packed.extend([tag, length]);
    packed.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }

    #[test]
    fn a_packed_state_reads_back() {
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
        packed[0] = VERSION + 1;
        assert_eq!(WorkerState::unpack(&packed), None, "another form");
    }

    #[test]
    fn a_damaged_state_is_not_read() {
        let whole = state().pack();
        let read: Vec<usize> =
            (0..whole.len()).filter(|length| WorkerState::unpack(&whole[..*length]).is_some()).collect();
        // A state that ends behind a field misses the later ones.
        assert_eq!(read, [1, 8, 15, 24, 30, 36, 42, 48, 54]);
        let mut channel = state().pack();
        channel[3] = b'x';
        assert_eq!(WorkerState::unpack(&channel), None);
    }

    #[test]
    fn a_rate_is_never_beyond_its_range() {
        assert_eq!(Rate::per_second(1e12), Rate(u32::MAX));
        assert_eq!(Rate::per_second(-1.0), Rate(0));
        assert!((Rate::per_second(0.1).as_f64() - 0.1).abs() < 1e-9);
    }
}
