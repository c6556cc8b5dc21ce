use super::*;

const QUOTA: Quota = Quota { count: 4_000, window: Duration::from_secs(3_600) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Leases a block of a size that the calls before led to.
fn lease(places: &mut Places, id: u8, now: Duration) -> LeaseCall {
    let call = places.begin_lease(QUOTA, [id; 8], now);
    let until = UnixMillis(millis(now + VALID_FOR));
    places.answered(&call, &LeaseAnswer::Leased { count: call.wanted, until });
    call
}

fn millis(duration: Duration) -> u64 {
    crate::domain::time::millis(duration)
}

fn take(places: &mut Places, now: Duration) -> Option<Place> {
    places.take(now).map(|(place, _)| place)
}

#[test]
fn blocks_grow_while_they_are_used_up_and_shrink_when_they_are_not() {
    let mut places = Places::default();
    let mut sizes = Vec::new();
    for id in 1..8 {
        let leased = lease(&mut places, id, at(0)).wanted;
        sizes.push(leased);
        for _ in 0..leased {
            take(&mut places, at(0)).expect("leased");
        }
        assert_eq!(take(&mut places, at(0)), None);
    }
    assert_eq!(sizes, [1, 2, 4, 8, 16, 20, 20], "two blocks are a hundredth of the cap");
    lease(&mut places, 8, at(0));
    for _ in 0..3 {
        take(&mut places, at(0)).expect("leased");
    }
    assert_eq!(take(&mut places, at(55)), None, "the block is not valid any more");
    assert_eq!(lease(&mut places, 9, at(55)).wanted, 6);
}

#[test]
fn the_next_block_is_leased_once_when_half_of_one_is_used() {
    let mut places = Places { size: 5, ..Places::default() };
    lease(&mut places, 1, at(0));
    let asks: Vec<bool> = (0..10).map(|_| places.take(at(0)).expect("leased").1).collect();
    assert_eq!(asks.iter().filter(|asks| **asks).count(), 1);
    assert!(asks[4]);
}

#[test]
fn a_place_comes_back_to_its_block_also_when_that_is_used_up() {
    let mut places = Places::default();
    lease(&mut places, 1, at(0));
    let first = take(&mut places, at(0)).expect("leased");
    assert_eq!(take(&mut places, at(0)), None);
    places.put_back(&first);
    let call = lease(&mut places, 2, at(0));
    assert_eq!(call.returned, [([1; 8], 0)]);
    assert_eq!(places.begin_lease(QUOTA, [3; 8], at(0)).returned, [], "the store has taken it");
    let second = take(&mut places, at(1)).expect("leased");
    places.put_back(&second);
    assert_eq!(take(&mut places, at(1)), Some(second), "of the current block it is taken again");
}

#[test]
fn what_is_given_back_is_given_back_again_until_the_store_answers() {
    let mut places = Places { size: 4, ..Places::default() };
    lease(&mut places, 1, at(0));
    take(&mut places, at(0)).expect("leased");
    assert!(places.begin_return(at(1)).is_none(), "the block is in use");
    let lost = places.begin_return(at(60)).expect("seven are not used");
    let again = places.begin_return(at(300)).expect("no answer came");
    assert_eq!((&lost.returned, &again.returned), (&vec![([1; 8], 1)], &vec![([1; 8], 1)]));
    places.answered(&again, &LeaseAnswer::Returned);
    assert!(places.begin_return(at(300)).is_none());
}

#[test]
fn a_lease_without_an_answer_is_repeated_and_later_given_back() {
    let mut places = Places::default();
    let first = places.begin_lease(QUOTA, [1; 8], at(0));
    let again = places.begin_lease(QUOTA, [2; 8], at(29));
    assert_eq!((again.id, again.wanted), (first.id, first.wanted));
    places.answered(&again, &LeaseAnswer::Leased { count: 1, until: UnixMillis(60_000) });
    assert_eq!(take(&mut places, at(55)), None, "it counts from the first call");

    let mut places = Places::default();
    places.begin_lease(QUOTA, [1; 8], at(0));
    let other = places.begin_lease(QUOTA, [2; 8], at(30));
    assert_eq!((other.id, other.returned), ([2; 8], vec![([1; 8], 0)]));
}

#[test]
fn a_refusal_answers_those_that_waited_for_it() {
    let mut places = Places::default();
    let before = places.calls();
    let call = places.begin_lease(QUOTA, [1; 8], at(0));
    let during = places.calls();
    places.answered(&call, &LeaseAnswer::Refused(at(9)));
    assert_eq!(places.refusal_after(before), Some(at(9)));
    assert_eq!(places.refusal_after(during), None, "a place may have come back since");
}

#[test]
fn the_end_of_the_process_gives_back_all() {
    let mut places = Places { size: 4, ..Places::default() };
    lease(&mut places, 1, at(0));
    take(&mut places, at(0)).expect("leased");
    lease(&mut places, 2, at(0));
    places.begin_lease(QUOTA, [3; 8], at(0));
    places.end_all(at(1));
    let call = places.begin_return(at(1)).expect("there is much");
    assert_eq!(call.returned, [([1; 8], 1), ([2; 8], 0), ([3; 8], 0)]);
}

#[test]
fn the_repetition_of_an_unanswered_admission_uses_the_same_place_while_that_is_valid() {
    let mut places = Places { size: 5, ..Places::default() };
    lease(&mut places, 1, at(0));
    for token in [7, 8] {
        let place = take(&mut places, at(0)).expect("leased");
        places.keep(token, place, at(0));
    }
    assert!(places.take_kept(7, at(54)).is_some());
    assert_eq!(places.take_kept(7, at(54)), None, "it is taken once");
    assert_eq!(places.take_kept(8, at(55)), None, "its block is not valid any more");
}

#[test]
fn unused_places_go_back_although_another_block_is_in_use() {
    let mut places = Places { size: 5, ..Places::default() };
    lease(&mut places, 1, at(0));
    take(&mut places, at(0)).expect("leased");
    assert_eq!(take(&mut places, at(55)), None, "the block is not valid any more");
    lease(&mut places, 2, at(55));
    // The lease gave them back; these come later.
    take(&mut places, at(55)).expect("leased");
    places.end(*b"another1", 1, 5, at(55));
    assert!(places.begin_return(at(64)).is_none(), "a place may come back");
    let call = places.begin_return(at(65)).expect("it is due");
    assert_eq!((call.wanted, call.returned), (0, vec![(*b"another1", 1)]));
}
