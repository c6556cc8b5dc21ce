//! A phone number as people write it, as [`PhoneNumber::parse`] reads it.

use std::sync::Once;

use otpost::domain::decimal_digit::decimal_digit;
use otpost::domain::phone::{PhoneError, PhoneNumber, Region, warm_up};

use super::{assert_is_e164, assert_shows_no_digits};

/// Countries whose plans differ: no trunk prefix, a shared code, a prefix of 0, zeros that belong to the number.
const HOMES: [&str; 6] = ["CO", "US", "GB", "IT", "CI", "DE"];

/// Checks the reading of one text against the contract, in several countries. Other bytes are no input.
pub fn check(input: &[u8]) {
    static WARM: Once = Once::new();
    WARM.call_once(warm_up);
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let homes = HOMES.map(|home| home.parse::<Region>().expect("a country"));
    let read = homes.map(|home| PhoneNumber::parse(text, home));
    for (home, read) in homes.iter().zip(&read) {
        match read {
            Ok(number) => {
                assert_is_e164(number.e164());
                // Some plans have shorter ones, for services.
                assert!(!number.line().takes_sms() || number.e164().len() > 7, "{number}");
                assert_consists_of_the_input(number, text, *home);
                assert_is_masked(number);
                for other in homes {
                    let again = PhoneNumber::parse(number.e164(), other);
                    assert!(again.as_ref() == Ok(number), "{number} of {home} is another number in {other}");
                }
            }
            Err(fault) => assert_is_explained(*fault, text, *home),
        }
    }
    if has_plus(text) {
        assert!(
            read.iter().all(|other| other == &read[0]),
            "a number with its country code is of one country"
        );
    }
}

/// Only separators and a trunk prefix of at most two digits are removed, and only a country code is added.
fn assert_consists_of_the_input(number: &PhoneNumber, text: &str, home: Region) {
    let written: String = text.chars().filter_map(decimal_digit).map(|digit| digit.to_string()).collect();
    let e164 = &number.e164()[1..];
    if has_plus(text) {
        assert!(e164 == written, "{number} is not what was written");
    } else {
        let (code, national) = e164.split_at(national_at(number) - 1);
        let before = written.strip_suffix(national);
        assert!(
            before.is_some_and(|before| before == code || before.len() <= 2),
            "{number} is not what was written"
        );
        assert_eq!(number.region(), Some(home), "a number without a country code is of the country given");
        assert!(!written.starts_with("00"), "{number} was written with an international prefix");
    }
}

/// A plus comes before everything that could belong to a number.
fn has_plus(text: &str) -> bool {
    let belongs = |c: &char| c.is_alphanumeric() || "+＋*#".contains(*c);
    text.chars().find(belongs).is_some_and(|c| "+＋".contains(c))
}

/// The mask begins after the country code.
fn national_at(number: &PhoneNumber) -> usize {
    number.to_string().find('*').expect("a mask")
}

/// Country code, stars, and at most four last digits that are no more than half of the national ones.
#[track_caller]
fn assert_is_masked(number: &PhoneNumber) {
    let (masked, e164) = (number.to_string(), number.e164());
    let at = national_at(number);
    let stars = masked[at..].bytes().take_while(|&byte| byte == b'*').count();
    let shown = masked.len() - at - stars;
    assert!((2..=4).contains(&at), "{masked}: a country code has one to three digits");
    assert!(shown <= 4 && shown <= stars, "{masked}");
    assert_eq!(masked.len(), e164.len(), "{masked}");
    assert!(masked[..at] == e164[..at] && masked[at + stars..] == e164[at + stars..], "{masked}");
    assert_eq!(format!("{number:?}"), format!("PhoneNumber({masked})"));
}

fn assert_is_explained(fault: PhoneError, text: &str, home: Region) {
    let message = fault.to_string();
    let is_long = text.chars().count() > 32;
    assert_eq!(fault == PhoneError::TooLong, is_long, "{message}");
    match fault {
        PhoneError::Empty => {
            assert!(!text.chars().any(|c| c.is_alphanumeric() || c.is_ascii_graphic()), "{message}")
        }
        PhoneError::Letters => assert!(text.chars().any(char::is_alphabetic), "{message}"),
        PhoneError::Characters => {
            let plain = |c: char| c.is_ascii_digit() || " -.()".contains(c);
            let trimmed = text.trim_matches(' ').trim_start_matches('+');
            assert!(!trimmed.chars().all(plain), "{message}");
        }
        PhoneError::NotAssigned { digits, region } => {
            assert_eq!(digits, text.chars().filter_map(decimal_digit).count(), "{message}");
            assert_eq!(region, (!has_plus(text)).then_some(home), "{message}");
        }
        PhoneError::InternationalPrefix => assert!(!has_plus(text), "{message}"),
        PhoneError::TooLong => {}
    }
    assert_shows_no_digits(&message, text.as_bytes());
}
