//! `otpost defence`, run by the real binary on the real Redis.

use otpost::clock::Clock;
use otpost::domain::defence::{Change, DefenceBatch, Scope, ScopeChanges, ScopeKind, minute_of};
use otpost::store::DefenceStore as _;

use crate::harness::ALICE;
use crate::promises::secrets::has_run;
use crate::real::Redis;
use crate::why::{otpost, rows, said};

async fn hold_block(redis: &Redis) {
    let scope = Scope { kind: ScopeKind::Block, id: 573_001_234 };
    let own = Scope { kind: ScopeKind::Prefix, id: 57_300 };
    let of = |scope: Scope, sent| ScopeChanges {
        scope,
        budget: scope.kind.floor(),
        weight: 300,
        changes: vec![Change { minute: minute_of(Clock::System.now()), sent, verified: 0 }],
    };
    let prefix = otpost::domain::defence::PrefixChanges { own: of(own, 1), blocks: vec![of(scope, 90)] };
    let batch = DefenceBatch { writer: 1, sequence: 1, prefixes: vec![prefix], subjects: Vec::new() };
    redis.store().add_defence(&batch).await.expect("answers");
}

#[tokio::test]
async fn an_operator_sees_what_is_held_and_why_a_number_is_refused() {
    let redis = Redis::fresh();
    let (out, err) = said(&otpost(&redis, &["defence", "status"]), 0);
    assert!(out == "mode: monitor\nnothing is held\n" && err.contains("holds no data"), "{out}{err}");
    hold_block(&redis).await;
    let (out, _) = said(&otpost(&redis, &["defence", "status"]), 3);
    assert!(out.contains("block  +573001234  20"), "{out}");
    let explained = rows(
        &otpost(&redis, &["defence", "explain", "--to", ALICE, "--user", "u1", "--ip", "10.0.0.1", "--json"]),
        0,
    );
    assert_eq!(
        (&explained[0]["decision"], &explained[0]["has_verified"]),
        (&"unverified_block".into(), &false.into())
    );
    let scopes = explained[0]["scopes"].as_array().expect("a list");
    assert_eq!(scopes.len(), 4);
    assert_eq!(
        (&scopes[0]["pending"], &scopes[0]["budget_hour"], &scopes[0]["held"]),
        (&90.into(), &20.into(), &true.into())
    );
    let (out, err) = said(&otpost(&redis, &["defence", "explain", "--to", ALICE]), 0);
    assert!(out.contains(": unverified_block; retry after ") && !has_run(&out, "3001234567"), "{out}{err}");
    let looks = redis.dump().iter().filter(|(.., value)| value.contains("look_limits")).count();
    assert!(looks > 0, "it is a look at a person");
}

#[tokio::test]
async fn an_operator_overrules_for_a_while_and_gives_a_reason() {
    let redis = Redis::fresh();
    hold_block(&redis).await;
    let allow = ["defence", "allow", "--to", ALICE, "--for", "7d", "--reason", "a customer, +573001234567"];
    let (out, _) = said(&otpost(&redis, &allow), 0);
    assert!(out.contains("allow") && !has_run(&out, "3001234567"), "{out}");
    let decision = |exit| {
        rows(&otpost(&redis, &["defence", "explain", "--to", ALICE, "--json"]), exit)[0]["decision"].clone()
    };
    assert_eq!(decision(0), "allowed");
    said(&otpost(&redis, &["defence", "deny", "+37120", "--for", "12h", "--reason", "attack"]), 0);
    let (out, _) = said(&otpost(&redis, &["defence", "status"]), 3);
    assert!(out.contains("deny") && out.contains("+37120") && out.contains("attack"), "{out}");
    assert!(!has_run(&out, "3001234567"), "{out}");
    said(&otpost(&redis, &["defence", "remove", "--to", ALICE]), 0);
    assert_eq!(decision(0), "unverified_block");
    said(&otpost(&redis, &["defence", "remove", "--to", ALICE]), 3);
    for wrong in [
        &["deny", "37120", "--for", "1d", "--reason", "x"][..],
        &["deny", "+573001234567", "--for", "1d", "--reason", "x"],
        &["deny", "+37120", "--for", "91d", "--reason", "x"],
        &["deny", "+37120", "--for", "1d"],
        &["deny", "--for", "1d", "--reason", "x"],
        &["deny", "LV", "--to", ALICE, "--for", "1d", "--reason", "x"],
    ] {
        let (_, err) = said(&otpost(&redis, &[&["defence"], wrong].concat()), 2);
        assert!(err.contains("error:"), "{err}");
    }
}
