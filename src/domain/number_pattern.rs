//! Matches digits against the patterns of numbering plans, without compiling them: compiled, the patterns of the world
//! take 125 MB.
//!
//! A pattern consists of digits, `\d`, classes such as `[0-35]`, groups `(?:…)`, alternatives `|`, and the repetitions `?`,
//! `{2}` and `{2,4}`. It is read once from left to right, with the set of positions that it may have reached in the digits.

/// A set of positions in the digits: bit `n` for the position after `n` digits.
type Positions = u32;

/// More than any number has, and few enough for [`Positions`].
const DIGITS_MAX: usize = 31;

/// True if the pattern matches all of the digits.
pub(super) fn matches_all(pattern: &str, digits: &str) -> bool {
    reached(pattern, digits) & (1 << digits.len().min(DIGITS_MAX)) != 0
}

/// True if the pattern matches the digits or the beginning of them.
pub(super) fn matches_beginning(pattern: &str, digits: &str) -> bool {
    reached(pattern, digits) != 0
}

fn reached(pattern: &str, digits: &str) -> Positions {
    if digits.len() > DIGITS_MAX {
        return 0;
    }
    let mut places = [0; 10];
    for (at, digit) in digits.bytes().enumerate() {
        if let Some(places) = places.get_mut(usize::from(digit.wrapping_sub(b'0'))) {
            *places |= 1 << at;
        }
    }
    let mut reader = Reader { pattern: pattern.as_bytes(), at: 0, places };
    let reached = reader.alternatives(1);
    if reader.peek().is_none() { reached } else { 0 }
}

/// Reads a pattern. Each part takes the positions before it to those after it. A pattern with other signs is not read to
/// its end, and matches nothing.
struct Reader<'a> {
    pattern: &'a [u8],
    at: usize,
    /// The positions of each digit.
    places: [Positions; 10],
}

impl Reader<'_> {
    fn alternatives(&mut self, before: Positions) -> Positions {
        let mut after = self.sequence(before);
        while self.take(b'|') {
            after |= self.sequence(before);
        }
        after
    }

    fn sequence(&mut self, before: Positions) -> Positions {
        let mut reached = before;
        while let Some(sign) = self.peek()
            && !matches!(sign, b'|' | b')')
        {
            let start = self.at;
            reached = self.repeated(reached);
            if self.at == start {
                break;
            }
        }
        reached
    }

    fn repeated(&mut self, before: Positions) -> Positions {
        let start = self.at;
        let mut step = self.single(before);
        let (min, max) = self.repetitions();
        let end = self.at;
        let mut after = if min == 0 { before } else { 0 };
        for count in 1..=max {
            if count > 1 {
                self.at = start;
                step = self.single(step);
            }
            if count >= min {
                after |= step;
            }
        }
        self.at = end;
        after
    }

    /// A digit, a class or a group.
    fn single(&mut self, before: Positions) -> Positions {
        match self.peek() {
            Some(digit @ b'0'..=b'9') => {
                self.at += 1;
                (before & self.places_of(digit, digit)) << 1
            }
            Some(b'\\') if self.pattern.get(self.at + 1) == Some(&b'd') => {
                self.at += 2;
                (before & self.places_of(b'0', b'9')) << 1
            }
            Some(b'[') => {
                self.at += 1;
                (before & self.class()) << 1
            }
            Some(b'(') if self.pattern[self.at..].starts_with(b"(?:") => {
                self.at += 3;
                let after = self.alternatives(before);
                if self.take(b')') { after } else { 0 }
            }
            _ => 0,
        }
    }

    /// The places of the digits of a class, up to and with its bracket.
    fn class(&mut self) -> Positions {
        let mut places = 0;
        while let Some(first @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            let last = match self.pattern.get(self.at..) {
                Some([b'-', last @ b'0'..=b'9', ..]) => {
                    self.at += 2;
                    *last
                }
                _ => first,
            };
            places |= self.places_of(first, last);
        }
        if self.take(b']') { places } else { 0 }
    }

    fn places_of(&self, first: u8, last: u8) -> Positions {
        let range = usize::from(first - b'0')..=usize::from(last - b'0');
        self.places.get(range).into_iter().flatten().fold(0, |all, places| all | places)
    }

    /// The least and the greatest number of repetitions.
    fn repetitions(&mut self) -> (u32, u32) {
        if self.take(b'?') {
            return (0, 1);
        }
        if !self.take(b'{') {
            return (1, 1);
        }
        let min = self.number();
        let max = if self.take(b',') { self.number() } else { min };
        if self.take(b'}') { (min, max) } else { (1, 0) }
    }

    /// At most two digits, so that no repetition is long.
    fn number(&mut self) -> u32 {
        let mut number = 0;
        for _ in 0..2 {
            let Some(digit @ b'0'..=b'9') = self.peek() else { break };
            self.at += 1;
            number = number * 10 + u32::from(digit - b'0');
        }
        number
    }

    /// The next sign. White space has no meaning.
    fn peek(&mut self) -> Option<u8> {
        while self.pattern.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.pattern.get(self.at).copied()
    }

    fn take(&mut self, sign: u8) -> bool {
        let is_next = self.peek() == Some(sign);
        self.at += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, all: &[&str], beginning: &[&str], neither: &[&str]) {
        for digits in all {
            assert!(matches_all(pattern, digits) && matches_beginning(pattern, digits), "{pattern} {digits}");
        }
        for digits in beginning {
            assert!(
                !matches_all(pattern, digits) && matches_beginning(pattern, digits),
                "{pattern} {digits}"
            );
        }
        for digits in neither {
            assert!(
                !matches_all(pattern, digits) && !matches_beginning(pattern, digits),
                "{pattern} {digits}"
            );
        }
    }

    #[test]
    fn each_part_of_a_pattern_is_understood() {
        check("12", &["12"], &["123"], &["", "1", "13", "012"]);
        check(r"1\d[0-35]", &["103", "195"], &["1031"], &["104", "10"]);
        check("1(?:2|34)5", &["125", "1345"], &["1255"], &["15", "1235"]);
        check("12?3", &["13", "123"], &["130"], &["1223"]);
        check(r"\d{2}", &["12"], &["123"], &["1"]);
        check("(?:12){1,3}", &["12", "1212", "121212"], &["121", "12121212"], &["", "21"]);
        check("12|123", &["12", "123"], &["1234"], &["13"]);
        check("", &[""], &["1"], &[]);
        check(" 1\n (?:2 |3) {2} ", &["122", "132"], &["1222"], &["12"]);
    }

    #[test]
    fn a_pattern_with_other_signs_matches_nothing() {
        for pattern in
            ["1*", "1+", "^1", "1$", "1.", "(1)", "(?:1", "1)", "[1", "[^1]", "1{2", "1{123}", r"\D", "x"]
        {
            assert!(!matches_all(pattern, "1") && !matches_beginning(pattern, "11"), "{pattern}");
        }
    }

    #[test]
    fn more_digits_than_any_number_has_match_nothing() {
        assert!(!matches_beginning("1", &"1".repeat(DIGITS_MAX + 1)));
    }

    fn pattern() -> impl Strategy<Value = String> {
        let single = prop_oneof!["[0-9]", r"\\d", r"\[[0-3][4-6]\]", r"\[1-[3-9]0\]"];
        single.prop_recursive(4, 24, 4, |part| {
            let repeated = (part.clone(), r"\?|\{[0-3]\}|\{[0-2],[2-4]\}")
                .prop_map(|(part, times)| format!("(?:{part}){times}"));
            let group = prop::collection::vec(part.clone(), 1..4)
                .prop_map(|parts| format!("(?:{})", parts.join("|")));
            let sequence = prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat());
            prop_oneof![repeated, group, sequence]
        })
    }

    proptest! {
        #[test]
        fn it_matches_what_the_regular_expression_matches(pattern in pattern(), digits in "[0-6]{0,12}") {
            let all = Regex::new(&format!("^(?:{pattern})$")).expect("a regular expression");
            let beginning = Regex::new(&format!("^(?:{pattern})")).expect("a regular expression");
            prop_assert_eq!(matches_all(&pattern, &digits), all.is_match(&digits));
            prop_assert_eq!(matches_beginning(&pattern, &digits), beginning.is_match(&digits));
        }
    }
}
