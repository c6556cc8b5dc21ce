//! Test numbers: a secret list, whose faults name positions, and whose expired entries stop nothing.

use jiff::Timestamp;
use otpost::clock::Clock;
use otpost::domain::address::Address;

use super::*;

const NAME: &str = "OTP_TEST_NUMBERS";

fn day(days: i64) -> String {
    let seconds = i64::try_from(Clock::System.now().as_seconds()).expect("seconds") + days * 86_400;
    Timestamp::from_second(seconds).expect("a time").strftime("%Y-%m-%d").to_string()
}

fn entry(number: &str, days: i64) -> String {
    format!("{number}:482913:{}", day(days))
}

#[test]
fn test_numbers_are_a_secret_of_processes_that_send() {
    let list = format!("{},{}", entry("+573001234567", 90), entry("+573109876543", -400));
    for role in [Role::Worker, Role::Serve, Role::Dev] {
        let settings = expect(role, &with(production(), &[(NAME, &list)]));
        let to = Address::parse("+573001234567", settings.default_region).expect("valid");
        let (position, found) = settings.test_numbers.find(&to).expect("an entry");
        assert_eq!((position, found.code().expose()), (1, "482913"));
        let shown = settings.shown.iter().find(|shown| shown.name == NAME).expect("it is shown");
        assert_eq!(shown.value, "(set)");
    }
    let settings = expect(Role::Http, &with(production(), &[(NAME, "nonsense")]));
    let to = Address::parse("+573001234567", settings.default_region).expect("valid");
    assert!(settings.test_numbers.find(&to).is_none());
}

#[test]
fn a_fault_names_the_position_and_never_the_number_or_the_code() {
    let good = entry("+573001234567", 1);
    for (bad, rule) in [
        (entry("+573109876543", 91), "entry 2 must end in at most 90 days"),
        ("+573109876543:482913".to_owned(), "entry 2 must be number:code:last day"),
        (good.clone(), "entry 2 has the number of entry 1"),
    ] {
        let list = format!("{good},{bad}");
        let text = expect_faults(Role::Worker, &with(production(), &[(NAME, &list)]), &[NAME]);
        assert!(text.contains(rule) && !text.contains("482913") && !text.contains("3109876543"), "{text}");
        expect_faults(Role::Show, &with(production(), &[(NAME, &list)]), &[NAME]);
    }
    let list = format!("+573001234567:48291:{}", day(1));
    let short = [(NAME, list.as_str()), ("OTP_CODE_LENGTH", "5")];
    let text = expect_faults(Role::Worker, &with(production(), &short), &[NAME]);
    assert!(text.contains("at least 6 digits in production; OTP_CODE_LENGTH is 5"), "{text}");
    assert!(!text.contains("48291"), "{text}");
    expect(Role::Dev, &with(production(), &short));
    let length = [(NAME, good.as_str()), ("OTP_CODE_LENGTH", "8")];
    let text = expect_faults(Role::Worker, &with(production(), &length), &[NAME]);
    assert!(text.contains("entry 1 must have a code of 8 digits"), "{text}");
}
