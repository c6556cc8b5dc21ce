//! An e-mail address as people and tokens write it, as [`EmailAddress::parse`] reads it.

use otpost::domain::email::EmailAddress;

use super::assert_shows_no_digits;

/// Checks the reading of one text against the contract. Other bytes are no input.
pub fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match EmailAddress::parse(text) {
        Ok(address) => {
            assert_is_one_mailbox(address.as_str());
            assert!(
                EmailAddress::parse(address.as_str()).as_ref() == Ok(&address),
                "it reads back as itself"
            );
            assert_consists_of_the_input(address.as_str(), text);
            assert_is_masked(&address);
        }
        Err(fault) => {
            let message = fault.to_string();
            assert!(!message.is_empty() && message.is_ascii());
            assert_shows_no_digits(&message, input);
        }
    }
}

/// Nothing in it ends a header, quotes, comments, lists or names: one `@` between plain characters, short enough for
/// every relay.
#[track_caller]
fn assert_is_one_mailbox(address: &str) {
    assert!(address.len() <= 254, "{} bytes", address.len());
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>[\\]".contains(&byte);
    assert!(address.bytes().all(plain) && !address.bytes().any(|byte| byte.is_ascii_uppercase()));
    let (local, domain) = address.split_once('@').expect("an @");
    assert!((1..=64).contains(&local.len()) && !domain.contains('@'));
    assert!(!format!(".{local}.").contains(".."));
    let labels: Vec<&str> = domain.split('.').collect();
    assert!(labels.len() > 1 && labels.iter().all(|label| (1..=63).contains(&label.len())));
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!(labels.iter().all(|label| label.bytes().all(inside) && label.trim_matches('-') == *label));
}

/// Letters become lower case, and an international domain becomes ASCII. The part before the `@` is that of the input.
#[track_caller]
fn assert_consists_of_the_input(address: &str, text: &str) {
    let local = |text: &str| text.split_once('@').map(|(local, _)| local.to_ascii_lowercase());
    assert_eq!(local(address), local(text.trim_matches(' ')));
}

/// One character of each side, and the last label.
#[track_caller]
fn assert_is_masked(address: &EmailAddress) {
    let (local, domain) = address.as_str().split_once('@').expect("an @");
    let last = domain.rsplit('.').next().expect("a label");
    let masked = format!("{}***@{}***.{last}", &local[..1], &domain[..1]);
    assert!(address.to_string() == masked && format!("{address:?}") == format!("EmailAddress({masked})"));
}
