//! The numbers of providers that have a label of their own.

const OTHER: &str = "other";
const NONE: &str = "none";

/// Twilio's numbers of refusals, and those of receipts.
const TWILIO: [(u32, &str); 61] = [
    (10001, "10001"),
    (14107, "14107"),
    (20003, "20003"),
    (20005, "20005"),
    (20006, "20006"),
    (20008, "20008"),
    (20404, "20404"),
    (20429, "20429"),
    (21211, "21211"),
    (21212, "21212"),
    (21217, "21217"),
    (21265, "21265"),
    (21266, "21266"),
    (21267, "21267"),
    (21268, "21268"),
    (21408, "21408"),
    (21602, "21602"),
    (21603, "21603"),
    (21604, "21604"),
    (21605, "21605"),
    (21606, "21606"),
    (21608, "21608"),
    (21610, "21610"),
    (21611, "21611"),
    (21612, "21612"),
    (21614, "21614"),
    (21617, "21617"),
    (21618, "21618"),
    (21619, "21619"),
    (21635, "21635"),
    (21659, "21659"),
    (21660, "21660"),
    (21661, "21661"),
    (30001, "30001"),
    (30002, "30002"),
    (30003, "30003"),
    (30004, "30004"),
    (30005, "30005"),
    (30006, "30006"),
    (30007, "30007"),
    (30008, "30008"),
    (30022, "30022"),
    (30023, "30023"),
    (30027, "30027"),
    (30034, "30034"),
    (30450, "30450"),
    (30453, "30453"),
    (60200, "60200"),
    (60202, "60202"),
    (60203, "60203"),
    (60204, "60204"),
    (60205, "60205"),
    (60206, "60206"),
    (60212, "60212"),
    (60217, "60217"),
    (60220, "60220"),
    (60223, "60223"),
    (60224, "60224"),
    (60238, "60238"),
    (60410, "60410"),
    (60605, "60605"),
];

/// `other` for a number that is not known, `none` without one.
pub(in crate::telemetry) fn code_label(provider_code: Option<u32>) -> &'static str {
    let Some(code) = provider_code else { return NONE };
    TWILIO.binary_search_by_key(&code, |(known, _)| *known).map_or(OTHER, |place| TWILIO[place].1)
}

pub fn is_known(provider_code: u32) -> bool {
    code_label(Some(provider_code)) != OTHER
}

/// The labels of a provider. Only Twilio's numbers are known, those of its Verify among them.
pub(in crate::telemetry) fn codes_of(provider: &str) -> impl Iterator<Item = &'static str> {
    let numbers = if matches!(provider, "twilio" | "verify") { &TWILIO[..] } else { &[] };
    numbers.iter().map(|(_, label)| *label).chain([OTHER, NONE])
}

/// Only the numbers of carriers and of opt-outs are known in receipts.
const fn is_of_receipts(code: u32) -> bool {
    matches!(code, 21610 | 30000..=30999)
}

pub(in crate::telemetry) fn receipt_code_label(code: u32) -> &'static str {
    if is_of_receipts(code) { code_label(Some(code)) } else { OTHER }
}

pub(in crate::telemetry) fn codes_of_receipts() -> impl Iterator<Item = &'static str> {
    TWILIO.iter().filter(|(code, _)| is_of_receipts(*code)).map(|(_, label)| *label).chain([OTHER])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_number_is_its_own_label_and_others_share_one() {
        assert!(TWILIO.is_sorted_by(|(one, _), (next, _)| one < next));
        for (number, label) in TWILIO {
            assert_eq!((number.to_string().as_str(), code_label(Some(number))), (label, label));
        }
        assert_eq!([None, Some(550), Some(99_999)].map(code_label), [NONE, OTHER, OTHER]);
        assert_eq!([30_003, 30_999, 21_211].map(receipt_code_label), ["30003", OTHER, OTHER]);
    }
}
