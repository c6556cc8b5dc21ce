//! Keys that anyone could know, or that serve two purposes: refused in production, allowed in development.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

const ZEROS: [u8; 32] = [0; 32];

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn bytes(key: &str) -> Vec<u8> {
    STANDARD.decode(key).expect("a key as base64")
}

/// The variables must be refused in production, for these settings, and taken in development.
#[track_caller]
fn expect_known(changes: &[(&str, &str)], names: &[&str]) {
    let text = expect_faults(Role::Serve, &with(production(), changes), names);
    for (_, value) in changes {
        assert!(!text.contains(value), "{text}");
    }
    let development = [changes, &[("ENVIRONMENT", "development")]].concat();
    expect(Role::Serve, &with(production(), &development));
}

#[test]
fn a_key_of_the_documentation_is_refused_in_every_setting_that_holds_a_secret() {
    for known in [DEV_KEY, DEV_RECIPIENT_KEY] {
        expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{known}"))], &["OTP_SECRET_KEYS"]);
        expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_1},k2:{known}"))], &["OTP_SECRET_KEYS"]);
        expect_known(&[("OTP_RECIPIENT_KEY", known)], &["OTP_RECIPIENT_KEY"]);
        for name in ["JWT_SECRET", "TWILIO_AUTH_TOKEN"] {
            expect_known(&[(name, known)], &[name]);
        }
    }
    expect_known(&[("TWILIO_AUTH_TOKEN", &format!("hunter2-token,{DEV_KEY}"))], &["TWILIO_AUTH_TOKEN"]);
    expect_known(&[("TWILIO_AUTH_TOKEN", DEV_JWT_SECRET)], &["TWILIO_AUTH_TOKEN"]);
}

#[test]
fn a_known_secret_is_known_in_every_encoding() {
    for known in [DEV_JWT_SECRET.as_bytes(), &bytes(DEV_KEY), &bytes(DEV_RECIPIENT_KEY)] {
        let text = String::from_utf8(known.to_vec()).expect("the public keys are sentences");
        for form in [
            text.clone(),
            format!("\"{text}\""),
            format!("'{text}'"),
            base64(known),
            base64(known).trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(known),
            hex::encode(known),
            hex::encode_upper(known),
            format!("\"{}\"", base64(known)),
            base64(base64(known)),
            format!("dev:{}", base64(known)),
            format!("k1:{text}"),
        ] {
            expect_known(&[("JWT_SECRET", &form)], &["JWT_SECRET"]);
        }
    }
}

/// Refused as each of our keys, in each encoding.
#[track_caller]
fn expect_pattern(pattern: &[u8]) {
    let key = base64(pattern);
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{key}"))], &["OTP_SECRET_KEYS"]);
    expect_known(&[("OTP_RECIPIENT_KEY", &key)], &["OTP_RECIPIENT_KEY"]);
    for secret in [key.clone(), hex::encode(pattern), base64(hex::encode(pattern)), base64(&key)] {
        expect_known(&[("JWT_SECRET", &secret)], &["JWT_SECRET"]);
    }
}

#[test]
fn a_key_with_a_pattern_is_refused() {
    let counting =
        |step: u8| (0..32).map(|at: u8| 100_u8.wrapping_add(at.wrapping_mul(step))).collect::<Vec<u8>>();
    let mut almost = ZEROS;
    almost[31] = 1;
    let random = bytes(KEY_1);
    let (padded, swapped) = ([&random[..14], &ZEROS[..18]].concat(), [&random[16..], &random[16..]].concat());
    let few: Vec<u8> = random.iter().map(|byte| random[usize::from(byte % 8)]).collect();
    let words = |word: fn(u32) -> Vec<u8>| (7..39).flat_map(word).take(32).collect::<Vec<u8>>();
    for pattern in [
        &ZEROS[..],
        &[0xff; 32],
        &[7; 32],
        b"abcdabcdabcdabcdabcdabcdabcdabcd",
        b"changemechangemechangemechangeme",
        b"\0\x01\x02\x03\x04\x05\x06\x07\0\x01\x02\x03\x04\x05\x06\x07\0\x01\x02\x03\x04\x05\x06\x07\0\x01\x02\x03\x04\x05\x06\x07",
        b"abcdefghijklmnopqrstuvwxyz012345",
        &counting(1),
        &counting(255),
        &counting(3),
        &words(|at| (at as u16).to_be_bytes().to_vec()),
        &words(|at| (at as u16).to_le_bytes().to_vec()),
        &words(|at| (60_000 - 257 * at as u16).to_be_bytes().to_vec()),
        &words(|at| at.to_be_bytes().to_vec()),
        &words(|at| at.to_le_bytes().to_vec()),
        &words(|at| (0_u32.wrapping_sub(at)).to_be_bytes().to_vec()),
        &words(|at| u64::from(at).to_be_bytes().to_vec()),
        &almost,
        &padded,
        &swapped,
        &few,
    ] {
        expect_pattern(pattern);
    }
    for text in ["a".repeat(32), "ab".repeat(40), "0000".repeat(16), "1234".repeat(8), "1234567890".repeat(4)]
    {
        expect_known(&[("JWT_SECRET", &text)], &["JWT_SECRET"]);
    }
}

#[test]
fn a_key_of_the_words_of_placeholders_is_refused() {
    for text in [
        "secretsecretsecretsecretsecretsecret",
        "SecretsecretSECRETsecretSecretSECRETsecret",
        "passwordpasswordpasswordpassword",
        "changeme1changeme2changeme3changeme4",
        "my-super-secret-jwt-key-change-in-production",
        "please change this very long and secret password",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "ThisIsMySecretKeyForDevelopmentOnly!",
        "your_jwt_secret_key_goes_here_1234567890",
        "qwertyuiopasdfghjklzxcvbnm123456",
        "0123456789abcdefghijklmnopqrstuvwxyz",
    ] {
        for secret in [text.to_owned(), base64(text), hex::encode(text), format!("\"{text}\"")] {
            expect_known(&[("JWT_SECRET", &secret)], &["JWT_SECRET"]);
        }
    }
}

#[test]
fn a_published_key_is_refused_in_every_encoding() {
    // RFC 7515 A.1, RFC 7520 §3.5, NIST SP 800-38A F.1.5, RFC 8439 §2.5.2, RFC 8032 §7.1; then texts of jwt.io.
    for (text, is_key) in [
        ("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow", false),
        ("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg", true),
        ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", true),
        ("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b", true),
        ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", true),
        ("a-string-secret-at-least-256-bits-long", false),
        ("a-valid-string-secret-that-is-at-least-384-bits-long", false),
        ("a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long", false),
    ] {
        for secret in [text.to_owned(), base64(text), hex::encode(text)] {
            expect_known(&[("JWT_SECRET", &secret)], &["JWT_SECRET"]);
        }
        if is_key {
            let raw = hex::decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).expect("a key");
            expect_known(&[("JWT_SECRET", &base64(&raw))], &["JWT_SECRET"]);
            expect_known(&[("OTP_RECIPIENT_KEY", &base64(&raw))], &["OTP_RECIPIENT_KEY"]);
        }
    }
    // Too short for a key alone, and refused in place of a provider's token.
    expect_known(&[("TWILIO_AUTH_TOKEN", "your-256-bit-secret")], &["TWILIO_AUTH_TOKEN"]);
}

#[test]
fn a_key_of_32_bytes_is_no_readable_text() {
    for text in [
        b"one key of exactly thirty-two b!",
        b"correct horse battery staple 99!",
        b"Kz9#qv!2LmPw@7Xc$4Rt%8Yb^1Nd&5Gh",
    ] {
        let key = base64(text);
        expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{key}"))], &["OTP_SECRET_KEYS"]);
        expect_known(&[("OTP_RECIPIENT_KEY", &key)], &["OTP_RECIPIENT_KEY"]);
    }
    // The owner of tokens may give a text.
    expect(Role::Serve, &with(production(), &[("JWT_SECRET", "correct horse battery staple 99!")]));
}

#[test]
fn a_provider_token_is_no_placeholder() {
    for token in [
        "00000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "0123456789abcdef0123456789abcdef",
        "xxxxxxxxxxxx",
        "your_auth_token",
        "YOUR-TWILIO-AUTH-TOKEN",
        "<your auth token>",
        "[AuthToken]",
        "changeme",
        "REPLACE-ME",
        "your placeholder",
        "example-token",
        "TODO",
    ] {
        for value in [token.to_owned(), format!("{token},hunter2-token"), format!("hunter2-token,{token}")] {
            expect_known(&[("TWILIO_AUTH_TOKEN", &value)], &["TWILIO_AUTH_TOKEN"]);
        }
        let key =
            [("TWILIO_API_KEY_SID", "SK00000000000000000000000000000001"), ("TWILIO_API_KEY_SECRET", token)];
        let text = expect_faults(Role::Serve, &with(production(), &key), &["TWILIO_API_KEY_SECRET"]);
        assert!(!text.contains(token), "{text}");
    }
}

#[test]
fn the_error_about_a_key_names_its_rule_and_its_size() {
    for (secret, words) in [
        ("changeme".repeat(5), "repeats itself every 8 bytes (40 bytes)"),
        ("1234".repeat(8), "repeats itself every 4 bytes (32 bytes)"),
        (hex::encode((0..32).collect::<Vec<u8>>()), "counts in steps of one size (64 bytes)"),
        ("please change this very long secret".to_owned(), "is made of the words of placeholders (35 bytes)"),
    ] {
        let text =
            expect_faults(Role::Serve, &with(production(), &[("JWT_SECRET", &secret)]), &["JWT_SECRET"]);
        assert!(text.contains(words), "{text}");
    }
    let text = base64("one key of exactly thirty-two b!");
    let text = expect_faults(
        Role::Serve,
        &with(production(), &[("OTP_RECIPIENT_KEY", &text)]),
        &["OTP_RECIPIENT_KEY"],
    );
    assert!(text.contains("is a readable text (32 bytes)"), "{text}");
}

/// RFC 4648 §6.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let letter = |from: usize| (from..from + 5).fold(0, |letter, at| letter << 1 | bit(at));
    (0..8 * bytes.len()).step_by(5).map(|from| char::from(LETTERS[usize::from(letter(from))])).collect()
}

#[test]
fn two_keys_are_two_keys() {
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_2}"))], &["OTP_RECIPIENT_KEY"]);
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_1},k2:{KEY_2}"))], &["OTP_RECIPIENT_KEY"]);
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_1},k2:{KEY_1}"))], &["OTP_SECRET_KEYS"]);
    for key in [KEY_1, KEY_2] {
        let raw = bytes(key);
        let hex = hex::encode(&raw);
        let pairs: Vec<&str> =
            hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII")).collect();
        for form in [
            key.to_owned(),
            format!("k1:{key}"),
            hex.clone(),
            base64(&hex),
            base64(format!("{hex}\n")),
            base64(base64(&hex)),
            format!("\"{}\"", base64(base64(&hex))),
            hex::encode(key),
            format!("0x{hex}"),
            pairs.join(":"),
            pairs.join(" "),
            base32(&raw),
            format!("{}====", base32(&raw).to_lowercase()),
            format!("{}\n{}", &key[..20], &key[20..]),
            URL_SAFE_NO_PAD.encode(&raw),
        ] {
            expect_known(&[("JWT_SECRET", &form)], &["JWT_SECRET"]);
        }
    }
    expect_known(&[("TWILIO_AUTH_TOKEN", JWT_SECRET)], &["TWILIO_AUTH_TOKEN"]);
}

#[test]
fn keys_of_the_documented_command_are_taken() {
    let random = |length| {
        let mut bytes = vec![0; length];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        bytes
    };
    for _ in 0..200 {
        let (keys, recipient) =
            (format!("k1:{},k2:{}", base64(random(32)), base64(random(32))), base64(random(32)));
        for secret in [base64(random(48)), hex::encode(random(16)), hex::encode(random(32))] {
            let changes =
                [("OTP_SECRET_KEYS", &*keys), ("OTP_RECIPIENT_KEY", &recipient), ("JWT_SECRET", &secret)];
            expect(Role::Serve, &with(production(), &changes));
        }
    }
}
