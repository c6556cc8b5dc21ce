use super::*;

const NOW: Duration = Duration::from_secs(1_000);

const QUEUE_FULL: u32 = 21_611;

fn refused(code: u32) -> SendFailure {
    let reason = if code == QUEUE_FULL { RefusalReason::QueueFull } else { RefusalReason::Other };
    SendFailure::Refused { scope: Scope::Sender, reason, provider_code: Some(code) }
}

fn number(n: u32) -> RecipientHash {
    RecipientHash::of(&format!("+57300123{n:04}"))
}

fn person(n: u8) -> Digest16 {
    Digest16::from_bytes([n; 16])
}

fn to(n: u8) -> RecipientInfo<'static> {
    RecipientInfo { recipient: person(n), country: Some(if n < 200 { "CO" } else { "EC" }) }
}

fn free() -> SenderRefusals {
    SenderRefusals::default()
}

/// Lets a sender answer a person's message.
fn answer(
    senders: &mut SenderPool,
    (sender, who): (usize, u8),
    refusals: &mut SenderRefusals,
    now: Duration,
    failure: Option<&SendFailure>,
) -> SenderVerdict {
    let assignment = SenderAssignment { sender, is_trial: senders.assign(sender), started: now };
    senders.record_answer(assignment, to(who), refusals, now, failure)
}

/// Lets a sender be refused, by as many people's messages as it takes.
fn refuse(senders: &mut SenderPool, sender: usize, now: Duration, code: u32) -> SenderVerdict {
    (0..2).fold(SenderVerdict::Nothing, |verdict, who| match verdict {
        SenderVerdict::Nothing => answer(senders, (sender, who), &mut free(), now, Some(&refused(code))),
        verdict => verdict,
    })
}

#[test]
fn senders_are_shared_out_evenly_and_for_good() {
    let (senders, mut counts) = (SenderPool::new(3), [0_u32; 3]);
    for n in 0..3_000 {
        let SenderChoice::Sender(sender) = senders.choose(number(n), &free(), NOW) else {
            panic!("all are healthy")
        };
        counts[sender] += 1;
    }
    assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
    // As it was in every version before.
    assert_eq!(RecipientHash::of("+573001234567"), RecipientHash(0xacda_5a7f_04ff_16ad));
}

#[test]
fn while_a_sender_cools_down_its_recipients_are_spread_over_the_others_and_come_back() {
    let mut senders = SenderPool::new(4);
    let choices = |senders: &SenderPool, now| -> Vec<SenderChoice> {
        (0..2_000).map(|n| senders.choose(number(n), &free(), now)).collect()
    };
    let before = choices(&senders, NOW);
    assert_eq!(refuse(&mut senders, 2, NOW, 21_606), SenderVerdict::CoolingDown(SENDER_COOLDOWN));
    let mut counts = [0_u32; 4];
    let meanwhile = choices(&senders, NOW);
    assert_eq!(meanwhile, choices(&senders, NOW + SENDER_COOLDOWN / 2), "the same one all the time");
    for (own, now) in before.iter().zip(&meanwhile) {
        match (own, now) {
            (SenderChoice::Sender(2), SenderChoice::Sender(other)) => counts[*other] += 1,
            _ => assert_eq!(now, own, "the others keep theirs"),
        }
    }
    assert_eq!(counts[2], 0);
    assert!([0, 1, 3].iter().all(|&n| counts[n] > 100), "{counts:?}");
    answer(&mut senders, (2, 9), &mut free(), NOW + SENDER_COOLDOWN, None);
    assert_eq!(before, choices(&senders, NOW + SENDER_COOLDOWN));
}

#[test]
fn a_full_queue_is_a_short_cooldown_and_any_other_refusal_a_long_one() {
    for (code, seconds) in [(QUEUE_FULL, 30), (21_212, 300), (21_603, 300), (21_606, 300), (30_034, 300)] {
        let mut senders = SenderPool::new(1);
        let cooldown = Duration::from_secs(seconds);
        assert_eq!(refuse(&mut senders, 0, NOW, code), SenderVerdict::CoolingDown(cooldown), "{code}");
        assert_eq!(senders.choose(number(1), &free(), NOW), SenderChoice::NoneAvailable(Some(cooldown)));
    }
}

#[test]
fn a_full_queue_concerns_the_sender_for_every_recipient() {
    let mut senders = SenderPool::new(2);
    let mut refusals = free();
    for sender in [0, 1] {
        let verdict = answer(&mut senders, (sender, 1), &mut refusals, NOW, Some(&refused(QUEUE_FULL)));
        assert_eq!(verdict, SenderVerdict::CoolingDown(COOLDOWN_QUEUE_FULL));
    }
}

#[test]
fn one_recipient_starts_no_cooldown_however_often_it_is_refused() {
    for (count, code) in [(1, 21_606), (3, 21_659)] {
        let mut senders = SenderPool::new(count);
        for n in 0..50 {
            let now = NOW + SENDER_COOLDOWN * n;
            let sender = usize::try_from(n).expect("small") % count;
            let verdict = answer(&mut senders, (sender, 1), &mut free(), now, Some(&refused(code)));
            assert_eq!(verdict, SenderVerdict::Nothing);
        }
        assert!(!senders.none_available(&free()));
    }
}

#[test]
fn refusals_with_an_accepted_message_between_are_not_in_a_row() {
    let mut senders = SenderPool::new(1);
    let no = refused(21_606);
    for n in 0..50 {
        let now = NOW + SENDER_COOLDOWN * u32::from(n);
        assert_eq!(answer(&mut senders, (0, n), &mut free(), now, Some(&no)), SenderVerdict::Nothing);
        let accepted = answer(&mut senders, (0, 99), &mut free(), now + SENDER_COOLDOWN / 2, None);
        assert_eq!(accepted, SenderVerdict::Works);
    }
    // A bad number of another recipient says nothing of the sender.
    let bad = SendFailure::refused(Scope::Recipient, Some(21_211));
    answer(&mut senders, (0, 1), &mut free(), NOW, Some(&no));
    answer(&mut senders, (0, 2), &mut free(), NOW, Some(&bad));
    assert_eq!(
        answer(&mut senders, (0, 3), &mut free(), NOW, Some(&no)),
        SenderVerdict::CoolingDown(SENDER_COOLDOWN)
    );
}

#[test]
fn refusals_of_one_country_need_more_evidence_while_the_sender_works_in_another() {
    let (no, later) = (refused(21_659), NOW + SENDER_COOLDOWN);
    let refusals = |senders: &mut SenderPool, people: &[u8]| -> Vec<SenderVerdict> {
        people.iter().map(|&who| answer(senders, (0, who), &mut free(), later, Some(&no))).collect()
    };
    let mut senders = SenderPool::new(1);
    answer(&mut senders, (0, 1), &mut free(), NOW, None);
    let abroad = refusals(&mut senders, &[201, 202, 203, 204, 204, 205]);
    assert_eq!(abroad[..5], [SenderVerdict::Nothing; 5]);
    assert_eq!(
        abroad[5],
        SenderVerdict::CoolingDown(SENDER_COOLDOWN),
        "in the end the sender is the likely cause"
    );
    for people in [[201, 2], [1, 2], [2, 201]] {
        let mut senders = SenderPool::new(1);
        answer(&mut senders, (0, 1), &mut free(), NOW, None);
        assert_eq!(
            refusals(&mut senders, &people)[1],
            SenderVerdict::CoolingDown(SENDER_COOLDOWN),
            "{people:?}"
        );
    }
}

#[test]
fn a_message_that_two_senders_refuse_alike_is_a_problem_of_its_recipient() {
    let mut senders = SenderPool::new(3);
    for who in 0..50 {
        let mut refusals = free();
        let own = answer(&mut senders, (0, who), &mut refusals, NOW, Some(&refused(21_606)));
        assert_eq!(own, SenderVerdict::Nothing);
        assert_ne!(senders.choose(number(1), &refusals, NOW), SenderChoice::Sender(0));
        let other = answer(&mut senders, (1, who), &mut refusals, NOW, Some(&refused(21_606)));
        assert_eq!(other, SenderVerdict::RefusedFromSeveralSenders);
    }
    assert!(senders.0.iter().all(Sender::is_healthy));
}

#[test]
fn with_another_code_a_second_refusal_concerns_the_second_sender() {
    let mut senders = SenderPool::new(2);
    let mut refusals = free();
    answer(&mut senders, (0, 1), &mut refusals, NOW, Some(&refused(21_606)));
    let verdict = answer(&mut senders, (1, 1), &mut refusals, NOW, Some(&refused(21_661)));
    assert_eq!(verdict, SenderVerdict::Nothing);
    assert!(senders.none_available(&refusals));
    assert_eq!(senders.choose(number(1), &refusals, NOW), SenderChoice::NoneAvailable(Some(SENDER_COOLDOWN)));
    assert!(
        matches!(senders.choose(number(1), &free(), NOW), SenderChoice::Sender(_)),
        "other recipients are not affected"
    );
}

#[test]
fn a_cooldown_ends_if_the_recipient_was_the_cause() {
    let mut senders = SenderPool::new(2);
    let (mut first, mut second) = (free(), free());
    let no = refused(21_606);
    answer(&mut senders, (0, 1), &mut first, NOW, Some(&no));
    assert_eq!(
        answer(&mut senders, (0, 2), &mut second, NOW, Some(&no)),
        SenderVerdict::CoolingDown(SENDER_COOLDOWN)
    );
    assert_eq!(
        answer(&mut senders, (1, 1), &mut first, NOW, Some(&no)),
        SenderVerdict::RefusedFromSeveralSenders
    );
    assert!(senders.none_available(&free()) || !senders.0[0].is_healthy());
    assert_eq!(
        answer(&mut senders, (1, 2), &mut second, NOW, Some(&no)),
        SenderVerdict::RefusedFromSeveralSenders
    );
    assert_eq!(senders.0[0].health, SenderHealth::CoolingDown(NOW));
}

#[test]
fn the_only_sender_gets_a_message_again_after_a_while_or_once_it_has_sent_another() {
    let mut senders = SenderPool::new(1);
    let mut refusals = free();
    let no = refused(21_606);
    answer(&mut senders, (0, 1), &mut refusals, NOW, Some(&no));
    let (soon, later) = (NOW + Duration::from_secs(1), NOW + SENDER_COOLDOWN);
    assert_eq!(senders.choose(number(1), &refusals, NOW), SenderChoice::NoneAvailable(Some(SENDER_COOLDOWN)));
    assert_eq!(senders.choose(number(1), &refusals, later), SenderChoice::Sender(0));
    // No other message has shown the cause, so the second refusal of this one does not either.
    assert_eq!(answer(&mut senders, (0, 1), &mut refusals, later, Some(&no)), SenderVerdict::Nothing);
    // A message sent before the refusal may have been the last that the sender could send.
    let early = SenderAssignment { sender: 0, is_trial: false, started: NOW };
    senders.record_answer(early, to(2), &mut free(), later, None);
    assert_eq!(
        senders.choose(number(1), &refusals, later),
        SenderChoice::NoneAvailable(Some(SENDER_COOLDOWN))
    );
    answer(&mut senders, (0, 2), &mut free(), later + soon, None);
    assert_eq!(senders.choose(number(1), &refusals, later + soon), SenderChoice::Sender(0));
    let verdict = answer(&mut senders, (0, 1), &mut refusals, later + soon, Some(&no));
    assert_eq!(verdict, SenderVerdict::RefusedFromSeveralSenders);
    assert!(!senders.none_available(&free()));
}

#[test]
fn after_the_cooldown_one_message_probes_a_sender() {
    let then = NOW + SENDER_COOLDOWN;
    for (failure, free_then) in [
        (Some(refused(QUEUE_FULL)), SenderChoice::NoneAvailable(Some(COOLDOWN_QUEUE_FULL))),
        (Some(SendFailure::NotConnected { detail: String::new() }), SenderChoice::Sender(0)),
        (Some(SendFailure::refused(Scope::Recipient, Some(21_211))), SenderChoice::Sender(0)),
        (None, SenderChoice::Sender(0)),
    ] {
        let mut senders = SenderPool::new(1);
        refuse(&mut senders, 0, NOW, 21_606);
        assert_eq!(senders.choose(number(1), &free(), then), SenderChoice::Sender(0));
        assert!(senders.assign(0));
        let waiting = senders.choose(number(2), &free(), then);
        assert_eq!(waiting, SenderChoice::NoneAvailable(None), "the others wait for its answer");
        let assignment = SenderAssignment { sender: 0, is_trial: true, started: then };
        senders.record_answer(assignment, to(7), &mut free(), then, failure.as_ref());
        assert_eq!(senders.choose(number(2), &free(), then), free_then, "{failure:?}");
    }
}

#[test]
fn one_recipient_cannot_start_another_cooldown_and_two_can() {
    let mut senders = SenderPool::new(1);
    let no = refused(21_606);
    refuse(&mut senders, 0, NOW, 21_606);
    let then = NOW + SENDER_COOLDOWN;
    for _ in 0..5 {
        assert_eq!(answer(&mut senders, (0, 1), &mut free(), then, Some(&no)), SenderVerdict::Nothing);
        assert_eq!(
            senders.choose(number(2), &free(), then),
            SenderChoice::Sender(0),
            "the next message probes"
        );
    }
    assert_eq!(
        answer(&mut senders, (0, 3), &mut free(), then, Some(&no)),
        SenderVerdict::CoolingDown(SENDER_COOLDOWN)
    );
}

#[test]
fn a_message_in_flight_neither_ends_a_cooldown_nor_makes_it_longer() {
    let mut senders = SenderPool::new(2);
    refuse(&mut senders, 0, NOW, 21_606);
    let late = SenderAssignment { sender: 0, is_trial: false, started: NOW };
    for failure in [Some(refused(21_606)), Some(refused(QUEUE_FULL)), None] {
        let now = NOW + SENDER_COOLDOWN / 2;
        let verdict = senders.record_answer(late, to(7), &mut free(), now, failure.as_ref());
        assert_eq!(verdict, SenderVerdict::Nothing);
    }
    assert_eq!(senders.0[0].health, SenderHealth::CoolingDown(NOW + SENDER_COOLDOWN));
}

#[test]
fn a_trial_that_is_not_made_is_the_next_ones() {
    let mut senders = SenderPool::new(1);
    refuse(&mut senders, 0, NOW, 21_611);
    senders.assign(0);
    senders.trial_undecided(0, NOW + SENDER_COOLDOWN);
    assert_eq!(senders.choose(number(1), &free(), NOW + SENDER_COOLDOWN), SenderChoice::Sender(0));
}

proptest::proptest! {
    #[test]
    fn whatever_one_recipient_is_answered_everybody_else_has_a_sender(
        count in 1_usize..4, answers in proptest::collection::vec((0_usize..4, 0_u8..3, 0_u64..400), 0..60),
    ) {
        let (mut senders, mut refusals, mut now) = (SenderPool::new(count), free(), NOW);
        for (sender, what, pause) in answers {
            let failure = [None, Some(refused(21_606)), Some(refused(21_659))][usize::from(what)].clone();
            answer(&mut senders, (sender % count, 1), &mut refusals, now, failure.as_ref());
            now += Duration::from_secs(pause);
            proptest::prop_assert!(matches!(senders.choose(number(2), &free(), now), SenderChoice::Sender(_)));
        }
    }
}
