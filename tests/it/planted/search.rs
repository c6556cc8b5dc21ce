//! Finds planted numbers and codes in a text.

use std::collections::HashMap;

/// The last digits of a number that are enough to name a person.
const LAST: usize = 8;
/// The digits of a national number, and of a code.
const WHOLE: usize = 10;
/// Ids in hexadecimal may hold any digits by chance.
const ID: usize = 16;

#[derive(Default)]
pub struct Planted {
    last: HashMap<Vec<u8>, String>,
    whole: HashMap<Vec<u8>, String>,
    /// Parts of addresses.
    words: Vec<&'static str>,
}

impl Planted {
    /// In E.164.
    pub fn add_number(&mut self, number: &str) {
        let digits = number.as_bytes();
        self.last.insert(digits[digits.len() - LAST..].to_vec(), number.to_owned());
        self.whole.insert(digits[digits.len() - WHOLE..].to_vec(), number.to_owned());
    }

    pub fn add_code(&mut self, code: &str) {
        assert_eq!(code.len(), WHOLE);
        self.whole.insert(code.as_bytes().to_vec(), code.to_owned());
    }

    /// A part of addresses that no other text has.
    pub fn add_word(&mut self, word: &'static str) {
        self.words.push(word);
    }

    pub fn count(&self) -> (usize, usize) {
        (self.last.len(), self.whole.len() - self.last.len())
    }

    /// Each with the text around it.
    pub fn found_in(&self, text: &str) -> Vec<String> {
        let bytes = text.as_bytes();
        let around = |begin: usize, length: usize| {
            let around = &bytes[begin.saturating_sub(100)..bytes.len().min(begin + length + 100)];
            String::from_utf8_lossy(around).into_owned()
        };
        let of_words = self.words.iter().flat_map(|word| text.match_indices(word));
        let mut found: Vec<String> =
            of_words.map(|(begin, word)| format!("{word} in {}", around(begin, word.len()))).collect();
        let mut begin = 0;
        while begin < bytes.len() {
            let length = bytes[begin..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let is_fraction = begin > 1 && bytes[begin - 1] == b'.' && bytes[begin - 2].is_ascii_digit();
            let planted = match length {
                3 => self.with_spaces(&bytes[begin..]),
                LAST.. => self.of_word(&bytes[begin..begin + length], is_fraction),
                _ => None,
            };
            if let Some(planted) = planted {
                found.push(format!("{planted} in {}", around(begin, length)));
            }
            begin += length.max(1);
        }
        found
    }

    /// A number as people write it: `300 123 4567`.
    fn with_spaces(&self, text: &[u8]) -> Option<&str> {
        let text = text.get(..WHOLE + 2).filter(|text| text[3] == b' ' && text[7] == b' ')?;
        let digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_digit).collect();
        self.whole.get(&digits).map(String::as_str)
    }

    /// A number in any part of a run of digits, also behind the country code or beside letters.
    fn of_word(&self, word: &[u8], is_fraction: bool) -> Option<&str> {
        // A Message SID is "SM" and an id.
        let id = word.strip_prefix(b"SM").unwrap_or(word);
        if id.len() >= ID && id.iter().all(u8::is_ascii_hexdigit) && !word.iter().all(u8::is_ascii_digit) {
            return None;
        }
        word.split(|byte| !byte.is_ascii_digit()).find_map(|run| {
            let whole = run.windows(WHOLE).find_map(|digits| self.whole.get(digits));
            let is_whole_word = run.len() == word.len() && !is_fraction;
            let last = || run.windows(LAST).find_map(|digits| self.last.get(digits));
            whole.or_else(|| is_whole_word.then(last).flatten()).map(String::as_str)
        })
    }
}

#[test]
fn a_number_or_code_is_found_in_every_form_and_chance_is_not() {
    let mut planted = Planted::default();
    planted.add_number("+573001234567");
    planted.add_code("4829130071");
    planted.add_word("ana.lopez");
    for leak in [
        "to=+573001234567",
        "{\"to\":\"573001234567\"}",
        "3001234567",
        "x3001234567y",
        "******01234567",
        "Body=codigo%204829130071",
        "a 4829130071.",
        "otp:4829130071",
        "\"300 123 4567\"",
        "mail to ana.lopez+1@shop.example",
    ] {
        assert_eq!(planted.found_in(leak).len(), 1, "{leak}");
    }
    for chance in [
        "+57******4567",
        "0.001234567",
        "SM00000000000000004829130071000000",
        "4bf93001234567b34da6a3ce929d0e0e",
        "482913",
        "48291300",
        "a***@shop.example",
        "",
    ] {
        assert_eq!(planted.found_in(chance), Vec::<String>::new(), "{chance}");
    }
    assert_eq!(planted.found_in("3001234567 and 4829130071").len(), 2);
    assert_eq!(planted.count(), (1, 1));
}
