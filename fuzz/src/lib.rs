//! Properties of the parsers for any input.
//!
//! Each module has one `check`, which panics on an input that breaks a promise. The fuzz targets call it with generated
//! input; the gateway's own tests include this file and call it with every file of `fuzz/corpus`.

pub mod callback;
pub mod decode;
pub mod email;
pub mod phone;

/// An error names a rule, not a value: it repeats no six digits of the input, the length of a code.
#[track_caller]
fn assert_shows_no_digits(message: &str, input: &[u8]) {
    const DIGITS: usize = 6;
    for run in message.as_bytes().windows(DIGITS).filter(|run| run.iter().all(u8::is_ascii_digit)) {
        assert!(!input.windows(DIGITS).any(|part| part == run), "{message}");
    }
}

/// A plus and at most fifteen digits, the first of them not zero: a country code and something behind it.
#[track_caller]
fn assert_is_e164(e164: &str) {
    let digits = e164.strip_prefix('+').expect("a plus first");
    assert!((3..=15).contains(&digits.len()), "{} digits", digits.len());
    assert!(digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'));
}
