//! Words for the error numbers of providers, for people: no decision follows from them.
//!
//! The numbers are Twilio's. docs/runbook.md lists them with the same words and an action each.

const TWILIO: [(u32, &str); 61] = [
    (10_001, "account not active"),
    (14_107, "rate of messages exceeded"),
    (20_003, "log-in refused"),
    (20_005, "account not active"),
    (20_006, "access denied"),
    (20_008, "test credentials"),
    (20_404, "no such account or service"),
    (20_429, "too many requests"),
    (21_211, "not a valid number"),
    (21_212, "not a valid sender"),
    (21_217, "not a valid number"),
    (21_265, "recipient is a short code"),
    (21_266, "recipient is the sender itself"),
    (21_267, "sender name not allowed on a trial account"),
    (21_268, "premium or information number"),
    (21_408, "country not switched on"),
    (21_602, "no text"),
    (21_603, "no sender"),
    (21_604, "no recipient"),
    (21_605, "text too long"),
    (21_606, "sender not ours, or sends no texts"),
    (21_608, "number not verified on a trial account"),
    (21_610, "opted out"),
    (21_611, "queue of the sender is full"),
    (21_612, "not reachable from this sender"),
    (21_614, "not a mobile number"),
    (21_617, "text too long"),
    (21_618, "text not accepted"),
    (21_619, "no text or media"),
    (21_635, "landline"),
    (21_659, "sender is no Twilio number"),
    (21_660, "sender of another account"),
    (21_661, "sender sends no texts"),
    (30_001, "queue is full"),
    (30_002, "account suspended"),
    (30_003, "unreachable handset"),
    (30_004, "message blocked"),
    (30_005, "unknown handset"),
    (30_006, "landline or unreachable carrier"),
    (30_007, "filtered by the carrier"),
    (30_008, "unknown error"),
    (30_022, "rate of the registered campaign exceeded"),
    (30_023, "daily limit of the registered brand reached"),
    (30_027, "daily limit of T-Mobile reached"),
    (30_034, "sender not registered"),
    (30_450, "range blocked for pumping"),
    (30_453, "range blocked for fraud"),
    (60_200, "invalid parameter"),
    (60_202, "too many checks"),
    (60_203, "too many sends"),
    (60_204, "feature not enabled for the service"),
    (60_205, "landline"),
    (60_206, "parameter missing"),
    (60_212, "too many requests for this number"),
    (60_217, "invalid settings of the service"),
    (60_220, "China needs a vetted use case"),
    (60_223, "channel disabled in the service"),
    (60_224, "template not accepted"),
    (60_238, "blocked by Twilio"),
    (60_410, "blocked by Fraud Guard"),
    (60_605, "country not switched on"),
];

/// The words for a number that is known.
pub fn words(provider_code: u32) -> Option<&'static str> {
    let place = TWILIO.binary_search_by_key(&provider_code, |(number, _)| *number).ok()?;
    Some(TWILIO[place].1)
}

/// The number, with its words if it is known: `30003: unreachable handset`.
pub fn in_words(provider_code: u32) -> String {
    match words(provider_code) {
        Some(words) => format!("{provider_code}: {words}"),
        None => provider_code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_number_has_words_and_another_is_shown_alone() {
        assert!(TWILIO.is_sorted_by(|(one, _), (next, _)| one < next));
        assert_eq!(in_words(30_003), "30003: unreachable handset");
        assert_eq!(in_words(550), "550");
    }

    #[test]
    fn the_runbook_explains_every_number_in_the_same_words() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        let page = std::fs::read_to_string(path).expect("a file of text");
        let (_, section) = page.split_once("\n## Numbers of Twilio\n").expect("a section on the numbers");
        let (section, _) = section.split_once("\n## ").expect("a next section");
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let &["", number, words, act, ""] = &cells[..] else { return None };
            let number: u32 = number.parse().ok()?;
            assert!(!act.is_empty(), "{line}");
            Some((number, words.to_owned()))
        };
        let on_page: Vec<(u32, String)> = section.lines().filter_map(row).collect();
        assert_eq!(on_page, TWILIO.map(|(number, words)| (number, words.to_owned())));
    }
}
