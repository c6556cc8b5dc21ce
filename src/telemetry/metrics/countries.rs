//! Countries as a label: the first ones that this process meets, and `other`.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU16, Ordering};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::domain::phone::Region;

/// Countries with a series of their own.
pub(super) const COUNTRIES_MAX: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::telemetry) enum Country {
    /// The number could not be read or is of no country, or the request was refused before the number mattered.
    Unknown,
    /// ISO 3166-1 alpha-2.
    Code([u8; 2]),
    Other,
}

impl EncodeLabelValue for Country {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Country::Unknown => "unknown",
            Country::Code(letters) => str::from_utf8(letters).map_err(|_| fmt::Error)?,
            Country::Other => "other",
        })
    }
}

/// The codes met so far; 0 is free.
struct Met([AtomicU16; COUNTRIES_MAX]);

impl Met {
    const fn new() -> Met {
        Met([const { AtomicU16::new(0) }; COUNTRIES_MAX])
    }

    fn label(&self, letters: [u8; 2]) -> Country {
        let code = u16::from_be_bytes(letters);
        let is_its = |place: &AtomicU16| {
            let taken = place.load(Ordering::Relaxed);
            taken == code
                || taken == 0
                    && match place.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => true,
                        Err(other) => other == code,
                    }
        };
        if self.0.iter().any(is_its) { Country::Code(letters) } else { Country::Other }
    }
}

pub(in crate::telemetry) fn country_label(region: Option<Region>) -> Country {
    static MET: Met = Met::new();
    region.map_or(Country::Unknown, |region| MET.label(region.letters()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_countries_have_series_of_their_own_and_later_ones_share_one() {
        let (met, letters) = (Met::new(), |n: usize| {
            [b'A' + u8::try_from(n / 26).unwrap(), b'A' + u8::try_from(n % 26).unwrap()]
        });
        for n in 0..COUNTRIES_MAX {
            assert_eq!(met.label(letters(n)), Country::Code(letters(n)));
        }
        assert_eq!(met.label(letters(COUNTRIES_MAX)), Country::Other);
        assert_eq!(met.label(letters(0)), Country::Code(letters(0)), "it keeps its series");
    }
}
