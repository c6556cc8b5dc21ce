//! The requests of a user: rejected and ended ones too, while their records are kept.

use std::collections::BTreeSet;

use otpost::domain::keyed_digest::Digest16;
use otpost::store::Refund;

use super::{
    HOUR, START, TestRequest, TimedStore, admit, completion, granted, named, rejected, request_to, sent,
};

const ANA: u8 = 220;

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    requests_of_several_recipients_are_found_by_their_user(store).await;
}

fn of(user: u8, recipient: u8, id: &str) -> TestRequest {
    let mut request = TestRequest { recipient, user: Some(named(user)), ..request_to(1, id) };
    request.history.user = Some(named(user));
    request
}

async fn found(store: &dyn TimedStore, user: u8, count_max: usize) -> BTreeSet<(Digest16, String)> {
    let requests = store.requests_of_user(named(user), count_max).await.expect("the store answers");
    let count = requests.len();
    let found: BTreeSet<_> =
        requests.into_iter().map(|request| (request.recipient, request.request_id.to_string())).collect();
    assert_eq!(found.len(), count, "each once");
    found
}

async fn requests_of_several_recipients_are_found_by_their_user(store: &dyn TimedStore) {
    store.at(START);
    let (progressing, ended) =
        (of(ANA, 69, "of-ana/1"), of(ANA, 251, "3f0c1a52-7d3e-4b7e-9a55-0f6f0e2f9a11"));
    granted(admit(store, &progressing).await);
    let grant = granted(admit(store, &ended).await);
    let mut outcome = sent(grant.now);
    outcome.history.user = Some(named(ANA));
    store.complete(&completion(ended.lease(), &outcome, Refund::None)).await.expect("the store answers");
    granted(admit(store, &of(ANA + 1, 243, "of-another")).await);
    granted(admit(store, &TestRequest { recipient: 254, ..request_to(1, "of-no-user") }).await);
    rejected(admit(store, &of(ANA, 69, "too-soon")).await);
    let expected: BTreeSet<_> = [&progressing, &ended]
        .map(|request| (named(request.recipient), request.request.to_string()))
        .into_iter()
        .chain([(named(69), "too-soon".to_owned())])
        .collect();
    assert_eq!(found(store, ANA, 100).await, expected);
    assert!(found(store, ANA, 2).await.is_subset(&expected) && found(store, ANA, 2).await.len() == 2);
    assert!(found(store, ANA + 2, 100).await.is_empty());
    store.at(START.plus(25 * HOUR));
    assert!(found(store, ANA, 100).await.is_empty(), "their records have ended");
}
