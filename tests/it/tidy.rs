//! The rules of the architecture and of the prose, held against the tree: docs/architecture.md has the layers.
//!
//! Every rule lists all of its breaches, and `every_rule_sees_its_bad_sample` shows that it can fail.

mod rules;
mod samples;
mod tree;

use std::path::Path;
use std::sync::LazyLock;

use self::rules::Rule;
use self::tree::Tree;

/// The directory is read at run time, so that the built test can check another copy of the tree.
static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Tree::read(Path::new(&root))
});

#[track_caller]
fn check(rule: Rule) {
    assert!(TREE.sources.len() > 40, "the sources were not found");
    let breaches = rule(&TREE);
    assert!(breaches.is_empty(), "{} breaches\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn every_layer_names_only_the_layers_below_it() {
    check(rules::layers_name_only_layers_below);
}

#[test]
fn an_adapter_does_not_know_its_neighbour() {
    check(rules::adapters_know_no_other_adapter);
    // A rule about adapters proves nothing where none is recognised.
    let adapters = rules::adapters(&TREE);
    for (seam, adapter) in [
        ("broker", "memory"),
        ("broker", "rabbit"),
        ("provider", "http_api"),
        ("provider", "sendgrid"),
        ("provider", "simulated"),
        ("provider", "smtp"),
        ("provider", "twilio"),
        ("store", "memory"),
        ("store", "redis"),
    ] {
        assert!(adapters.contains(&(seam.to_owned(), adapter.to_owned())), "{seam}/{adapter} is no adapter");
    }
}

#[test]
fn no_files_import_in_a_circle() {
    check(rules::files_import_in_no_circle);
}

#[test]
fn every_heavy_crate_has_one_home() {
    check(rules::heavy_crates_have_one_home);
    for (name, _) in rules::HOMES {
        let is_used = TREE.code().any(|source| !rules::uses(source, name).is_empty());
        assert!(is_used, "{name} is not used: take it off the list, or is the list misspelt?");
    }
}

#[test]
fn only_the_configuration_reads_the_environment() {
    check(rules::only_config_reads_the_environment);
}

#[test]
fn the_domain_waits_for_nothing_and_reads_neither_clock_nor_randomness() {
    check(rules::the_domain_is_pure);
}

#[test]
fn a_type_that_holds_a_secret_cannot_be_printed() {
    check(rules::secrets_cannot_be_printed);
    for name in rules::SECRETS {
        let found = TREE.code().any(|source| source.items.types.iter().any(|item| item.name == name));
        assert!(found, "there is no type {name}: take it off the list");
    }
}

#[test]
fn nothing_is_left_half_done_or_silenced() {
    check(rules::nothing_is_unfinished_or_silenced);
}

#[test]
fn only_code_that_talks_to_a_person_prints() {
    check(rules::only_commands_print);
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    check(rules::files_are_short);
}

#[test]
fn a_function_fits_on_a_screen() {
    check(rules::functions_are_short);
}

#[test]
fn every_module_says_what_it_is() {
    check(rules::modules_say_what_they_are);
}

#[test]
fn prose_and_names_use_plain_words() {
    check(rules::words_are_plain);
}

#[test]
fn comments_open_with_their_subject() {
    check(rules::comments_open_with_their_subject);
}

#[test]
fn binaries_and_archives_stay_in_their_homes() {
    check(rules::binaries_have_homes);
}

#[test]
fn images_and_actions_are_pinned_by_digest() {
    check(rules::images_and_actions_have_digests);
}

#[test]
fn a_failed_test_hides_no_other_and_the_costly_tests_come_last() {
    let make = std::process::Command::new("make").args(["--dry-run", "test"]).output().expect("make starts");
    let recipe = String::from_utf8(make.stdout).expect("text");
    assert!(recipe.contains("--no-fail-fast"), "{recipe}");
    let places = ["--test it", "--test chaos"].map(|part| recipe.find(part).expect("a part of the tests"));
    assert!(places.is_sorted(), "{recipe}");
}

#[test]
fn every_rule_sees_its_bad_sample() {
    let tree = samples::bad_tree(TREE.text("docs/architecture.md"));
    for (rule, expected) in samples::EXPECTED {
        let mut breaches = rule(&tree).into_iter();
        for problem in *expected {
            let breach = breaches.next().unwrap_or_default();
            assert!(breach.contains(problem), "expected {problem:?}, found {breach:?}");
        }
        assert_eq!(breaches.next(), None, "after {expected:?}");
    }
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let tree = samples::tree(&[("src/provider/twilio/x.rs", samples::HIDDEN)]);
    let paths: Vec<String> = tree.sources[0].paths().iter().map(|(path, _)| path.join("::")).collect();
    assert_eq!(paths, ["store::redis::RedisStore", "store::Store", "domain::code", "provider::text::x"]);
}
