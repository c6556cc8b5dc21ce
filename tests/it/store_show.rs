//! `otpost store show`: every kind of key, in words.

use std::collections::BTreeSet;
use std::time::Duration;

use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::Status;
use otpost::store::{Admission, CompletionInput, KeyName, Refund, Store as _};
use serde_json::{Value, json};

use crate::contract::store::{self, TestRequest, request_to};
use crate::harness::ALICE;
use crate::promises::secrets::has_run;
use crate::real::Redis;
use crate::why::{otpost, rows, said, seed};

const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

fn show(redis: &Redis, arguments: &[&str], exit: i32) -> Vec<Value> {
    rows(&otpost(redis, &[&["store", "show", "--json"], arguments].concat()), exit)
}

#[tokio::test]
async fn every_key_that_the_steps_write_is_shown() {
    let redis = Redis::fresh();
    let store = redis.store();
    store::keeps_its_promises(&store).await;
    store.set_kill_switch(Some("a test")).await.expect("answers");
    let mut request = TestRequest { recipient: 244, ..request_to(1, "listed") };
    request.limits = Limits::default().with(Limit::All, 1_000);
    let input = request.admit();
    let Admission::Granted(grant) = store.admit(&input).await.expect("answers") else { panic!("it is new") };
    let end = CompletionInput {
        lease: input.lease,
        outcome: &store::sent(grant.now),
        refund: Refund::None,
        limits: input.limits,
        found_by_lookup: false,
        message_is_unnamed: false,
        suppression: None,
        poll_receipt_after: Some(Duration::from_secs(60)),
        spent: None,
    };
    store.complete(&end).await.expect("answers");
    store.heartbeat(1, true).await.expect("answers");
    let mut kinds = BTreeSet::new();
    for key in redis.key_names() {
        let shown = store.show(&KeyName::Bytes(key)).await.expect("answers").remove(0);
        assert!(shown.fields.is_some(), "{}: {:?}", shown.key, shown.kind);
        kinds.extend(shown.kind);
    }
    let expected = [
        "active workers",
        "all sends",
        "book under the budgets",
        "checks that may have been right",
        "claim",
        "counts of codes",
        "format",
        "holds of the pumping defence",
        "idempotency key",
        "jobs that redact messages",
        "key check values",
        "kill switch",
        "last opt-in or opt-out",
        "last server",
        "last batches of counts",
        "lease of the publisher of audit records",
        "messages to redact",
        "minutes in which receipts are due",
        "note of a suppression",
        "overrides of the pumping defence",
        "panics of a request",
        "receipts due in a minute",
        "recently verified",
        "recipient",
        "request",
        "sends of a network",
        "sends of a user",
        "sends of an IP",
        "suppressed recipients",
        "suppression of a country",
        "text of a request id",
        "unverified sends",
    ];
    assert_eq!(kinds, BTreeSet::from(expected));
}

#[tokio::test]
async fn a_recipient_and_a_request_are_found_by_their_names() {
    let redis = Redis::fresh();
    let store = redis.store();
    seed(&store, ALICE, UUID, Status::Sent, None).await;
    let recipient = show(&redis, &["--to", ALICE], 0).remove(0);
    assert_eq!(recipient["kind"], "recipient");
    let fields = &recipient["fields"];
    assert_eq!(fields["sends"][0]["request"], UUID);
    assert_eq!(
        (&fields["suppressed_until"], &fields["challenges"][0]["purpose"]),
        (&Value::Null, &json!("login"))
    );
    assert!(fields["sends"][0]["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{fields}");
    let request = show(&redis, &["--request", UUID], 0).remove(0);
    let fields = &request["fields"];
    assert_eq!((&fields["state"], &fields["outcome"]["status"]), (&json!("completed"), &json!("sent")));
    let times =
        [&fields["kept_until"], &fields["outcome"]["at"], &fields["outcome"]["notes"]["trail"][0]["at"]];
    assert!(times.iter().all(|at| at.as_str().is_some_and(|at| at.ends_with('Z'))), "{fields}");
    assert_eq!(fields["recipient"], recipient["fields"]["recipient"]);
    assert!(request["ttl_ms"].as_u64().is_some_and(|ttl| ttl > 80_000_000), "{request}");

    let key = request["key"].as_str().expect("a name");
    let bytes = redis.key_names().into_iter().find(|name| name.escape_ascii().to_string() == key);
    let hexadecimal = format!("0x{}", hex::encode(bytes.expect("it is there")));
    for form in [key, &format!("\"{key}\""), &hexadecimal] {
        assert_eq!(show(&redis, &[form], 0)[0]["fields"], *fields, "{form}");
    }
    for arguments in [&["--to", ALICE][..], &["--request", UUID], &["--request", UUID, "--to", ALICE]] {
        let (out, err) = said(&otpost(&redis, &[&["store", "show"], arguments].concat()), 0);
        assert!(err.is_empty() && out.contains("  kind: re"), "{out}{err}");
        assert!(!has_run(&out, "3001234567"), "{out}");
    }
}

#[tokio::test]
async fn another_number_of_shards_is_said() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    seed(&store, ALICE, UUID, Status::Sent, None).await;
    for arguments in [&["--to", ALICE][..], &["--request", UUID]] {
        let (_, err) = said(&otpost(&redis, &[&["store", "show"], arguments].concat()), 1);
        assert!(err.contains("REDIS_SHARDS is 1, and REDIS_PREFIX holds data for 16"), "{err}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let redis = Redis::fresh();
    let store = redis.store();
    assert!(show(&redis, &["--to", ALICE], 3).is_empty());
    for wrong in ["0x0g", "\\y", "end\\"] {
        assert_eq!(said(&otpost(&redis, &["store", "show", wrong]), 2).0, "");
    }
    seed(&store, ALICE, UUID, Status::Sent, None).await;
    for key in [format!("{{{}}}:nothing", redis.prefix), "elsewhere".to_owned()] {
        redis.write("nothing", "x");
        let shown = show(&redis, &[&key], 3);
        assert!(shown.iter().all(|row| row["kind"].is_null() && row["fields"] == json!({})), "{shown:?}");
    }
    let named = show(&redis, &["--to", ALICE], 0).remove(0);
    let name = named["key"].as_str().expect("a name");
    redis.truncate(name);
    let damaged = show(&redis, &["--to", ALICE], 3).remove(0);
    assert_eq!((&damaged["kind"], &damaged["fields"]), (&json!("recipient"), &json!({})));
    let (out, _) = said(&otpost(&redis, &["store", "show", "--to", ALICE]), 3);
    assert!(out.contains("  unreadable: damaged"), "{out}");
}
