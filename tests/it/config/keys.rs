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
fn a_key_with_words_of_placeholders_is_refused_whatever_stands_around_them() {
    for text in [
        "super-secret-key-for-production-use",
        "default_jwt_secret_key_do_not_use",
        "ThisIsASecretKeyThatNo1Knows!!##",
        "My5ecretKey-Change-Me-In-Prod!!!",
        "django-insecure-5u#x7v2q9z!k0w8r4t6y1p3m5n7b",
        "qwertyuiopasdfghjklzxcvbnmqwerty",
        "p@ssw0rd-Zk2p9Xw7Lq4Rt8Yb1Nd5Gh3",
        "Zk2p9Xw7Lq4Rt8Yb1Nd5Gh3-1n5ecure",
        "Zk2p9Xw7Lq4-defau1t-key-Rt8Yb1Nd",
    ] {
        for secret in [text.to_owned(), base64(text), hex::encode(text), format!("\"{text}\"")] {
            expect_known(&[("JWT_SECRET", &secret)], &["JWT_SECRET"]);
        }
    }
}

#[test]
fn the_digest_of_a_common_word_is_refused() {
    use sha1::Sha1;
    use sha2::{Digest as _, Sha256, Sha512};
    for word in ["", "password", "secret", "secret\n", "changeme", "test", "otpost"] {
        for digest in [&Sha256::digest(word)[..], &Sha512::digest(word)[..32]] {
            expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{}", base64(digest)))], &["OTP_SECRET_KEYS"]);
            expect_known(&[("OTP_RECIPIENT_KEY", &base64(digest))], &["OTP_RECIPIENT_KEY"]);
            expect_known(&[("JWT_SECRET", &hex::encode(digest))], &["JWT_SECRET"]);
        }
        expect_known(&[("JWT_SECRET", &hex::encode(Sha1::digest(word)))], &["JWT_SECRET"]);
        expect_known(&[("JWT_SECRET", &hex::encode(Sha512::digest(word)))], &["JWT_SECRET"]);
    }
    // MD5 of "secret": the digits as a secret, and their text as a key of 32 bytes.
    let md5 = "5ebe2294ecd0e0f08eab7690d2a6ee69";
    expect_known(&[("JWT_SECRET", md5)], &["JWT_SECRET"]);
    expect_known(&[("OTP_RECIPIENT_KEY", &base64(md5))], &["OTP_RECIPIENT_KEY"]);
}

#[test]
fn the_beginning_of_a_published_key_is_refused() {
    let rfc_7515 = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let rfc_7515 = &URL_SAFE_NO_PAD.decode(rfc_7515).expect("base64url")[..32];
    let raw = [
        rfc_7515.to_vec(),
        hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").expect("RFC 8032"),
        hex::decode("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42").expect("RFC 8032"),
        hex::decode("3141592653589793238462643383279502884197169399375105820974944592").expect("pi"),
        hex::decode("243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89").expect("pi"),
        hex::decode("2718281828459045235360287471352662497757247093699959574966967627").expect("e"),
        hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").expect("Hardhat"),
        hex::decode("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19").expect("SHA-256"),
        hex::decode("428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5").expect("SHA-256"),
    ];
    for key in raw {
        expect_known(&[("OTP_SECRET_KEYS", &format!("k1:{}", base64(&key)))], &["OTP_SECRET_KEYS"]);
        expect_known(&[("OTP_RECIPIENT_KEY", &base64(&key))], &["OTP_RECIPIENT_KEY"]);
        expect_known(&[("JWT_SECRET", &hex::encode(&key))], &["JWT_SECRET"]);
    }
    expect_known(&[("JWT_SECRET", "31415926535897932384626433832795")], &["JWT_SECRET"]);
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
        "one key of exactly thirty-two b!",
        "correct horse battery staple 99!",
        "Kz9#qv!2LmPw@7Xc$4Rt%8Yb^1Nd&5Gh",
        "años y años, una llave de texto",
        "ключ из тридцати б!",
        "三十二個位元組的金鑰!!",
        "two lines\r\nof a text\twith a break\n",
        // Cut inside a character.
        "correct horse battery staple 99 ñ",
        "correct horse battery staple 99€",
        "correct horse battery staple!🐎",
    ] {
        let key = base64(text.as_bytes().get(..32).expect("long enough"));
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
