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

#[test]
fn a_key_with_a_pattern_is_refused() {
    let counting: Vec<u8> = (0..32).collect();
    let falling: Vec<u8> = (0..32).rev().collect();
    let mut almost = ZEROS;
    almost[31] = 1;
    for pattern in
        [&ZEROS[..], &[0xff; 32], &[7; 32], b"abcdabcdabcdabcdabcdabcdabcdabcd", &counting, &falling, &almost]
    {
        let key = base64(pattern);
        expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{key}"))], &["OTP_SECRET_KEYS"]);
        expect_known(&[("OTP_RECIPIENT_KEY", &key)], &["OTP_RECIPIENT_KEY"]);
        expect_known(&[("JWT_SECRET", &key)], &["JWT_SECRET"]);
        expect_known(&[("JWT_SECRET", &hex::encode(pattern))], &["JWT_SECRET"]);
    }
    for text in ["a".repeat(32), "ab".repeat(40), "0000".repeat(16), "1234".repeat(8)] {
        expect_known(&[("JWT_SECRET", &text)], &["JWT_SECRET"]);
    }
}

#[test]
fn two_keys_are_two_keys() {
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_2}"))], &["OTP_RECIPIENT_KEY"]);
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_1},k2:{KEY_2}"))], &["OTP_RECIPIENT_KEY"]);
    expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{KEY_1},k2:{KEY_1}"))], &["OTP_SECRET_KEYS"]);
    for key in [KEY_1, KEY_2] {
        let text = String::from_utf8(bytes(key)).expect("text");
        for form in [key.to_owned(), format!("k1:{key}"), hex::encode(bytes(key)), text] {
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
