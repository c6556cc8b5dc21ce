//! The error numbers of providers that are known: words for people, and text for labels. No decision follows from them.
//!
//! The numbers are Twilio's. docs/runbook.md lists them with the same words and an action each.

/// The name of the provider, and the beginning of the names of other accounts at it.
pub const TWILIO_NAME: &str = "twilio";
const VERIFY_NAME: &str = "verify";

/// True if the numbers of a provider of this name are Twilio's.
pub fn are_twilios(provider: &str) -> bool {
    provider == VERIFY_NAME || provider.starts_with(TWILIO_NAME)
}

/// A number of Twilio.
#[derive(Clone, Copy, Debug)]
pub struct KnownCode {
    pub number: u32,
    /// The number as text.
    pub label: &'static str,
    words: &'static str,
}

macro_rules! known_codes {
    ($($number:literal $words:literal)+) => {
        [$(KnownCode { number: $number, label: stringify!($number), words: $words }),+]
    };
}

/// In rising order.
pub const TWILIO: [KnownCode; 61] = known_codes! {
    10001 "account not active"
    14107 "rate of messages exceeded"
    20003 "log-in refused"
    20005 "account not active"
    20006 "access denied"
    20008 "test credentials"
    20404 "no such account or service"
    20429 "too many requests"
    21211 "not a valid number"
    21212 "not a valid sender"
    21217 "not a valid number"
    21265 "recipient is a short code"
    21266 "recipient is the sender itself"
    21267 "sender name not allowed on a trial account"
    21268 "premium or information number"
    21408 "country not switched on"
    21602 "no text"
    21603 "no sender"
    21604 "no recipient"
    21605 "text too long"
    21606 "sender not ours, or sends no texts"
    21608 "number not verified on a trial account"
    21610 "opted out"
    21611 "queue of the sender is full"
    21612 "not reachable from this sender"
    21614 "not a mobile number"
    21617 "text too long"
    21618 "text not accepted"
    21619 "no text or media"
    21635 "landline"
    21659 "sender is no Twilio number"
    21660 "sender of another account"
    21661 "sender sends no texts"
    30001 "queue is full"
    30002 "account suspended"
    30003 "unreachable handset"
    30004 "message blocked"
    30005 "unknown handset"
    30006 "landline or unreachable carrier"
    30007 "filtered by the carrier"
    30008 "unknown error"
    30022 "rate of the registered campaign exceeded"
    30023 "daily limit of the registered brand reached"
    30027 "daily limit of T-Mobile reached"
    30034 "sender not registered"
    30450 "range blocked for pumping"
    30453 "range blocked for fraud"
    60200 "invalid parameter"
    60202 "too many checks"
    60203 "too many sends"
    60204 "feature not enabled for the service"
    60205 "landline"
    60206 "parameter missing"
    60212 "too many requests for this number"
    60217 "invalid settings of the service"
    60220 "China needs a vetted use case"
    60223 "channel disabled in the service"
    60224 "template not accepted"
    60238 "blocked by Twilio"
    60410 "blocked by Fraud Guard"
    60605 "country not switched on"
};

pub fn known(provider_code: u32) -> Option<KnownCode> {
    let place = TWILIO.binary_search_by_key(&provider_code, |known| known.number).ok()?;
    Some(TWILIO[place])
}

/// The words for a number that is known.
pub fn words(provider_code: u32) -> Option<&'static str> {
    known(provider_code).map(|known| known.words)
}

/// The number, with its words if it is a known one of this provider: `30003: unreachable handset`.
pub fn in_words(provider: Option<&str>, provider_code: u32) -> String {
    match words(provider_code).filter(|_| provider.is_some_and(are_twilios)) {
        Some(words) => format!("{provider_code}: {words}"),
        None => provider_code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_number_has_words_and_another_is_shown_alone() {
        assert!(TWILIO.is_sorted_by(|one, next| one.number < next.number));
        for known in TWILIO {
            assert_eq!(known.number.to_string(), known.label);
        }
        for provider in ["twilio", "twiliobr", "verify"] {
            assert_eq!(in_words(Some(provider), 30_003), "30003: unreachable handset");
        }
        assert_eq!(in_words(Some("twilio"), 550), "550");
        assert_eq!([Some("acme"), None].map(|provider| in_words(provider, 30_003)), ["30003", "30003"]);
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
        assert_eq!(on_page, TWILIO.map(|known| (known.number, known.words.to_owned())));
    }
}
