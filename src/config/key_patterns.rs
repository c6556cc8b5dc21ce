//! Patterns of keys that are no random bytes: each is met by a random key with a chance below 2^-40, but for words in a
//! random text, with a chance below 2^-20, and readable texts, below 2^-32.

use std::fmt;

/// In bits: the chance that a rule may refuse a random key is 2^-40.
const CHANCE_BITS: f64 = 40.0;

/// Words of placeholders and of examples. None has hexadecimal digits alone, so that a random text of those has none.
const WORDS: [&str; 93] = [
    "access",
    "application",
    "asdfghjkl",
    "at",
    "auth",
    "bit",
    "bits",
    "byte",
    "bytes",
    "change",
    "changeit",
    "changeme",
    "changethis",
    "char",
    "characters",
    "chars",
    "config",
    "cookie",
    "default",
    "demo",
    "dev",
    "development",
    "django",
    "do",
    "dummy",
    "encryption",
    "env",
    "example",
    "for",
    "from",
    "goes",
    "hello",
    "here",
    "hmac",
    "hs",
    "hub",
    "iloveyou",
    "in",
    "insecure",
    "insert",
    "is",
    "jwt",
    "key",
    "laravel",
    "least",
    "letmein",
    "localhost",
    "long",
    "me",
    "mercure",
    "my",
    "not",
    "of",
    "only",
    "otp",
    "otpost",
    "passphrase",
    "password",
    "placeholder",
    "please",
    "private",
    "prod",
    "production",
    "project",
    "qwerty",
    "qwertyuiop",
    "random",
    "really",
    "replace",
    "safe",
    "sample",
    "secret",
    "server",
    "session",
    "sha",
    "shared",
    "signing",
    "some",
    "string",
    "super",
    "symfony",
    "test",
    "testing",
    "that",
    "this",
    "todo",
    "token",
    "twilio",
    "use",
    "very",
    "welcome",
    "with",
    "your",
];
/// Words that only join the others, or rows of letters and keys: alone they make no placeholder.
const JOINTS: [&str; 7] = ["a", "and", "be", "to", "the", "zxcvbnm", "abcdefghijklmnopqrstuvwxyz"];

/// The order in the bytes of a key. `Display` follows "it".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Repeats { period: usize },
    Counts,
    Few { different: usize },
    MostlyOne,
    Placeholder,
    Words,
    Text,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Repeats { period: 1 } => f.write_str("repeats one byte"),
            Pattern::Repeats { period } => write!(f, "repeats itself every {period} bytes"),
            Pattern::Counts => f.write_str("counts in steps of one size"),
            Pattern::Few { different } => write!(f, "has only {different} different bytes"),
            Pattern::MostlyOne => f.write_str("is mostly one byte"),
            Pattern::Placeholder => f.write_str("is made of the words of placeholders"),
            Pattern::Words => f.write_str("has words of placeholders in a row"),
            Pattern::Text => f.write_str("is a readable text"),
        }
    }
}

/// The pattern of at least 16 bytes, if they have one.
pub(super) fn pattern(bytes: &[u8]) -> Option<Pattern> {
    let alphabet = alphabet(bytes);
    let mut counts = [0_usize; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let different = counts.iter().filter(|count| **count > 0).count();
    let most = counts.into_iter().max().unwrap_or_default();
    if let Some(period) = period(bytes) {
        return Some(Pattern::Repeats { period });
    }
    if [1, 2, 4, 8].into_iter().any(|size| counts_in_words(bytes, size)) {
        return Some(Pattern::Counts);
    }
    if is_placeholder(bytes) {
        return Some(Pattern::Placeholder);
    }
    if has_words_in_a_row(bytes) {
        return Some(Pattern::Words);
    }
    if chance_of_few(bytes.len(), alphabet, different) > CHANCE_BITS {
        return Some(Pattern::Few { different });
    }
    (chance_of_most(bytes.len(), alphabet, most) > CHANCE_BITS).then_some(Pattern::MostlyOne)
}

/// True for UTF-8 without control characters other than white space. The last character may be cut off, as in a text that
/// was shortened to the length of a key.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        // Without a length the fault is the end of the bytes, inside a character.
        Err(fault) if fault.error_len().is_none() => {
            str::from_utf8(&bytes[..fault.valid_up_to()]).expect("valid up to there")
        }
        Err(_) => return false,
    };
    text.chars().all(|character| !character.is_control() || character.is_whitespace())
}

/// The smallest set of characters, of those that encodings use, which has all bytes.
fn alphabet(bytes: &[u8]) -> f64 {
    type Set = fn(&u8) -> bool;
    let sets: [(f64, Set); 6] = [
        (10.0, u8::is_ascii_digit),
        (16.0, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        (16.0, |byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')),
        (32.0, |byte| matches!(byte, b'2'..=b'7' | b'A'..=b'Z' | b'=')),
        (64.0, |byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte)),
        (95.0, |byte| matches!(byte, b' '..=b'~')),
    ];
    sets.into_iter().find(|(_, has)| bytes.iter().all(has)).map_or(256.0, |(size, _)| size)
}

/// The shortest period, at most half of the bytes; the last one may be cut off.
fn period(bytes: &[u8]) -> Option<usize> {
    (1..=bytes.len() / 2).find(|period| bytes[*period..] == bytes[..bytes.len() - period])
}

/// True if three in four steps between neighbouring words of this size, in either byte order, are the same.
fn counts_in_words(bytes: &[u8], size: usize) -> bool {
    let steps = |add: fn(u64, (usize, &u8)) -> u64| {
        let words: Vec<u64> =
            bytes.chunks_exact(size).map(|word| word.iter().enumerate().fold(0, add)).collect();
        let mask = u64::MAX >> (64 - 8 * size);
        words.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) & mask).collect::<Vec<u64>>()
    };
    let big = steps(|word, (_, byte)| word << 8 | u64::from(*byte));
    let little = steps(|word, (at, byte)| word | u64::from(*byte) << (8 * at));
    [big, little].into_iter().any(|mut steps| {
        // Two words always have one step.
        let enough = (3 * steps.len()).div_ceil(4).max(3);
        steps.sort_unstable();
        steps.chunk_by(|one, other| one == other).any(|same| same.len() >= enough)
    })
}

/// True for a text that has nothing but words of placeholders, digits and signs.
pub(super) fn is_placeholder(bytes: &[u8]) -> bool {
    let letters: Vec<u8> =
        bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect();
    if !bytes.iter().all(u8::is_ascii) || !WORDS.iter().any(|word| contains(&letters, word.as_bytes())) {
        return false;
    }
    // True at each position up to which words reach.
    let mut reached = vec![false; letters.len() + 1];
    reached[0] = true;
    for at in 0..letters.len() {
        if reached[at] {
            let words = WORDS.iter().chain(&JOINTS).filter(|word| letters[at..].starts_with(word.as_bytes()));
            words.for_each(|word| reached[at + word.len()] = true);
        }
    }
    reached[letters.len()]
}

/// Letters of words in a row that no random text has, and of the longest word among them: `secret` alone is met too often.
const LETTERS_MIN: usize = 8;
const LONG_WORD_MIN: usize = 6;

/// True for a text with words of placeholders, whatever stands around them: `django-insecure-…`, `My5ecretKey…`.
///
/// Signs between words do not count. A digit stands for the letter that it looks like, or for nothing.
fn has_words_in_a_row(bytes: &[u8]) -> bool {
    // The digits of hexadecimal numbers stand for no letters.
    if !bytes.is_ascii() || bytes.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let none = |_| None;
    let with_i = |byte| looks_like(byte, b'i');
    let with_l = |byte| looks_like(byte, b'l');
    let meanings: [&dyn Fn(u8) -> Option<u8>; 3] = [&none, &with_i, &with_l];
    let has_signs = bytes.iter().any(|byte| looks_like(*byte, b'i').is_some());
    meanings.into_iter().take(if has_signs { 3 } else { 1 }).any(|meaning| {
        let letter = |byte: &u8| match byte {
            byte if byte.is_ascii_alphabetic() => Some(byte.to_ascii_lowercase()),
            byte => meaning(*byte),
        };
        letters_in_a_row(&bytes.iter().filter_map(letter).collect::<Vec<u8>>()) >= LETTERS_MIN
    })
}

/// The letter that a sign stands for. `1` looks like `one`.
fn looks_like(sign: u8, one: u8) -> Option<u8> {
    Some(match sign {
        b'0' => b'o',
        b'1' | b'!' => one,
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        _ => return None,
    })
}

/// The length of the longest row of words with a long one among them.
fn letters_in_a_row(letters: &[u8]) -> usize {
    // Of the rows up to each position, without and with a long word.
    let (mut any, mut with_long) = (vec![0; letters.len() + 1], vec![0; letters.len() + 1]);
    for at in 0..letters.len() {
        let is_here =
            |word: &&&str| word.as_bytes()[0] == letters[at] && letters[at..].starts_with(word.as_bytes());
        for word in WORDS.iter().chain(&JOINTS).filter(is_here) {
            let end = at + word.len();
            any[end] = any[end].max(any[at] + word.len());
            let is_long = word.len() >= LONG_WORD_MIN;
            let before = if is_long { any[at] } else { with_long[at] };
            if is_long || before > 0 {
                with_long[end] = with_long[end].max(before + word.len());
            }
        }
    }
    with_long.into_iter().max().unwrap_or_default()
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// In bits: at most `different` of the alphabet's characters in `length` random ones. There are C(alphabet, different)
/// choices of them.
fn chance_of_few(length: usize, alphabet: f64, different: usize) -> f64 {
    let different = different as f64;
    length as f64 * (alphabet / different).log2() - choose(alphabet, different)
}

/// In bits: one character `most` times in `length` random ones.
fn chance_of_most(length: usize, alphabet: f64, most: usize) -> f64 {
    (most as f64 - 1.0) * alphabet.log2() - choose(length as f64, most as f64)
}

/// The binary logarithm of a binomial coefficient; 0 if it is less than 1.
fn choose(of: f64, taken: f64) -> f64 {
    let factors =
        (0..taken as u32).map(|at| ((of - f64::from(at)) / (taken - f64::from(at))).max(f64::MIN_POSITIVE));
    factors.map(f64::log2).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn a_random_key_has_no_pattern_in_any_encoding() {
        for seed in 0..1_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            for length in [16, 20, 24, 32, 33, 48, 64, 131] {
                let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
                let digits: String = std::iter::repeat_with(|| random.digit(10)).take(2 * length).collect();
                let letters: String = std::iter::repeat_with(|| random.alphanumeric()).take(length).collect();
                let hex = hex::encode(&bytes);
                for form in [
                    &bytes[..],
                    hex.as_bytes(),
                    hex.to_uppercase().as_bytes(),
                    STANDARD.encode(&bytes).as_bytes(),
                    URL_SAFE_NO_PAD.encode(&bytes).as_bytes(),
                    digits.as_bytes(),
                    letters.as_bytes(),
                ] {
                    assert_eq!(pattern(form), None, "seed {seed}: {form:02x?}");
                }
                assert!(length < 32 || !is_text(&bytes), "seed {seed}");
            }
        }
    }

    #[test]
    fn the_first_pattern_is_named() {
        for (bytes, expected) in [
            (&b"aaaaaaaaaaaaaaaa"[..], Pattern::Repeats { period: 1 }),
            (b"secretssecretssecre", Pattern::Repeats { period: 7 }),
            (b"abcdefghijklmnopqrstuv", Pattern::Counts),
            (b"\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00\x06\x00\x07\x00\x08", Pattern::Counts),
            (b"My-Secret-Key: 123!!", Pattern::Placeholder),
            (b"My5ecretKey-Zk2p9Xw7", Pattern::Words),
            (b"abbabaabbaababbabaababba", Pattern::Few { different: 2 }),
            (b"\x91\x3c\0\x55\xa7\0\x07\x1d\0\xe8\x21\0\x9a\x66\0\x10\x02\0\xc3\x4b\0\x77\xf0\0\x2e\xb8\0\x5d\xee\0\x6b\x88", Pattern::MostlyOne),
        ] {
            assert_eq!(pattern(bytes), Some(expected), "{bytes:02x?}");
        }
        // A word alone may be met by chance.
        assert_eq!(pattern(b"kQ9-secret-Zk2p9Xw7-v3"), None);
        assert!(
            is_placeholder(b"changeme") && !is_placeholder(b"12345678") && !is_placeholder(b"hunter2-token")
        );
    }
}
