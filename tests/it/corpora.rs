//! Checks every committed input of the fuzz targets. `make fuzz` searches for more.

use std::path::Path;

use crate::parsers::{callback, decode, email, phone};

#[track_caller]
fn check(target: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder of inputs") {
        let path = entry.expect("an entry").path();
        let input = std::fs::read(&path).expect("a file");
        // Shown if the next line panics.
        println!("{}", path.display());
        holds(&input);
        inputs += 1;
    }
    assert!(inputs >= 10, "without inputs the test proves nothing");
}

#[test]
fn every_known_body_is_read_by_the_contract_or_refused_by_it() {
    check("decode", decode::check);
}

#[test]
fn every_known_call_is_read_only_if_it_is_signed_as_it_is() {
    check("callback", callback::check);
}

#[test]
fn every_known_text_is_one_mailbox_or_none() {
    check("email", email::check);
}

#[test]
fn every_known_text_is_a_whole_number_or_none() {
    check("phone", phone::check);
}
