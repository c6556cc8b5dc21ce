//! A small tree that breaks every rule, and the breaches that each rule must find in it.

use super::rules::{self, Rule};
use super::tree::Tree;

const DOMAIN: &str = r#"
use crate::{flow::X};
use std::env;
async fn f() { Timestamp::now(); lapin::x() }
#[derive(Clone, Debug)] struct Code;
impl fmt::Display for Code {}
impl fmt::Debug for Code {}
"#;

const FLOW: &str = r#"//! Words: nobody
use crate::provider::{twilio as t};
use super::f;
#[allow(dead_code)] fn tell_somebody() { x().unwrap(); println!("told") }
use x::{y::*}; // What it is
fn g() { io::stdout().lock(); eprintln!(); x!(crate::cli::X); }
"#;

pub const HIDDEN: &str = r##"
//! crate::flow in a comment
use crate::{store::{redis::RedisStore, Store}, domain::code};
/* crate::http /* nested */ crate::http */
fn f<'a>(text: &'a str) -> char { let _ = ("crate::cli \" }", r#"crate::app "{"#, '"', '\''); super::super::text::x() }
#[cfg(test)]
mod tests { fn g() { crate::telemetry::x(); "}" } }
"##;

pub fn bad_tree(page: String) -> Tree {
    let long = "//! Long.\nfn f() {\n".to_owned() + &"x();\n".repeat(499) + "}";
    tree(&[
        ("Dockerfile", "FROM base:1 AS build\nFROM base@sha256:ab\nFROM otpost:local"),
        ("bad.whl", ""),
        ("docs/architecture.md", &page),
        ("docs/bad", "PK\0"),
        ("src/domain/bad.rs", DOMAIN),
        ("src/flow/bad.rs", FLOW),
        ("src/flow/long.rs", &long),
        ("src/flow/mod.rs", "//! A parent.\nmod bad; fn f(_: bad::A) {}"),
        ("src/other.rs", "//! In no layer."),
        ("src/provider/mod.rs", "//! A seam.\ntrait Provider {}"),
        ("src/provider/smtp.rs", "//! An adapter.\nuse super::twilio::X;"),
        ("src/provider/twilio/mod.rs", "//! An adapter.\nimpl Provider for Twilio {}"),
        ("src/store/bad.lua", "-- Whether it is\n-- for whoever asks in\n-- vain"),
    ])
}

pub fn tree(files: &[(&str, &str)]) -> Tree {
    Tree::of(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

pub const EXPECTED: &[(Rule, &[&str])] = &[
    (
        rules::layers_name_only_layers_below,
        &[
            "src/domain/bad.rs:2: `domain` may not name `flow::X`",
            "src/flow/bad.rs:2: `provider::twilio` is an adapter",
            "src/flow/bad.rs:6: `flow` may not name `cli::X`",
            "src/other.rs:1: is in no layer",
        ],
    ),
    (
        rules::adapters_know_no_other_adapter,
        &["src/provider/smtp.rs:2: names the adapter `provider::twilio::X`"],
    ),
    (
        rules::files_import_in_no_circle,
        &["flow/bad.rs (names flow::f) -> flow/mod.rs (names flow::bad::A) -> flow/bad.rs"],
    ),
    (rules::heavy_crates_have_one_home, &["src/domain/bad.rs:4: `lapin` is for"]),
    (rules::only_config_reads_the_environment, &["src/domain/bad.rs:3: `std::env`"]),
    (rules::the_domain_is_pure, &["src/domain/bad.rs:4: `async`", "src/domain/bad.rs:4: `Timestamp::now`"]),
    (
        rules::secrets_cannot_be_printed,
        &[
            "src/domain/bad.rs:5: Code derives Debug",
            "src/domain/bad.rs:6: Code implements Display",
            "src/domain/bad.rs:7: Code implements Debug",
        ],
    ),
    (
        rules::nothing_is_unfinished_or_silenced,
        &[
            "src/flow/bad.rs:4: `.unwrap()`",
            "src/flow/bad.rs:4: `#[allow(`",
            "src/flow/bad.rs:5: a glob import",
        ],
    ),
    (
        rules::only_commands_print,
        &[
            "src/flow/bad.rs:4: `println!`",
            "src/flow/bad.rs:6: print in cli",
            "src/flow/bad.rs:6: `eprintln!`",
        ],
    ),
    (rules::files_are_short, &["src/flow/long.rs:502: over 500 lines"]),
    (rules::functions_are_short, &["src/flow/long.rs:2: f has 501 lines"]),
    (rules::modules_say_what_they_are, &["src/domain/bad.rs:1: does not begin"]),
    (
        rules::words_are_plain,
        &[
            "src/flow/bad.rs:4: `told`",
            "src/flow/bad.rs:4: `somebody`",
            "src/flow/bad.rs:1: `nobody`",
            "src/store/bad.lua:2: `whoever`",
            "src/store/bad.lua:2: `in vain`",
        ],
    ),
    (
        rules::comments_open_with_their_subject,
        &["src/flow/bad.rs:5: opens with a clause", "src/store/bad.lua:1: opens with a clause"],
    ),
    (rules::binaries_have_homes, &["bad.whl: a binary", "docs/bad: a binary"]),
    (
        rules::images_and_actions_have_digests,
        &["Dockerfile:1: `base:1` has no digest", "Dockerfile:2: `base@sha256:ab` has no digest"],
    ),
];
