//! `otpost suppressions`, run by the real binary on the real Redis.

use otpost::domain::channel::Channel;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::suppression::ManualSuppression;
use otpost::store::Store as _;

use crate::harness::{ALICE, BOB, RECIPIENT_KEY, within};
use crate::promises::secrets::has_run;
use crate::real::Redis;
use crate::why::{otpost, otpost_at, rows, said};

const MASKED: &str = "+57******4567";

fn name(to: &str) -> Digest16 {
    RecipientKeyring::new(&RECIPIENT_KEY).address(Channel::Sms, to)
}

#[tokio::test]
async fn a_number_is_suppressed_listed_and_removed_again() {
    let redis = Redis::fresh();
    let store = redis.store();
    let ask = |arguments: &[&str]| otpost(&redis, &[&["suppressions"], arguments].concat());
    assert_eq!(said(&ask(&["list"]), 0).0, "no recipient is suppressed\n");
    assert!(rows(&ask(&["list", "--json"]), 0).is_empty());

    let added = rows(&ask(&["add", "300 123 4567", "--reason", "pidió parar", "--json"]), 0);
    assert_eq!((&added[0]["to"], &added[0]["reason"]), (&MASKED.into(), &"pidió parar".into()));
    assert!(added[0]["since"].is_string() && added[0].get("until").is_none(), "{added:?}");
    assert_eq!(store.suppressions(9).await.expect("answers").len(), 1);
    let (out, _) = said(&ask(&["add", BOB, "--hours", "24"]), 0);
    assert!(out.lines().count() == 2 && out.contains("added by an operator"), "{out}");

    let (out, err) = said(&ask(&["list"]), 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with(MASKED), "{out}");
    assert!(
        lines[1].contains("Z  no end  ") && lines[1].ends_with("  added by an operator: pidió parar"),
        "{out}"
    );
    assert!(err.is_empty() && !has_run(&out, "3001234567"), "{out}{err}");
    let listed = rows(&ask(&["list", "--json"]), 0);
    assert!(listed.len() == 2 && listed[1]["until"].is_string(), "{listed:?}");
    let (_, err) = said(&ask(&["list", "--limit", "1"]), 0);
    assert!(err.contains("--limit"), "{err}");

    let (out, _) = said(&ask(&["remove", ALICE]), 0);
    assert!(out.starts_with("removed") && out.contains("pidió parar"), "{out}");
    let (out, err) = said(&ask(&["remove", ALICE]), 3);
    assert!(out.is_empty() && err == format!("otpost: {MASKED} is not suppressed\n"), "{err}");
    assert!(rows(&ask(&["remove", ALICE, "--json"]), 3).is_empty());
    assert_eq!(rows(&ask(&["remove", BOB, "--json"]), 0).len(), 1);
    assert_eq!(said(&ask(&["list"]), 0).0, "no recipient is suppressed\n");
}

#[tokio::test]
async fn a_suppression_that_is_not_listed_can_be_removed() {
    let redis = Redis::fresh();
    let suppression = ManualSuppression { masked: MASKED, reason: "asked", duration: None };
    redis.store().add_suppression(name(ALICE), &suppression).await.expect("answers");
    redis.delete("suppressed");
    assert_eq!(said(&otpost(&redis, &["suppressions", "list"]), 0).0, "no recipient is suppressed\n");
    let removed = rows(&otpost(&redis, &["suppressions", "remove", ALICE, "--json"]), 0);
    assert_eq!((&removed[0]["to"], &removed[0]["reason"]), (&MASKED.into(), &"asked".into()));
    said(&otpost(&redis, &["suppressions", "remove", ALICE]), 3);
}

#[tokio::test]
async fn a_longer_suppression_is_kept_and_shown() {
    let redis = Redis::fresh();
    let for_ever = ManualSuppression { masked: MASKED, reason: "for ever", duration: None };
    redis.store().add_suppression(name(ALICE), &for_ever).await.expect("answers");
    let printed = rows(&otpost(&redis, &["suppressions", "add", ALICE, "--hours", "1", "--json"]), 0);
    assert_eq!((&printed[0]["reason"], printed[0].get("until")), (&"for ever".into(), None));
}

#[tokio::test]
async fn text_that_others_stored_neither_turns_nor_hides_what_a_terminal_shows() {
    let redis = Redis::fresh();
    let odd = "a\u{202e}\u{2067}\u{200b}\u{2029}\u{85}\u{feff}\u{1b}z";
    let suppression = ManualSuppression { masked: MASKED, reason: odd, duration: None };
    redis.store().add_suppression(name(ALICE), &suppression).await.expect("answers");
    redis.store().set_kill_switch(Some(odd)).await.expect("answers");
    for (command, code) in [(&["suppressions", "list"] as &[&str], 0), (&["kill-switch", "status"], 3)] {
        let (out, _) = said(&otpost(&redis, command), code);
        assert!(out.contains("a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}z"), "{out:?}");
        let json = otpost(&redis, &[command, &["--json"]].concat());
        assert!(said(&json, code).0.is_ascii(), "{json:?}");
        assert_eq!(rows(&json, code)[0]["reason"], odd);
    }
}

#[tokio::test]
async fn wrong_usage_and_a_missing_store_change_nothing() {
    let redis = Redis::fresh();
    for wrong in [
        &[] as &[&str],
        &["add"],
        &["add", "12"],
        &["add", ALICE, "--hours", "0"],
        &["add", ALICE, "--hours", "87601"],
        &["add", ALICE, "--reason", "two\nlines"],
        &["remove"],
        &["remove", "+5730012345678"],
        &["list", "--limit", "0"],
        &["list", "--limit", "1001"],
    ] {
        let (out, err) = said(&otpost(&redis, &[&["suppressions"], wrong].concat()), 2);
        assert!(!has_run(&format!("{out}{err}"), "3001234567"), "{wrong:?}: {err}");
    }
    assert!(redis.store().suppressions(9).await.expect("answers").is_empty());
    for arguments in [&["list"] as &[&str], &["add", ALICE], &["remove", ALICE]] {
        let arguments = [&["suppressions"], arguments].concat();
        let output = within(async { otpost_at("redis://127.0.0.1:1", "none", &arguments) }).await;
        let (out, err) = said(&output, 1);
        assert!(
            out.is_empty() && err.starts_with("otpost: Redis (REDIS_URL): connection refused: "),
            "{err}"
        );
    }
}
