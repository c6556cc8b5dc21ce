//! Texts of messages: segments as counted by the provider's calculator, an operator's templates, and time zones.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use otpost::text::gsm7::{fold, measure};
use serde_json::{Value, json};

use crate::harness::{ALICE, Embedded, Options, template, with};
use crate::real::unique;

/// The results of sms-segments-calculator for some hundred texts, written by `tests/compare/segments/run.sh --write`.
const GOLDEN: &str = include_str!("golden/segments.json");

#[track_caller]
fn costs(text: &str, expected: &Value) {
    let segments = measure(text);
    let ours = json!([segments.encoding.as_str(), segments.units, segments.count]);
    assert_eq!(ours, json!([expected["encoding"], expected["units"], expected["segments"]]), "{text:?}");
}

#[test]
fn texts_have_the_segments_of_the_providers_own_calculator() {
    let golden: Value = serde_json::from_str(GOLDEN).expect("a golden file");
    let texts = golden["texts"].as_array().expect("a list");
    let mut folded = 0;
    for row in texts {
        let text = row["text"].as_str().expect("a text");
        costs(text, row);
        let twin = row["folded"]["text"].as_str().unwrap_or(text);
        assert_eq!(fold(text), twin, "the golden file was made with another folding");
        if row["folded"].is_object() {
            folded += 1;
            costs(twin, &row["folded"]);
        }
    }
    assert!(texts.len() > 400 && folded > 100, "{} texts, {folded} folded", texts.len());
}

/// A directory of one test, deleted when dropped.
struct Directory(PathBuf);

impl Directory {
    fn of(files: &[(&str, &[u8])]) -> Directory {
        let path = std::env::temp_dir().join(unique("templates"));
        std::fs::create_dir(&path).expect("a writable folder for temporary files");
        for (name, content) in files {
            std::fs::write(path.join(name), content).expect("a file");
        }
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn otpost(directory: &Path, more: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_otpost"))
        .args(arguments)
        .env_clear()
        .env("TEMPLATES_DIR", directory)
        .envs(more.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn lint(directory: &Path, more: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
    let output = otpost(directory, more, &["templates", "lint", "--json"], "");
    let rows = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), rows)
}

#[test]
fn the_linter_lists_the_segments_of_built_in_and_operator_templates() {
    let directory = Directory::of(&[
        ("default.es.txt", "{{ brand }}: código {{ code }}, hasta las {{ expires_at }}.\n".as_bytes()),
        ("login.es.txt", b"{{ code }}"),
        ("login.es.email.txt", b"Subject: {{ brand }}\n\n{{ code }}"),
        ("login.pt-BR.txt", b"\xef\xbb\xbf{{ code }}\r\n"),
        (".hidden", b"\xff"),
    ]);
    std::fs::create_dir(directory.0.join("..data")).expect("a folder as of a mounted volume");
    let (exit, rows) = lint(&directory.0, &[]);
    assert_eq!(exit, Some(0), "{rows:?}");
    let listed: Vec<_> = rows
        .iter()
        .map(|row| {
            ["channel", "template", "locale", "from", "encoding"]
                .map(|name| row[name].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        listed,
        [
            ["sms", "default", "en", "built in", "gsm7"],
            ["sms", "default", "es", "default.es.txt", "gsm7"],
            ["sms", "default", "pt", "built in", "gsm7"],
            ["sms", "login", "es", "login.es.txt", "gsm7"],
            ["sms", "login", "pt-br", "login.pt-BR.txt", "gsm7"],
            ["email", "default", "en", "built in", ""],
            ["email", "default", "es", "built in", ""],
            ["email", "default", "pt", "built in", ""],
            ["email", "login", "es", "login.es.email.txt", ""],
        ]
    );
    assert_eq!((&rows[4]["units"], &rows[4]["segments"]), (&json!(10), &json!(1)));
    let (exit, rows) = lint(&directory.0, &[("SMS_ENCODING", "unicode")]);
    assert_eq!((exit, &rows[0]["encoding"], &rows[0]["segments"]), (Some(0), &json!("ucs2"), &json!(2)));
}

#[test]
fn the_built_in_texts_cost_one_segment_each_with_the_longest_name() {
    let (exit, rows) = lint(&Directory::of(&[]).0, &[]);
    let (sms, emails) = rows.split_at(3);
    assert_eq!((exit, emails.len()), (Some(0), 3));
    assert!(sms.iter().all(|row| row["segments"] == 1 && row["encoding"] == "gsm7"), "{rows:?}");
}

#[test]
fn the_linter_lists_every_error_of_every_template_and_each_prevents_a_start() {
    let long = format!("{{{{ code }}}}{}", "a".repeat(9_000));
    let directory = Directory::of(&[
        ("default.es.txt", b"Llama ya al 601 234 567, {{ user_name }}"),
        ("login.es.txt", b"{{ code }"),
        ("login.txt", b"{{ code }}"),
        ("names.es.txt", b"{{ brnad }}: {% if usr %}{{ code }}{% endif %}"),
        ("README.md", b"about"),
        ("latin.es.txt", b"{{ code }} \xe9"),
        ("long.es.txt", long.as_bytes()),
    ]);
    std::fs::create_dir(directory.0.join("folder.es.txt")).expect("a folder");
    let (exit, rows) = lint(&directory.0, &[]);
    assert_eq!(exit, Some(3));
    let wrong: Vec<&str> = rows
        .iter()
        .filter(|row| row["problem"].is_string())
        .map(|row| row["from"].as_str().unwrap())
        .collect();
    for file in [
        "default.es.txt",
        "login.es.txt",
        "login.txt",
        "README.md",
        "latin.es.txt",
        "long.es.txt",
        "folder.es.txt",
    ] {
        assert!(wrong.contains(&file), "{file} is not listed: {wrong:?}");
    }
    assert!(wrong.iter().filter(|file| **file == "default.es.txt").count() >= 2, "{rows:?}");
    let start = otpost(&directory.0, &[("ENVIRONMENT", "development")], &["worker"], "");
    let errors = String::from_utf8(start.stderr).expect("text");
    assert_eq!(start.status.code(), Some(2), "{errors}");
    for file in wrong {
        assert!(errors.contains(&format!("TEMPLATES_DIR/{file} ")), "{file} is not listed: {errors}");
    }
    assert!(!errors.contains("Llama ya"), "{errors}");
    for problem in [
        "line 1: {{ brnad }} is no value: there are brand, code, expires_at, minutes, user_name",
        "{{ usr }} is no value",
        "{{ code }} must stand in it exactly once",
    ] {
        assert!(errors.contains(problem), "{problem:?} is not listed: {errors}");
    }
    // A command that makes no texts does not read templates.
    let other = otpost(&directory.0, &[], &["check-number", "3001234567"], "");
    assert_eq!(other.status.code(), Some(0), "{other:?}");
}

#[test]
fn a_directory_that_is_none_or_without_end_is_a_wrong_setting() {
    let directory = Directory::of(&[]);
    let missing = otpost(&directory.0.join("none"), &[], &["templates", "lint"], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("TEMPLATES_DIR does not exist"));
    let file = directory.0.with_extension("file");
    std::fs::write(&file, "").expect("a file");
    let none = otpost(&file, &[], &["templates", "lint"], "");
    std::fs::remove_file(&file).expect("it was there");
    assert!(String::from_utf8_lossy(&none.stderr).contains("TEMPLATES_DIR is no directory"));
    for n in 0..=200 {
        std::fs::write(directory.0.join(format!("t{n}.es.txt")), "{{ code }}").expect("a file");
    }
    let full = otpost(&directory.0, &[], &["templates", "lint"], "");
    assert_eq!(full.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&full.stderr).contains("TEMPLATES_DIR holds more than 200 files"));
}

#[test]
fn any_text_can_be_measured() {
    let none = Directory::of(&[]);
    let output = otpost(&none.0, &[], &["templates", "measure", "--json"], r#"["código", "a"]"#);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    assert_eq!((&rows[0]["encoding"], &rows[0]["folded"]["encoding"]), (&json!("ucs2"), &json!("gsm7")));
    assert_eq!((&rows[0]["folded"]["text"], rows.len()), (&json!("codigo"), 2));
    let output = otpost(&none.0, &[], &["templates", "measure", "--json"], "código");
    assert_eq!(output.status.code(), Some(2));
    let output = otpost(&none.0, &[], &["templates", "measure"], "código\n");
    let said =
        "código\n  as written  ucs2, 6 units, 1 segment\n  folded      gsm7, 6 units, 1 segment: codigo\n";
    assert_eq!(String::from_utf8(output.stdout).expect("text"), said);
}

#[tokio::test(start_paused = true)]
async fn a_resend_shows_the_same_expiry_in_the_zone_of_its_reader() {
    let until = template("default.es.txt", "{{ code }} hasta las {{ expires_at }}.");
    let mut gateway = Embedded::with(Options { templates: vec![until], ..Options::default() });
    let zoned = |id, zone: &str| with(id, ALICE, json!({"timezone": zone}));
    gateway.publish(&zoned("r1", "America/Bogota"));
    let ended = gateway.result().await;
    ended.expect_sent();
    tokio::time::advance(Duration::from_secs(400)).await;
    gateway.publish(&zoned("r2", "America/Bogota"));
    gateway.result().await.expect_sent();
    gateway.request("r3", ALICE).await.expect_sent();
    gateway.publish(&zoned("r4", "Asia/Kathmandu"));
    gateway.result().await.expect_sent();
    let bodies: Vec<String> = gateway.posted().into_iter().map(|posted| posted.body).collect();
    assert_eq!(
        (&bodies[0], &bodies[0]),
        (&bodies[1], &bodies[2]),
        "the same code and the same end, by default too"
    );
    assert_ne!(bodies[0], bodies[3]);
    let expires = ended.body["expires_at"].as_str().expect("a time");
    let minute = &expires["2026-11-22T13:".len().."2026-11-22T13:46".len()];
    assert!(bodies[0].ends_with(&format!(":{minute}.")), "{} of {expires}", bodies[0]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_language_gets_the_default_text_and_an_unknown_zone_or_template_an_answer() {
    let mut gateway = Embedded::start();
    gateway.publish(&with("r1", ALICE, json!({"locale": "tlh-Latn"})));
    gateway.result().await.expect_sent();
    assert!(gateway.posted()[0].body.contains("Tu codigo"), "{}", gateway.posted()[0].body);
    for (id, field, value) in
        [("r2", "locale", "klingon!"), ("r3", "timezone", "Etc/Unknown"), ("r4", "template", "welcome")]
    {
        gateway.publish(&with(id, ALICE, json!({field: value})));
        let ended = gateway.result().await;
        ended.expect("rejected", Some("invalid_request"));
        let message = ended.body["error"]["message"].as_str().expect("a sentence");
        assert!(message.starts_with(&format!("`{field}` ")) && !message.contains(value), "{message}");
    }
    assert_eq!(gateway.posted().len(), 1);
}

/// A copy of some of the machine's zones, or of none.
fn zones(files: &[(&str, &[u8])]) -> Directory {
    let directory = Directory::of(&[]);
    for (name, content) in files {
        let path = directory.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }
    directory
}

/// Version 1 of RFC 9636 with one type of local time: UTC.
const UTC: &[u8] = b"TZif\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0";

#[test]
fn the_built_in_zones_answer_where_the_machine_has_none_or_damaged_ones() {
    let few = zones(&[("Etc/UTC", UTC)]);
    let damaged = zones(&[("Etc/UTC", UTC), ("America/Bogota", b"TZif2"), ("Asia/Calcutta", b"garbage")]);
    let files = zones(&[("tzdata.zi", b"# version 1970a"), ("zone.tab", b"\xff"), ("Asia", b"no folder")]);
    let empty = zones(&[]);
    let file = empty.0.join("a-file");
    std::fs::write(&file, "no folder").expect("a file");
    let missing = empty.0.join("missing");
    for directory in
        [&few.0, &damaged.0, &files.0, &empty.0, &file, &missing, Path::new(""), Path::new("/dev/null")]
    {
        for zone in ["America/Bogota", "Asia/Calcutta", "asia/calcutta", "US/Eastern", "UTC"] {
            let more = [
                ("ENVIRONMENT", "development"),
                ("TZDIR", directory.to_str().expect("a plain path")),
                ("TZ", ":/nowhere/zone"),
                ("DEFAULT_TIMEZONE", zone),
            ];
            let output = otpost(&empty.0.join("none"), &more[..], &["check-number", "+573001234567"], "");
            assert_eq!(output.status.code(), Some(0), "{zone} with {directory:?}: {output:?}");
        }
    }
    // A folder of zones, or of anything else, is not searched.
    let made_up = zones(&[("Made/Up", UTC)]);
    let more = [("TZDIR", made_up.0.to_str().expect("a plain path")), ("DEFAULT_TIMEZONE", "Made/Up")];
    let more = [&more[..], &[("ENVIRONMENT", "development")]].concat();
    let output = otpost(&empty.0.join("none"), &more, &["check-number", "+573001234567"], "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let unknown = [("TZDIR", few.0.to_str().expect("a plain path")), ("DEFAULT_TIMEZONE", "Asia/Nowhere")];
    let output = otpost(&empty.0, &unknown, &["check-number", "+573001234567"], "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
