//! Message lookups at Verify.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::time::UnixMillis;
use otpost::provider::{LookupError, Provider as _, ProviderMessage};

use super::{ALICE, adapter};
use crate::contract::provider::Draft;
use crate::fake_verify::{Answer, FakeVerify};

/// Looks up the messages to Alice since a time, given in seconds from now.
async fn find(fake: &FakeVerify, from_now: i64) -> Result<Vec<ProviderMessage>, LookupError> {
    let now = i64::try_from(Clock::System.now().0).expect("a time");
    let since = UnixMillis(u64::try_from(now + from_now * 1_000).expect("a time"));
    adapter(fake).find(&Draft::to(ALICE).to, since).await
}

async fn sent(fake: &FakeVerify, to: &str) {
    adapter(fake).send(&Draft::to(to).message()).await.expect("accepted");
}

#[tokio::test]
async fn a_message_is_found_by_its_number_service_and_time() {
    let fake = FakeVerify::start();
    sent(&fake, ALICE).await;
    sent(&fake, "+573109876543").await;
    let [found] =
        find(&fake, -5).await.expect("answered").try_into().unwrap_or_else(|_| panic!("one message"));
    assert_eq!(found.message_id, "VL00000000000000000000000000000000");
    assert_eq!(found.verification_sid.as_deref(), Some("VE00000000000000000000000000000000"));
    assert!(found.text.is_none() && found.segments.is_none());
    assert!(find(&fake, 5).await.expect("answered").is_empty(), "it was made before");
}

#[tokio::test]
async fn attempts_of_other_services_and_channels_are_not_found() {
    for (field, value) in [("service_sid", "VA00000000000000000000000000000009"), ("channel", "call")] {
        let fake = FakeVerify::start();
        sent(&fake, ALICE).await;
        fake.change_attempt(|attempt| attempt[field] = value.into());
        assert!(find(&fake, -5).await.expect("answered").is_empty(), "{field}");
    }
}

#[tokio::test]
async fn times_are_converted_to_our_clock() {
    for ahead in [-40, 40] {
        let fake = FakeVerify::start();
        fake.set_clock_ahead(ahead);
        sent(&fake, ALICE).await;
        let [found] =
            find(&fake, -5).await.expect("answered").try_into().unwrap_or_else(|_| panic!("one message"));
        let now = Clock::System.now();
        let off = now.since(found.created).max(found.created.since(now));
        assert!(off < Duration::from_secs(4), "{ahead}: {off:?}");
    }
}

#[tokio::test]
async fn an_odd_attempt_spoils_no_list() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(usize, Change); 5] = [
        (1, |attempt| attempt["channel_data"]["status"] = 7.into()),
        (1, |attempt| attempt["channel"] = serde_json::Value::Null),
        (1, |attempt| attempt["service_sid"] = serde_json::Value::Null),
        (0, |attempt| {
            attempt["channel"] = "call".into();
            attempt["sid"] = 7.into();
            attempt["verification_sid"] = serde_json::Value::Null;
        }),
        (0, |attempt| {
            attempt["service_sid"] = "VA00000000000000000000000000000009".into();
            attempt["sid"] = 7.into();
        }),
    ];
    for (besides, change) in changes {
        let fake = FakeVerify::start();
        sent(&fake, ALICE).await;
        fake.change_attempt(change);
        sent(&fake, ALICE).await;
        let found = find(&fake, -5).await.unwrap_or_else(|fault| panic!("{besides}: {fault}"));
        assert_eq!(found.len(), 1 + besides);
    }
}

#[tokio::test]
async fn only_a_complete_list_is_an_answer() {
    let unanswered =
        |found: &Result<Vec<ProviderMessage>, LookupError>| matches!(found, Err(LookupError::Unanswered(_)));
    let fake = FakeVerify::start();
    sent(&fake, ALICE).await;
    for answer in
        [Answer::Error(500, 20500), Answer::Error(429, 20429), Answer::DoThenTruncate, Answer::DoThenClose]
    {
        fake.next([answer]);
        assert!(unanswered(&find(&fake, -5).await), "{answer:?}");
    }
    for status in [401, 403] {
        fake.next([Answer::Error(status, 20003)]);
        assert!(matches!(find(&fake, -5).await, Err(LookupError::Refused { .. })), "{status}");
    }
    fake.change_attempt(|attempt| attempt["sid"] = "SM1".into());
    assert!(unanswered(&find(&fake, -5).await), "an invalid SID");
    fake.hide(true);
    assert!(find(&fake, -5).await.expect("answered").is_empty());
    fake.add_next_page();
    assert!(unanswered(&find(&fake, -5).await), "there is more");
}
