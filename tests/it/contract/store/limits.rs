//! Limits, refunds and the cooldown.

use otpost::domain::reached_limit::ReachedLimit;

use super::*;

pub(super) async fn limits_slide_and_say_when_to_retry(store: &dyn TimedStore) {
    for number in 0..5_u32 {
        store.at(START.plus(Duration::from_secs(60) * number));
        grant_and_complete(store, &request_to(3, &format!("slide-{number}"))).await;
    }
    store.at(START.plus(Duration::from_secs(300)));
    let rejection = rejected(admit(store, &request_to(3, "slide-5")).await);
    assert_eq!((rejection.code, rejection.retry_after), (ErrorCode::RateLimited, Some(3_300)));
    store.at(START.plus(HOUR));
    grant_and_complete(store, &request_to(3, "slide-6")).await;
    let again = rejected(admit(store, &request_to(3, "slide-7")).await);
    assert_eq!((again.code, again.retry_after), (ErrorCode::RateLimited, Some(60)));
}

pub(super) async fn a_refund_returns_the_charge_but_not_the_cooldown(store: &dyn TimedStore) {
    store.at(START);
    let request = request_to(4, "refund");
    granted(admit(store, &request).await);
    let outcome = failed(START);
    let completion = completion(request.lease(), &outcome, Refund::FullAndCounted);
    store.complete(&completion).await.expect("answers");
    let usage = store.usage(&request.lease().subject, None, &limits()).await.expect("the store answers");
    assert_eq!(usage.used, 0);
    let rejection = rejected(admit(store, &request_to(4, "next")).await);
    assert_eq!((rejection.code, rejection.retry_after), (ErrorCode::Cooldown, Some(30)));
    assert_eq!(rejection.limit, Some(ReachedLimit::Cooldown));
    store.at(START.plus(Duration::from_secs(30)));
    granted(admit(store, &request_to(4, "later")).await);
}

/// The provider could not tell apart two messages in doubt to one number.
pub(super) async fn a_cooldown_lasts_as_long_as_its_request_may_be_sent(store: &dyn TimedStore) {
    let refused_for = async |request: &str, at: UnixMillis| {
        store.at(at);
        let rejection = rejected(admit(store, &request_to(90, request)).await);
        assert_eq!(rejection.code, ErrorCode::Cooldown);
        let usage = store.usage(&request_to(90, request).lease().subject, None, &limits()).await;
        let cooldown = usage.expect("the store answers").cooldown_left;
        assert_eq!(Some(cooldown.as_secs()), rejection.retry_after, "usage says the same");
        cooldown.as_secs()
    };
    let at = |seconds| START.plus(Duration::from_secs(seconds));
    store.at(START);
    let first = request_to(90, "doubtful%1");
    granted(admit(store, &first).await);
    let doubt = Progress::InDoubt(Duration::from_secs(45));
    store.update_progress(&first.lease(), Some(1), doubt, None).await.expect("answers");
    assert_eq!(refused_for("too-soon", at(10)).await, 20, "the cooldown itself");
    assert_eq!(refused_for("in-doubt", at(30)).await, 15, "until the lease ends");
    assert_eq!(refused_for("no-lease", at(599)).await, 1);
    store.at(at(600));
    granted(admit(store, &request_to(90, "past-its-deadline")).await);
    // A completed request extends no cooldown.
    let outcome = sent(at(600));
    let last = request_to(90, "past-its-deadline");
    store.complete(&completion(last.lease(), &outcome, Refund::None)).await.expect("answers");
    store.at(at(630));
    granted(admit(store, &request_to(90, "after-its-end")).await);
    // Without a cooldown, no request waits for another.
    let limits = Limits { cooldown: Duration::ZERO, ..limits() };
    for request in ["free-1", "free-2"] {
        granted(admit(store, &TestRequest { limits, ..request_to(91, request) }).await);
    }
}

pub(super) async fn refunds_after_refusals_are_limited(store: &dyn TimedStore) {
    for number in 0..10_u32 {
        store.at(START.plus(Duration::from_secs(30) * number));
        let request = request_to(5, &format!("free-{number}"));
        granted(admit(store, &request).await);
        let outcome = failed(START);
        let completion = completion(request.lease(), &outcome, Refund::FullAndCounted);
        store.complete(&completion).await.expect("answers");
    }
    store.at(START.plus(Duration::from_secs(600)));
    let rejection = rejected(admit(store, &request_to(5, "free-10")).await);
    assert_eq!((rejection.code, rejection.limit), (ErrorCode::RateLimited, Some(ReachedLimit::Refunds)));
}

pub(super) async fn a_users_limit_spans_recipients(store: &dyn TimedStore) {
    store.at(START);
    for recipient in 16..19 {
        granted(admit(store, &TestRequest { user: Some(named(240)), ..request_to(recipient, "user") }).await);
    }
    let fourth = TestRequest { user: Some(named(240)), ..request_to(19, "user") };
    assert_eq!(rejected(admit(store, &fourth).await).code, ErrorCode::RateLimited);
    granted(admit(store, &TestRequest { user: Some(named(241)), ..request_to(19, "other-user") }).await);
}

pub(super) async fn a_networks_limit_spans_recipients_and_is_refunded(store: &dyn TimedStore) {
    let from =
        |recipient, network| TestRequest { network: Some(named(network)), ..request_to(recipient, "net") };
    store.at(START);
    let first = from(81, 242);
    granted(admit(store, &first).await);
    granted(admit(store, &from(82, 242)).await);
    assert_eq!(rejected(admit(store, &from(83, 242)).await).code, ErrorCode::RateLimited);
    granted(admit(store, &from(84, 243)).await);
    let usage = store.usage(&from(85, 242).lease().subject, None, &limits()).await.expect("answers");
    assert_eq!(usage.limited_for, HOUR);
    let outcome = failed(START);
    let completion = completion(first.lease(), &outcome, Refund::Full);
    store.complete(&completion).await.expect("answers");
    granted(admit(store, &from(86, 242)).await);
    assert_eq!(rejected(admit(store, &from(87, 242)).await).code, ErrorCode::RateLimited);
}

/// Requests may be admitted in the same millisecond, and an e-mail is not charged to the limit of all text messages.
pub(super) async fn a_refund_frees_only_what_its_request_was_charged(store: &dyn TimedStore) {
    // A log of more than 256 events is kept in another way.
    for (hour, count) in [(0, 1), (2, 257)] {
        let now = START.plus(hour * HOUR);
        store.at(now);
        let own = limits().with(Limit::Recipient, 1_000).with(Limit::RecipientDay, 1_000);
        let capped = Limits { cooldown: Duration::ZERO, ..own.with(Limit::All, count) };
        let text = |n: u32| TestRequest { limits: capped, ..request_to(147, &format!("text{hour}-{n}")) };
        for n in 0..count {
            granted(admit(store, &text(n)).await);
        }
        let email = request_to(148, &format!("email{hour}"));
        granted(admit(store, &email).await);
        let outcome = failed(now);
        let completion = completion(email.lease(), &outcome, Refund::Full);
        assert_eq!(store.complete(&completion).await.expect("answers"), CompletionAnswer::Recorded);
        assert_eq!(rejected(admit(store, &text(count)).await).code, ErrorCode::RateLimited, "{count}");
    }
}

/// Of several limits, the one with the longest wait; of equal waits, the first.
pub(super) async fn a_rejection_names_its_limit(store: &dyn TimedStore) {
    const DAY: Duration = Duration::from_secs(86_400);
    let free = Limits { cooldown: Duration::ZERO, ..limits() };
    let off = Limit::ALL.into_iter().fold(free, |limits, limit| limits.with(limit, 0));
    let one_of = |limits: &[Limit]| limits.iter().fold(off, |all, limit| all.with(*limit, 1));
    let alone = Limit::OF_SENDS.map(|limit| (vec![limit], limit));
    let several = [
        (vec![Limit::Recipient, Limit::RecipientDay, Limit::User, Limit::All], Limit::RecipientDay),
        (vec![Limit::Ip, Limit::Network, Limit::User], Limit::User),
        (vec![Limit::Network, Limit::Recipient], Limit::Recipient),
    ];
    for (day, (on, expected)) in (0..).zip(alone.into_iter().chain(several)) {
        store.at(START.plus(2 * DAY * day));
        let (user, network) = (Some(named(244)), Some(named(245)));
        let ask = async |name: &str| {
            let request = TestRequest {
                user,
                network,
                limits: one_of(&on),
                ..request_to(96, &format!("{day}-{name}"))
            };
            let mut input = request.admit();
            input.lease.subject.ip = Some(named(246));
            let admission = store.admit(&input).await.expect("answers");
            let usage = store.usage(&input.lease.subject, None, input.limits).await.expect("answers");
            (admission, usage.limited_by)
        };
        let expected = Some(ReachedLimit::from(expected));
        let (first, _) = ask("first").await;
        granted(first);
        for name in ["second", "third", "second"] {
            let (second, limited_by) = ask(name).await;
            assert_eq!((rejected(second).limit, limited_by), (expected, expected), "{name}, {on:?}");
        }
    }
}
