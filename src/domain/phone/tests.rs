use proptest::prelude::*;

use super::*;

fn colombia() -> Region {
    "CO".parse().expect("Colombia has a plan")
}

#[track_caller]
fn check(written: &str, expected: &str, line: LineType) -> PhoneNumber {
    let number = PhoneNumber::parse(written, colombia()).expect("a number");
    assert_eq!((number.e164(), number.line()), (expected, line));
    number
}

#[track_caller]
fn refused(written: &str, expected: &str) {
    let fault = PhoneNumber::parse(written, colombia()).expect_err("no number");
    assert_eq!(fault.to_string(), expected);
}

#[test]
fn a_colombian_mobile_is_read_in_every_way_people_write_it() {
    for written in [
        "3001234567",
        "+573001234567",
        "(300) 123-4567",
        "573001234567",
        " 300.123.4567 ",
        "+57 300 123 45 67",
        "+57 (300) 123-4567",
        "57-300-123-4567",
    ] {
        let number = check(written, "+573001234567", LineType::Mobile);
        assert_eq!(number.region(), Some(colombia()));
    }
}

#[test]
fn a_number_is_read_as_people_paste_it() {
    for written in [
        "(+57) 300 123 4567",
        "\u{202d}+573001234567\u{202c}",
        "\u{2066}+57 300 123 4567\u{2069}",
        "\u{feff}+573001234567",
        "\u{200e}3001234567\u{200f}",
        "+57\u{a0}300\u{a0}123\u{a0}4567",
        "+57\u{3000}300\u{3000}1234567",
        "+573001234567\n",
        "\t3001234567\r\n",
        "+57\u{2011}300\u{2011}123\u{2011}4567",
        "+57 300\u{2013}123\u{2014}4567",
        "300\u{2212}123\u{2010}4567",
        "300\u{ad}123\u{200b}45\u{2060}67",
        "＋５７３００１２３４５６７",
        "（３００）１２３－４５６７",
        "+٥٧٣٠٠١٢٣٤٥٦٧",
        "۳۰۰۱۲۳۴۵۶۷",
        "३००१२३४५६७",
        "++573001234567",
        "+57/300/123/4567",
        "[+57] 300 123 4567",
        "+57 300\u{223c}123\u{2053}4567",
        "<+573001234567>",
        "\"+573001234567\",",
        "+57\u{202d}3001234567",
        "300\u{feff}1234567",
        "+57\t300\t1234567",
        "\u{202a}+57\u{202c} 300\u{2066}123\u{2069}4567",
        "+\u{200e}57\u{200f}300 123\u{200c}45\u{200d}67",
        "\u{200b}＋\u{2060}57 300\u{180e}1234\u{61c}567",
        "3\u{fe0f}001234567",
        "(\u{200e}+57)\u{2007}300\u{2007}1234567",
    ] {
        check(written, "+573001234567", LineType::Mobile);
    }
    refused("\u{202d}00573001234567\u{202c}", "starts with 00; write + and the country code");
    refused("００５７３００１２３４５６７", "starts with 00; write + and the country code");
}

/// Unicode's category Zs and the tab, the hyphens of Google's library, and marks that show nothing.
#[test]
fn every_space_hyphen_and_invisible_mark_may_stand_between_digits() {
    let spaces = "\t \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{202f}\u{205f}\u{3000}";
    let hyphens = "-\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{ff0d}\u{30fc}";
    let marks = "\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2061}\u{2066}\u{2067}\u{2068}\u{2069}\u{fe0e}\u{fe0f}\u{feff}";
    for between in spaces.chars().chain(hyphens.chars()).chain(marks.chars()) {
        for written in [
            format!("+57{between}300{between}123{between}4567"),
            format!("300{between}{between}1234567"),
            format!("{between}3001234567{between}"),
            format!("+{between}573001234567"),
            format!("＋５７{between}٣٠٠{between}۱۲۳4567"),
        ] {
            let number = PhoneNumber::parse(&written, colombia());
            let number = number.unwrap_or_else(|fault| panic!("{written:?}: {fault}"));
            assert_eq!((number.e164(), number.to_string().as_str()), ("+573001234567", "+57******4567"));
        }
    }
    refused("\u{200b}0\u{200b}0\u{200b}573001234567", "starts with 00; write + and the country code");
}

#[test]
fn codes_of_no_country_are_known() {
    for code in ["+800", "+808", "+870", "+878", "+881", "+882", "+883", "+888", "+979"] {
        assert!(is_code_of_no_country(code), "{code}");
    }
    for other in ["+57", "+1", "+999", "881", "+0881", "+", "++881", "CO"] {
        assert!(!is_code_of_no_country(other), "{other}");
    }
}

#[test]
fn a_colombian_landline_is_distinguished_from_a_mobile() {
    check("6012345678", "+576012345678", LineType::Landline);
    check("+57 601 234 5678", "+576012345678", LineType::Landline);
    assert!(!LineType::Landline.takes_sms());
}

#[test]
fn a_number_outside_the_numbering_plan_is_refused_with_its_shape() {
    refused("12345678", "has 8 digits, not a number of CO");
    refused("0312345678", "has 10 digits, not a number of CO");
    refused("3601234567", "has 10 digits, not a number of CO");
    refused("3991234567", "has 10 digits, not a number of CO");
    refused("6061234567", "has 10 digits, not a number of CO");
    refused("3001234", "has 7 digits, not a number of CO");
    refused("+999 300 123 4567", "has 13 digits, not a number of any country");
    refused("+", "has 0 digits, not a number of any country");
    refused("( )", "has 0 digits, not a number of CO");
    refused("...", "has 0 digits, not a number of CO");
}

#[test]
fn a_text_that_is_no_number_is_refused_by_the_rule_it_breaks() {
    refused("", "is empty");
    refused("    ", "is empty");
    refused("\u{a0}\n\u{200b}\u{feff}", "is empty");
    refused("+57 300 FLOWERS", "contains letters");
    refused("+57 300 123 4567 x12", "contains letters");
    refused("tel:+573001234567", "contains letters");
    refused("+57 300 123 4567 ext. 12", "contains letters");
    let characters =
        "contains a character, perhaps an invisible one, that is no digit, separator or leading +";
    for written in [
        "+57+3001234567",
        "⁺47 92 34 56 78",
        "(﹢47) 92 34 56 78",
        "₊573001234567",
        "➕573001234567",
        "+ +573001234567",
        "300123+4567",
        "300123#4567",
        "#31#3001234567",
        "*67 3001234567",
        "3001234567#",
        "300,123,4567",
        "300123~4567",
        "+57 300 123～4567",
        "+57\n3001234567",
        "+57\r\n3001234567",
        "+57\u{2028}3001234567",
        "+57\u{2029}3001234567",
        "300\u{7}1234567",
        "300\u{0}1234567",
        "+\u{200b}57+3001234567",
        "300①1234567",
    ] {
        refused(written, characters);
    }
    refused(&"3".repeat(33), "is longer than 32 characters");
    refused(&" ".repeat(1 << 20), "is longer than 32 characters");
}

#[test]
fn an_international_prefix_never_turns_a_number_into_one_of_another_country() {
    // Colombia's 005 and 009 are carrier prefixes for calls abroad: what is left of the first one is Russian.
    refused("0057 301 221 2345", "starts with 00; write + and the country code");
    refused("009 573012212345", "starts with 00; write + and the country code");
    refused("+0057 301 221 2345", "has 14 digits, not a number of any country");
    // The United States dial abroad with 011.
    let fault = PhoneNumber::parse("011 57 301 221 2345", "US".parse().expect("a plan"));
    assert_eq!(fault.expect_err("no number").to_string(), "has 15 digits, not a number of US");
}

#[test]
fn a_carrier_prefix_is_refused_instead_of_stripped() {
    refused("03 300 123 4567", "has 12 digits, not a number of CO");
    refused("+57 0 300 123 4567", "has 13 digits, not a number of any country");
    refused("+44 (0)20 7946 0018", "has 13 digits, not a number of any country");
}

#[test]
fn a_trunk_prefix_may_stand_before_a_national_number() {
    let britain = "gb".parse().expect("Britain has a plan");
    let number = PhoneNumber::parse("07400 123456", britain).expect("a number");
    assert_eq!((number.e164(), number.line()), ("+447400123456", LineType::Mobile));
}

#[test]
fn a_number_without_plus_belongs_to_the_default_region() {
    let states = "US".parse().expect("the United States have a plan");
    assert!(PhoneNumber::parse("201 555 0123", states).is_ok());
    let canadian = PhoneNumber::parse("416 555 0123", states).expect_err("a number of CA");
    assert_eq!(canadian.to_string(), "has 10 digits, not a number of US");
}

#[test]
fn lines_that_the_plan_does_not_tell_apart_take_sms() {
    for (written, region) in
        [("+1 201 555 0123", "US"), ("+1 416 555 0123", "CA"), ("+52 55 1234 5678", "MX")]
    {
        let number = PhoneNumber::parse(written, colombia()).expect("a number");
        assert_eq!(number.line(), LineType::MobileOrLandline);
        assert_eq!(number.region(), region.parse().ok());
        assert!(number.line().takes_sms());
    }
}

#[test]
fn a_leading_zero_that_belongs_to_the_number_keeps_its_country_and_line() {
    for (written, region, line) in [
        ("+2250123456789", "CI", LineType::Mobile),
        ("+2290195123456", "BJ", LineType::Mobile),
        ("+242061234567", "CG", LineType::Mobile),
        ("+390212345678", "IT", LineType::Landline),
    ] {
        let number = check(written, written, line);
        assert_eq!(number.region(), region.parse().ok());
    }
}

#[test]
fn a_shared_international_code_is_of_no_country() {
    let number = check("+80012345678", "+80012345678", LineType::Other);
    assert_eq!(number.region(), None);
}

#[test]
fn what_is_printed_is_masked() {
    let number = check("3001234567", "+573001234567", LineType::Mobile);
    assert_eq!(number.to_string(), "+57******4567");
    assert_eq!(format!("{number:?}"), "PhoneNumber(+57******4567)");
    assert_eq!(
        check("+1 201 555 0123", "+12015550123", LineType::MobileOrLandline).to_string(),
        "+1******0123"
    );
    assert_eq!(check("+2250123456789", "+2250123456789", LineType::Mobile).to_string(), "+225******6789");
}

#[test]
fn a_short_number_shows_at_most_half_of_its_digits() {
    // Saint Helena: four or five national digits.
    assert_eq!(check("+29022158", "+29022158", LineType::Landline).to_string(), "+290***58");
}

#[test]
fn every_region_has_a_plan() {
    let mut regions = 0;
    for (first, second) in ('A'..='Z').flat_map(|first| ('A'..='Z').map(move |second| (first, second))) {
        if let Ok(region) = format!("{first}{second}").parse::<Region>() {
            assert!(region.plan().is_some(), "{region} would panic in the crate");
            regions += 1;
        }
    }
    assert!(regions > 200);
    assert_eq!(colombia().to_string(), "CO");
    assert_eq!("colombia".parse::<Region>(), Err(UnknownRegion));
}

#[test]
fn every_pattern_of_every_plan_is_understood() {
    let mut examples = 0;
    for plan in DATABASE.iter() {
        let ranges = plan.descriptors();
        let ranges = [
            ranges.premium_rate(),
            ranges.toll_free(),
            ranges.shared_cost(),
            ranges.personal_number(),
            ranges.pager(),
            ranges.uan(),
            ranges.voicemail(),
            ranges.voip(),
            ranges.mobile(),
            ranges.fixed_line(),
        ];
        for (range, example) in
            ranges.into_iter().flatten().filter_map(|range| Some((range, range.example()?)))
        {
            assert!(is_of(range, example), "{} {example}", plan.id());
            examples += 1;
        }
        if let Some(leading) = plan.leading_digits() {
            let mut beginnings = (0..100_000).map(|digits| format!("{digits:05}"));
            assert!(beginnings.any(|digits| matches_beginning(leading.as_str(), &digits)), "{}", plan.id());
        }
    }
    assert!(examples > 1_000);
}

#[test]
fn warming_up_can_be_repeated() {
    warm_up();
    warm_up();
}

/// Texts that come closer to a number than chance does.
fn nearly_a_number() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,40}", "\\+?[0-9 ().-]{0,34}", "\\+?(57|1|39|44|225|52)?[0-9]{4,12}"]
}

proptest! {
    #[test]
    fn any_text_is_a_number_or_a_fault_and_a_number_keeps_the_written_digits(text in nearly_a_number()) {
        if let Ok(number) = PhoneNumber::parse(&text, colombia()) {
            let written: String = text.chars().filter_map(decimal_digit).map(|digit| digit.to_string()).collect();
            prop_assert!(number.e164().ends_with(written.trim_start_matches("57").trim_start_matches('0')));
            prop_assert!(text.contains(PLUS_SIGNS) || number.region() == Some(colombia()));
            prop_assert!(number.e164().len() <= 16);
        }
    }

    #[test]
    fn the_mask_never_shows_the_last_five_national_digits(text in nearly_a_number()) {
        if let Ok(number) = PhoneNumber::parse(&text, colombia()) {
            let digits = number.e164();
            for shown in [number.to_string(), format!("{number:?}")] {
                prop_assert!(!shown.contains(&digits[digits.len() - 5..]));
                prop_assert!(shown.contains('*'));
            }
        }
    }

    #[test]
    fn a_number_reads_back_as_itself(national in "3[0-2][0-9]{8}") {
        if let Ok(number) = PhoneNumber::parse(&national, colombia()) {
            let again = PhoneNumber::parse(number.e164(), "US".parse().expect("a plan"));
            prop_assert_eq!(again, Ok(number));
        }
    }
}

#[test]
fn a_number_with_a_digit_too_many_for_its_range_is_none() {
    // Each of these begins like a number of its country, and is as long as another range of it.
    for text in ["+5511761234567", "+811201234561", "+4990012345678", "+398991234567"] {
        let fault = PhoneNumber::parse(text, Region(Id::CO));
        assert!(matches!(fault, Err(PhoneError::NotAssigned { .. })), "{text}");
    }
}
