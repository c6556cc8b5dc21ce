//! Prices, their currency, and budgets.

use otpost::domain::address::Address;
use otpost::domain::amount::{Amount, Currency};

use super::*;

const FILE: &str = "PRICES_FILE";

#[test]
fn prices_of_a_file_are_read_where_messages_are_sent() {
    let file = File::of("twilio +57 0.035 COP\ntwilio * 1 COP\n");
    let given = [(FILE, file.path()), ("SPEND_CURRENCY", "COP"), ("SPEND_PER_HOUR_MAX", "12.50")];
    let settings = expect(Role::Worker, &with(production(), &given));
    let to = Address::parse("+573001234567", settings.default_region).expect("valid");
    assert_eq!(settings.spend.prices.of("twilio", &to).amount, Amount::from_micros(35_000));
    assert_eq!(
        (settings.spend.is_estimate, settings.spend.currency),
        (false, Currency::parse("COP").expect("one"))
    );
    assert_eq!(settings.spend.budgets.per_hour, Amount::parse("12.5"));
    assert_eq!(settings.spend.budgets.per_day, None);
    let given = [(FILE, "/nonexistent"), ("SPEND_CURRENCY", "COP")];
    let settings = expect(Role::Http, &with(production(), &given));
    assert!(settings.spend.prices.is_empty() && !settings.spend.is_estimate);
}

#[test]
fn faults_name_the_line_the_field_and_the_rule() {
    let file = File::of("twilio * 0.04 EUR\nsendgrid * free USD\n");
    let text = expect_faults(Role::Worker, &with(production(), &[(FILE, file.path())]), &[FILE]);
    for fault in
        ["line 1: `currency` must be that of SPEND_CURRENCY, USD", "line 2: `price` must be an amount"]
    {
        assert!(text.contains(fault), "{text}");
    }
    assert!(!text.contains("free"), "{text}");
    let text = expect_faults(Role::Worker, &with(production(), &[(FILE, "/nonexistent")]), &[FILE]);
    assert!(text.contains("names a file that does not exist"), "{text}");
    let text =
        expect_faults(Role::Worker, &with(production(), &[("SPEND_CURRENCY", "COP")]), &["SPEND_CURRENCY"]);
    assert!(text.contains("must be USD without PRICES_FILE"), "{text}");
    for (name, value) in
        [("SPEND_CURRENCY", "usd"), ("SPEND_PER_HOUR_MAX", "-1"), ("SPEND_PER_DAY_MAX", "1e3")]
    {
        expect_refused(name, value);
    }
}
