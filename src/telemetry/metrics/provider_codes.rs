//! The numbers of providers that have a label of their own.

use crate::domain::provider_code::{TWILIO, are_twilios, known};

const OTHER: &str = "other";
const NONE: &str = "none";

/// `other` for a number that is not known, `none` without one. Only Twilio's numbers are known.
pub(in crate::telemetry) fn code_label(provider: &str, provider_code: Option<u32>) -> &'static str {
    let Some(code) = provider_code else { return NONE };
    known(code).filter(|_| are_twilios(provider)).map_or(OTHER, |known| known.label)
}

/// The labels of a provider from the start. Only Twilio's numbers are known, those of its Verify among them; those of further
/// accounts at Twilio appear with their first refusal, so that the series stay few.
pub(in crate::telemetry) fn codes_of(provider: &str) -> impl Iterator<Item = &'static str> {
    let numbers = if matches!(provider, "twilio" | "verify") { &TWILIO[..] } else { &[] };
    numbers.iter().map(|known| known.label).chain([OTHER, NONE])
}

/// Only the numbers of carriers and of opt-outs are known in receipts.
const fn is_of_receipts(code: u32) -> bool {
    matches!(code, 21610 | 30000..=30999)
}

pub(in crate::telemetry) fn receipt_code_label(code: u32) -> &'static str {
    known(code).filter(|_| is_of_receipts(code)).map_or(OTHER, |known| known.label)
}

pub(in crate::telemetry) fn codes_of_receipts() -> impl Iterator<Item = &'static str> {
    TWILIO.iter().filter(|known| is_of_receipts(known.number)).map(|known| known.label).chain([OTHER])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_number_is_its_own_label_and_others_share_one() {
        assert_eq!(code_label("twiliobr", Some(21_211)), "21211");
        assert_eq!(code_label("acme", Some(21_211)), OTHER);
        let label = |code| code_label("twilio", code);
        assert_eq!([None, Some(550), Some(99_999)].map(label), [NONE, OTHER, OTHER]);
        assert_eq!([30_003, 30_999, 21_211].map(receipt_code_label), ["30003", OTHER, OTHER]);
    }
}
