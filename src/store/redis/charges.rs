//! The charges of a request outside the shard of its recipient, made before its admission: `charges.lua`.

use super::pack::{Packer, Unpacker};
use super::places::Place;
use super::shard_state::CountrySuppression;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{EventLog, Limit};
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::time::{UnixMillis, millis};
use std::time::Duration;

/// A charge in a subject log, or a place among all sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) log: EventLog,
    /// Of a place: none.
    pub(super) digest: Digest16,
    /// Of a place: the end of its block.
    pub(super) at: UnixMillis,
}

impl Charge {
    pub(super) fn of_place(place: &Place) -> Charge {
        Charge { log: EventLog::AllSends, digest: Digest16::NONE, at: place.until }
    }

    fn is_same_log(&self, other: &Charge) -> bool {
        (self.log, self.digest) == (other.log, other.digest)
    }

    fn pack(&self, packed: Packer) -> Packer {
        packed.u8(letter(self.log)).digest(&self.digest).u48(self.at.0)
    }

    fn read(words: &mut Unpacker<'_>) -> Option<Charge> {
        Some(Charge { log: log_of(words.u8()?)?, digest: words.digest()?, at: words.time()? })
    }
}

/// A charge in a record, as `layout.lua` describes it.
const ENTRY_BYTES: usize = 23;
/// The letter of a reservation.
const RESERVATION: u8 = b'e';

/// As in the names of the logs.
const LETTERS: [(EventLog, u8); 4] = [
    (EventLog::UserSends, b'u'),
    (EventLog::IpSends, b'i'),
    (EventLog::NetworkSends, b'w'),
    (EventLog::AllSends, b'a'),
];

fn letter(log: EventLog) -> u8 {
    let (_, letter) =
        LETTERS.into_iter().find(|(its, _)| *its == log).expect("the others are the recipient's");
    letter
}

fn log_of(letter: u8) -> Option<EventLog> {
    LETTERS.into_iter().find(|(_, its)| *its == letter).map(|(log, _)| log)
}

/// The answer to a charge.
pub(super) enum ChargeAnswer {
    Made(UnixMillis),
    Refused(Duration),
}

impl ChargeAnswer {
    pub(super) fn read(answer: &[u8]) -> Option<ChargeAnswer> {
        let (letter, rest) = answer.split_first()?;
        let number = Unpacker::new(rest).u48()?;
        match letter {
            b'm' => Some(ChargeAnswer::Made(UnixMillis(number))),
            b'l' => Some(ChargeAnswer::Refused(Duration::from_millis(number))),
            _ => None,
        }
    }
}

/// The charges that an admission brings, as far as the limits allowed them.
#[derive(Default)]
pub(super) struct AdmissionCharges {
    pub(super) in_logs: Vec<Charge>,
    /// The longest of those refused, and its limit.
    pub(super) refusal: Option<(ReachedLimit, Duration)>,
    pub(super) place: Option<Place>,
}

impl AdmissionCharges {
    pub(super) fn refused(&mut self, limit: Limit, wait: Duration) {
        if self.refusal.is_none_or(|(_, longest)| wait > longest) {
            self.refusal = Some((limit.into(), wait));
        }
    }

    /// As `charges.read_outside` reads it.
    pub(super) fn pack(&self, country: Option<CountrySuppression>) -> Vec<u8> {
        let place = self.place.as_ref().map(Charge::of_place);
        let charges = self.in_logs.iter().chain(&place);
        let charges = charges.fold(Packer::new(), |packed, charge| charge.pack(packed)).done();
        Packer::new()
            .u48(country.map_or(0, |country| country.until))
            .u32(country.map_or(0, |country| country.provider_code))
            .u48(self.refusal.map_or(0, |(_, wait)| millis(wait)))
            .u8(self.refusal.map_or(0, |(limit, _)| limit.stored()))
            .long(&charges)
            .done()
    }
}

/// The charges that a record lists.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecordedCharges {
    is_refunded: bool,
    charges: Vec<Charge>,
}

impl RecordedCharges {
    /// Reads them from the beginning of an answer, and returns the rest.
    pub(super) fn split(answer: &[u8]) -> Option<(RecordedCharges, &[u8])> {
        let mut words = Unpacker::new(answer);
        let is_refunded = words.u8()? == 1;
        let charges = read_charges(words.short()?)?;
        Some((RecordedCharges { is_refunded, charges }, words.rest()))
    }

    pub(super) fn lists_place(&self, place: &Place) -> bool {
        self.charges.contains(&Charge::of_place(place))
    }

    pub(super) fn refunded(&self) -> &[Charge] {
        if self.is_refunded { &self.charges } else { &[] }
    }

    /// The charges whose logs do not agree with the record, each with the time that it has there. `None`: not there.
    pub(super) fn corrections(&self, made: &[Charge]) -> Vec<(Charge, Option<UnixMillis>)> {
        let refunded = self.refunded().iter().filter(|charge| charge.log != EventLog::AllSends);
        let mut corrections: Vec<_> = refunded.map(|charge| (*charge, None)).collect();
        for charge in made {
            let recorded = self.charges.iter().find(|recorded| recorded.is_same_log(charge));
            match recorded {
                Some(_) if self.is_refunded => {}
                Some(recorded) if charge.at == recorded.at => {}
                recorded => corrections.push((*charge, recorded.map(|recorded| recorded.at))),
            }
        }
        corrections
    }
}

/// `None` if they cannot be read. A reservation of spend is the book's alone.
pub(super) fn read_charges(packed: &[u8]) -> Option<Vec<Charge>> {
    let (entries, []) = packed.as_chunks::<ENTRY_BYTES>() else { return None };
    let charges = entries.iter().filter(|entry| entry[0] != RESERVATION);
    charges.map(|entry| Charge::read(&mut Unpacker::new(entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(log: EventLog, digest: u8, at: u64) -> Charge {
        Charge { log, digest: Digest16::from_bytes([digest; 16]), at: UnixMillis(at) }
    }

    fn recorded(is_refunded: bool, charges: &[Charge]) -> RecordedCharges {
        let list = charges.iter().fold(Packer::new(), |packed, charge| charge.pack(packed)).done();
        let answer = Packer::new().flag(is_refunded).short(&list).bytes(b"rest").done();
        let (recorded, rest) = RecordedCharges::split(&answer).expect("it is whole");
        assert_eq!((recorded.charges.as_slice(), rest), (charges, b"rest".as_slice()));
        recorded
    }

    #[test]
    fn logs_follow_the_record() {
        use EventLog::{AllSends, IpSends, NetworkSends, UserSends};
        let (user, ip, network) =
            (charge(UserSends, 1, 10), charge(IpSends, 2, 10), charge(NetworkSends, 3, 10));
        let place = charge(AllSends, 0, 99);
        let made = [user, ip, network];
        let stands = recorded(false, &[user, ip, network, place]);
        assert_eq!(stands.corrections(&made), []);
        let refunded = recorded(true, &[user, place]);
        assert_eq!(refunded.corrections(&made), [(user, None), (ip, None), (network, None)]);
        assert_eq!(refunded.refunded(), [user, place]);
        let rejected = recorded(false, &[]);
        assert_eq!(rejected.corrections(&made), [(user, None), (ip, None), (network, None)]);
        let earlier = charge(IpSends, 2, 9);
        let of_other_user = recorded(false, &[charge(UserSends, 7, 10), earlier, network]);
        let expected = [(user, None), (ip, Some(UnixMillis(9)))];
        assert_eq!(of_other_user.corrections(&made), expected, "another user, and an earlier charge");
    }

    #[test]
    fn a_list_of_charges_that_is_cut_off_is_not_read() {
        let packed = charge(EventLog::UserSends, 1, 10).pack(Packer::new()).done();
        assert_eq!(read_charges(&packed[..22]), None);
        assert_eq!(read_charges(&[b'x'; 23]), None);
    }
}
