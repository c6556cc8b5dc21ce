//! The scopes that are held now, and the overrides of operators: together they decide on a request.

use std::time::Duration;

use super::defence::{DefenceRule, Scope, UnverifiedRecord};
use super::keyed_digest::Digest16;
use super::time::UnixMillis;

pub const OVERRIDES_MAX: usize = 200;
pub const OVERRIDE_TIME_MAX: Duration = Duration::from_secs(90 * 86_400);
pub const OVERRIDE_TIME_RULE: &str =
    "must be a number of minutes (30m), hours (12h) or days (7d), from 1m to 90d";
/// A number that was verified within it is exempt.
pub const VERIFIED_FOR: Duration = Duration::from_secs(90 * 86_400);
/// A refusal asks callers to wait so long at least.
const WAIT_MIN: Duration = Duration::from_secs(60);

/// Reads `30m`, `12h` or `7d`.
pub fn parse_override_time(text: &str) -> Option<Duration> {
    let seconds = match text.chars().last()? {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let is_number = (1..=6).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !number.starts_with('0');
    let time = Duration::from_secs(is_number.then(|| number.parse::<u64>().ok())?? * seconds);
    (time <= OVERRIDE_TIME_MAX).then_some(time)
}

/// A scope that is over its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub scope: Scope,
    /// If no send is added.
    pub left: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideAction {
    Allow,
    Deny,
}

impl OverrideAction {
    pub const fn as_str(self) -> &'static str {
        match self {
            OverrideAction::Allow => "allow",
            OverrideAction::Deny => "deny",
        }
    }

    pub const fn letter(self) -> u8 {
        match self {
            OverrideAction::Allow => b'a',
            OverrideAction::Deny => b'd',
        }
    }

    pub fn of_letter(letter: u8) -> Option<OverrideAction> {
        [OverrideAction::Allow, OverrideAction::Deny].into_iter().find(|action| action.letter() == letter)
    }
}

/// The numbers that an override is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverrideTarget {
    /// ISO 3166-1.
    Country(String),
    /// The first digits of numbers in E.164, without the plus sign.
    Digits(String),
    Recipient(Digest16),
}

impl OverrideTarget {
    pub const RULE: &str = "must be a country such as LV, or the first digits of numbers such as +37120: a plus sign and 1 to 8 digits (one number: --to)";

    /// A country or digits: too few to be a whole number, as they are stored and shown in the clear.
    pub fn parse(text: &str) -> Option<OverrideTarget> {
        if let Some(digits) = text.strip_prefix('+') {
            let is_number = (1..=8).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !digits.starts_with('0');
            return is_number.then(|| OverrideTarget::Digits(digits.to_owned()));
        }
        let is_country = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_country.then(|| OverrideTarget::Country(text.to_ascii_uppercase()))
    }

    /// The name in the store.
    pub fn name(&self) -> Vec<u8> {
        match self {
            OverrideTarget::Country(country) => [b"c", country.as_bytes()].concat(),
            OverrideTarget::Digits(digits) => [b"n", digits.as_bytes()].concat(),
            OverrideTarget::Recipient(digest) => [b"r".as_slice(), &digest.bytes()].concat(),
        }
    }

    pub fn read(name: &[u8]) -> Option<OverrideTarget> {
        let (letter, rest) = name.split_first()?;
        match letter {
            b'c' => Some(OverrideTarget::Country(std::str::from_utf8(rest).ok()?.to_owned())),
            b'n' => Some(OverrideTarget::Digits(std::str::from_utf8(rest).ok()?.to_owned())),
            b'r' => Some(OverrideTarget::Recipient(Digest16::from_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }

    /// The more specific an override, the higher; 0 if it is not about these.
    fn specificity(&self, subject: &DefenceSubject<'_>) -> usize {
        match self {
            OverrideTarget::Country(country) => usize::from(subject.country == Some(country)),
            OverrideTarget::Digits(digits) if subject.digits.starts_with(digits.as_str()) => 1 + digits.len(),
            OverrideTarget::Digits(_) => 0,
            OverrideTarget::Recipient(recipient) if *recipient == subject.recipient => usize::MAX,
            OverrideTarget::Recipient(_) => 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOverride<'a> {
    pub action: OverrideAction,
    pub duration: Duration,
    /// A country, digits, or a masked recipient.
    pub shown: &'a str,
    pub reason: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefenceOverride {
    pub target: OverrideTarget,
    pub action: OverrideAction,
    pub since: UnixMillis,
    pub until: UnixMillis,
    /// Until then, by the store's clock.
    pub left: Duration,
    pub shown: String,
    pub reason: String,
}

/// Everything that decides on requests now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefenceList {
    pub holds: Vec<Hold>,
    pub overrides: Vec<DefenceOverride>,
    /// Stored values that could not be read, and count as missing.
    pub unreadable: u32,
}

/// The list, and the records that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefenceState {
    pub list: DefenceList,
    pub records: Vec<Option<UnverifiedRecord>>,
}

/// The parts of a request that the defence looks at. No `Debug`: it has the number.
#[derive(Clone, Copy)]
pub struct DefenceSubject<'a> {
    /// Without the plus sign.
    pub digits: &'a str,
    pub country: Option<&'a String>,
    pub recipient: Digest16,
    pub scopes: &'a [Scope],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefenceDecision {
    Free,
    /// An operator's override.
    Allowed,
    Refused {
        rule: DefenceRule,
        retry_after: Duration,
    },
}

impl DefenceList {
    /// `age` has passed since the list was read. An override comes before holds, the most specific one before others; of several holds
    /// the one that lasts longest counts.
    pub fn decide(&self, subject: &DefenceSubject<'_>, age: Duration) -> DefenceDecision {
        let in_force = self.overrides.iter().filter(|known| known.left > age);
        let ranked = in_force.map(|known| (known.target.specificity(subject), known));
        let most_specific = ranked.filter(|(rank, _)| *rank > 0).max_by_key(|(rank, _)| *rank);
        let refused = |rule, left: Duration| DefenceDecision::Refused {
            rule,
            retry_after: left.saturating_sub(age).max(WAIT_MIN),
        };
        match most_specific {
            Some((_, known)) if known.action == OverrideAction::Allow => return DefenceDecision::Allowed,
            Some((_, known)) => return refused(DefenceRule::Denied, known.left),
            None => {}
        }
        let held = self.holds.iter().filter(|hold| hold.left > age && subject.scopes.contains(&hold.scope));
        match held.max_by_key(|hold| hold.left) {
            Some(hold) => refused(hold.scope.kind.rule(), hold.left),
            None => DefenceDecision::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::defence::ScopeKind;

    const MINUTE: Duration = Duration::from_secs(60);
    const BLOCK: Scope = Scope { kind: ScopeKind::Block, id: 573_001_234 };
    const USER: Scope = Scope { kind: ScopeKind::User, id: 7 };

    fn over(target: OverrideTarget, action: OverrideAction) -> DefenceOverride {
        let (since, until) = (UnixMillis(0), UnixMillis(1));
        let (shown, reason) = (String::new(), String::new());
        DefenceOverride { target, action, since, until, left: 10 * MINUTE, shown, reason }
    }

    fn decide(list: &DefenceList, age: Duration) -> DefenceDecision {
        let country = "CO".to_owned();
        let subject = DefenceSubject {
            digits: "573001234567",
            country: Some(&country),
            recipient: Digest16::from_bytes([9; 16]),
            scopes: &[BLOCK, USER],
        };
        list.decide(&subject, age)
    }

    fn refused(rule: DefenceRule, retry_after: Duration) -> DefenceDecision {
        DefenceDecision::Refused { rule, retry_after }
    }

    #[test]
    fn the_longest_hold_refuses_until_it_ends() {
        let hold = |scope, minutes| Hold { scope, left: minutes * MINUTE };
        let other = Scope { id: 1, ..BLOCK };
        let holds = vec![hold(BLOCK, 5), hold(USER, 7), hold(other, 60)];
        let list = DefenceList { holds, ..DefenceList::default() };
        assert_eq!(decide(&list, MINUTE), refused(DefenceRule::UnverifiedUser, 6 * MINUTE));
        let nearly = 7 * MINUTE - Duration::from_millis(1);
        assert_eq!(decide(&list, nearly), refused(DefenceRule::UnverifiedUser, MINUTE));
        assert_eq!(decide(&list, 7 * MINUTE), DefenceDecision::Free);
    }

    #[test]
    fn the_most_specific_override_in_force_decides_before_a_hold() {
        use OverrideAction::{Allow, Deny};
        let digits = |text: &str| OverrideTarget::parse(text).expect("digits");
        let holds = vec![Hold { scope: BLOCK, left: MINUTE }];
        let mut list = DefenceList { holds, ..DefenceList::default() };
        let steps = [
            (digits("CO"), Deny, refused(DefenceRule::Denied, 10 * MINUTE)),
            (digits("+57300"), Allow, DefenceDecision::Allowed),
            (digits("+573001"), Deny, refused(DefenceRule::Denied, 10 * MINUTE)),
            (digits("+57"), Allow, refused(DefenceRule::Denied, 10 * MINUTE)),
            (digits("+571"), Allow, refused(DefenceRule::Denied, 10 * MINUTE)),
            (OverrideTarget::Recipient(Digest16::from_bytes([9; 16])), Allow, DefenceDecision::Allowed),
        ];
        for (target, action, decision) in steps {
            list.overrides.push(over(target.clone(), action));
            assert_eq!(decide(&list, Duration::ZERO), decision, "{target:?}");
            assert_eq!(OverrideTarget::read(&target.name()), Some(target));
        }
        assert_eq!(decide(&list, 10 * MINUTE), DefenceDecision::Free, "all are over");
    }

    #[test]
    fn the_time_of_an_override_is_bounded() {
        assert_eq!(parse_override_time("7d"), Some(7 * 1_440 * MINUTE));
        assert_eq!(parse_override_time("1m"), Some(MINUTE));
        for text in ["", "7", "0m", "-1d", "91d", "2161h", "1.5h", "7s", "9999999m"] {
            assert_eq!(parse_override_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_target_is_a_country_or_the_first_digits_of_numbers() {
        assert_eq!(OverrideTarget::parse("lv"), Some(OverrideTarget::Country("LV".to_owned())));
        assert_eq!(OverrideTarget::parse("+37120"), Some(OverrideTarget::Digits("37120".to_owned())));
        for text in ["", "+", "L", "LVA", "+0", "37120", "+37x", "+371200012", "L1"] {
            assert_eq!(OverrideTarget::parse(text), None, "{text}");
        }
    }
}
