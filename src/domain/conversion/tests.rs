use super::*;
use crate::domain::history::Attempt;
use crate::domain::outcome::{ErrorCode, OutcomeError};

const AT: UnixMillis = UnixMillis(1_800_000_123_456);

fn names(to: &str, sent_by: Option<ProviderSender>) -> Vec<(Dimension, String)> {
    let to = Address::parse(to, "CO".parse().expect("a country")).expect("a recipient");
    let code = CountedCode::new(AT, &to, sent_by);
    code.names().map(|(_, dimension, name)| (dimension, name)).collect()
}

fn by_twilio(sender: u32) -> Option<ProviderSender> {
    Some(ProviderSender { provider: ProviderWord::new("twilio"), sender })
}

#[test]
fn a_number_counts_by_its_country_prefix_and_block_and_never_whole() {
    let expected = [
        (Dimension::Channel, "sms"),
        (Dimension::Country, "CO"),
        (Dimension::Prefix, "+57300"),
        (Dimension::Block, "+573001234"),
        (Dimension::Provider, "twilio"),
        (Dimension::Sender, "twilio 2"),
    ];
    let expected = expected.map(|(dimension, name)| (dimension, name.to_owned()));
    assert_eq!(names("+573001234567", by_twilio(2)), expected);
}

#[test]
fn an_address_counts_by_channel_provider_and_sender() {
    let dimensions: Vec<Dimension> =
        names("ana@example.co", by_twilio(1)).into_iter().map(|(dimension, _)| dimension).collect();
    assert_eq!(dimensions, [Dimension::Channel, Dimension::Provider, Dimension::Sender]);
}

#[test]
fn every_number_of_a_plan_keeps_its_last_three_digits_to_itself() {
    // The shortest and the longest national numbers, a shared code, and one without a country.
    for number in ["+2908123", "+4915123456789", "+5491123456789", "+12015550123", "+882161234567"] {
        let Ok(to) = Address::parse(number, "CO".parse().expect("a country")) else { continue };
        let code = CountedCode::new(AT, &to, None);
        for (_, dimension, name) in code.names().filter(|(_, dimension, _)| dimension.has_digits()) {
            assert!(name.len() <= number.len() - DIGITS_HIDDEN, "{dimension:?}");
            assert!(number.starts_with(&name), "{dimension:?}");
        }
    }
}

#[test]
fn a_code_without_digits_is_one_of_the_others() {
    let to = Address::parse("+573001234567", "CO".parse().expect("a country")).expect("a recipient");
    let code = CountedCode::new(AT, &to, None).without_digits();
    let names: Vec<(Dimension, String)> =
        code.names().map(|(_, dimension, name)| (dimension, name)).collect();
    let other = |dimension| (dimension, OTHER.to_owned());
    let expected = [
        (Dimension::Channel, "sms".to_owned()),
        other(Dimension::Country),
        other(Dimension::Prefix),
        other(Dimension::Block),
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_bucket_begins_and_ends_where_its_neighbours_do() {
    for width in BucketWidth::ALL {
        let bucket = Bucket::of(width, AT);
        assert!(bucket.start() <= AT && AT < bucket.end(), "{width:?}");
        assert_eq!(bucket.end(), bucket.next().start());
        assert_eq!(Bucket::of(width, bucket.end()), bucket.next());
    }
}

#[test]
fn a_send_is_of_the_time_of_its_admission_and_of_its_last_sender() {
    let attempt = |sender, answer: &str| {
        let answer = answer.to_owned();
        HistoryEvent::Attempted(Attempt { answer, ..Attempt::accepted(1, sender, 9) })
    };
    let error = OutcomeError::of(ErrorCode::InDoubt);
    let mut outcome = Outcome::with_error(Status::Unknown, AT, "verification", error);
    outcome.provider = Some("twilio".to_owned());
    assert_eq!(CodeSend::of_outcome(&outcome), Some(CodeSend { at: Some(AT), sent_by: by_twilio(1) }));
    outcome.history.add(UnixMillis(7), HistoryEvent::Admitted(1));
    outcome.history.add(UnixMillis(8), attempt(Some(1), "throttled"));
    outcome.history.add(UnixMillis(9), attempt(Some(2), "accepted"));
    let send = Some(CodeSend { at: Some(UnixMillis(7)), sent_by: by_twilio(2) });
    assert_eq!(CodeSend::of_outcome(&outcome), send);
    outcome.status = Status::Sent;
    assert_eq!(CodeSend::of_outcome(&outcome), send);
    for status in [Status::Failed, Status::Rejected] {
        outcome.status = status;
        assert_eq!(CodeSend::of_outcome(&outcome), None);
    }
}

/// The letters, the parts and the part of a name are in stored keys.
#[test]
fn what_is_stored_never_changes() {
    let letters: String = Dimension::ALL.into_iter().map(Dimension::letter).collect();
    assert_eq!(letters, "crpbvs");
    assert!(
        Dimension::ALL
            .into_iter()
            .all(|dimension| Dimension::of_letter(dimension.letter()) == Some(dimension))
    );
    assert_eq!(Dimension::ALL.map(Dimension::parts), [1, 3, 10, 50, 1, 1]);
    assert_eq!(Dimension::Block.part("+573001234"), 32);
    assert_eq!(Dimension::Country.part("CO"), 2);
}
