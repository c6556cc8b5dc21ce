use super::*;

const BUDGET: Budget = Budget { hour: 20, day: 60 };

fn record(minute: u32) -> UnverifiedRecord {
    UnverifiedRecord { budget: BUDGET, ..UnverifiedRecord::new(minute) }
}

fn sent(minute: u32, sent: u16) -> Change {
    Change { minute, sent, verified: 0 }
}

fn verified(minute: u32, verified: u16) -> Change {
    Change { minute, sent: 0, verified }
}

#[test]
fn a_send_is_pending_for_three_minutes_and_then_counts_in_full_until_it_leaks() {
    let mut record = record(100);
    record.apply(sent(100, 60), 100);
    assert!(!record.is_over_budget(300), "18 are expected to stay unverified");
    assert!(record.is_over_budget(400), "24 are");
    record.advance(102);
    assert_eq!((record.pending, record.hour), ([0, 0, 60], 0));
    record.advance(103);
    assert_eq!((record.pending, record.unverified()), ([0; 3], Budget { hour: 59, day: 59 }));
    assert!(record.is_over_budget(0));
    // 60 sends of which 20 leak in an hour, and 60 in a day.
    record.advance(103 + 118);
    assert!(record.is_over_budget(0), "of the hour");
    record.advance(103 + 119);
    assert!(!record.is_over_budget(0));
    record.advance(103 + 1_440);
    assert_eq!((record.hour, record.day), (0, 0));
}

#[test]
fn a_verification_is_taken_off_the_minute_of_its_send_or_off_the_buckets() {
    let mut record = record(100);
    record.apply(sent(99, 2), 100);
    record.apply(sent(100, 2), 100);
    record.apply(verified(99, 1), 100);
    assert_eq!(record.pending, [2, 1, 0]);
    record.advance(110);
    let before = record.unverified();
    record.apply(verified(100, 2), 110);
    assert_eq!(record.unverified().day, before.day - 2);
    record.apply(verified(100, 9), 110);
    assert_eq!((record.hour, record.day), (0, 0), "no debt for later");
    record.apply(sent(500, 1), 110);
    assert_eq!(record.pending, [1, 0, 0], "a clock that is ahead counts now");
}

#[test]
fn a_burst_and_a_slow_trickle_are_over_the_budget_and_normal_use_is_not() {
    let over_after = |per_minute: u16, every: u32, of_ten_verified: u16| {
        let mut record = record(0);
        (0..1_440).find(|minute| {
            record.advance(*minute);
            if minute % every == 0 {
                record.apply(sent(*minute, per_minute), *minute);
            }
            if minute % (10 * every) == 0 {
                record.apply(verified(*minute, of_ten_verified), *minute);
            }
            record.is_over_budget(300)
        })
    };
    assert_eq!(over_after(100, 1, 0), Some(0));
    assert!(over_after(1, 1, 0).is_some_and(|minutes| minutes < 40));
    assert!(over_after(1, 10, 0).is_some_and(|minutes| minutes > 60), "by the day");
    assert_eq!(over_after(1, 15, 7), None, "four an hour, of which seven of ten are verified");
    assert_eq!(over_after(1, 30, 0), None, "two an hour");
}

#[test]
fn a_hold_lasts_until_a_part_of_the_budget_is_left() {
    let mut record = record(100);
    record.apply(sent(100, 40), 100);
    // Half of 60 is reached after 10 leak in the bucket of a day, half of 20 after 30 in that of an hour.
    assert_eq!(record.minutes_until(4), 240);
    record.apply(verified(100, 35), 100);
    assert_eq!(record.minutes_until(4), 0);
    record.apply(sent(100, 60_000), 100);
    assert_eq!(record.minutes_until(4), HOLD_MINUTES_MAX);
}

#[test]
fn a_rule_is_read_by_its_number_and_named_by_its_word() {
    for rule in DefenceRule::ALL {
        assert_eq!(DefenceRule::from_stored(rule.stored()), Some(rule));
        assert_eq!(serde_json::to_value(rule).expect("a word"), rule.as_str());
    }
    assert_eq!(DefenceRule::from_stored(0), None);
}
