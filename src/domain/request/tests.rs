use super::*;
use crate::domain::address::Address;
use crate::domain::channel::Channel;

#[track_caller]
fn refused(body: &[u8]) -> (Option<String>, String) {
    let refusal = SendRequest::decode(body, None).err().expect("the body must be refused");
    (refusal.request_id.map(|id| id.to_string()), refusal.fault.to_string())
}

#[track_caller]
fn check_fault(body: &str, message: &str) {
    assert_eq!(refused(body.as_bytes()), (Some("r1".to_owned()), message.to_owned()));
}

#[test]
fn the_smallest_request_has_an_id_and_a_recipient() {
    let request = SendRequest::decode(br#"{"request_id":"r1","to":"3001234567"}"#, None).expect("valid");
    assert_eq!((request.id.as_str(), request.to.as_ref()), ("r1", "3001234567"));
    assert_eq!(request.purpose, Purpose::default());
    assert!(request.code.is_none() && request.requested_at.is_none());
}

#[test]
fn the_message_time_stands_in_for_an_absent_request_time() {
    let at = Some(UnixMillis(1_000));
    let absent = SendRequest::decode(br#"{"request_id":"r1","to":"3"}"#, at).expect("valid");
    assert_eq!(absent.requested_at, at);
    let body = br#"{"request_id":"r1","to":"3","requested_at":"1970-01-01T00:00:02Z"}"#;
    let given = SendRequest::decode(body, at).expect("valid");
    assert_eq!(given.requested_at, Some(UnixMillis(2_000)));
}

#[test]
fn a_fault_names_the_field_the_rule_and_the_shape_but_never_the_value() {
    check_fault(
        r#"{"request_id":"r1","to":573001234567}"#,
        "`to` must be a string of 1 to 320 characters; got a number",
    );
    check_fault(r#"{"request_id":"r1"}"#, "`to` must be a string of 1 to 320 characters; got nothing");
    check_fault(
        r#"{"request_id":"r1","to":"3","code":"12345x"}"#,
        "`code` must be 4 to 10 digits; got a string of 6 characters",
    );
    check_fault(
        r#"{"request_id":"r1","to":"3","purpose":["a"]}"#,
        "`purpose` must be 1 to 32 of a-z, 0-9, _ and -; got an array",
    );
    check_fault(
        r#"{"request_id":"r1","to":"3","not_after":"tomorrow"}"#,
        "`not_after` must be an RFC 3339 time of the years 1970 to 9999; got a string of 8 characters",
    );
    check_fault(r#"{"request_id":"r1","to":"3","to":"4"}"#, "`to` is given twice");
    check_fault(
        r#"{"request_id":"r1","to":"3","autofill":{"webotp_domain":"a.b","android_hash":"x"}}"#,
        "`autofill` must be {\"webotp_domain\": \"…\"} or {\"android_hash\": \"…\"}; got an object",
    );
}

#[test]
fn an_error_of_a_recipient_names_the_rule_of_its_channel() {
    let fault = |body: &str| SendRequest::decode(body.as_bytes(), None).err().expect("refused").fault;
    let number = fault(r#"{"request_id":"r1","to":573001234567}"#);
    let rule = "`to` must be a string of 1 to 32 characters, a phone number; got a number";
    assert_eq!(number.worded_for(Channel::Sms).to_string(), rule);
    let rule = "`to` must be a string of 1 to 254 bytes, an e-mail address; got a number";
    assert_eq!(number.worded_for(Channel::Email).to_string(), rule);
    let other = fault(r#"{"request_id":"r1","to":"3","code":1}"#);
    assert_eq!(other.worded_for(Channel::Email), other);
    // The parsers say the same of what is too long.
    let region = "CO".parse().expect("a region");
    for (channel, letter, most) in [(Channel::Sms, "3", 32), (Channel::Email, "a", 254)] {
        let long = Address::parse_for(channel, &letter.repeat(5 * most), region).expect_err("too long");
        let fault = number.worded_for(channel).to_string();
        assert!(long.to_string().contains(&format!("longer than {most}")), "{long}");
        assert!(fault.contains(&format!("1 to {most} ")), "{fault}");
    }
}

#[test]
fn an_id_read_before_the_body_breaks_is_answered_to() {
    assert_eq!(refused(br#"{"request_id":"r1","to":"300"#).0.as_deref(), Some("r1"));
    assert_eq!(refused(b"{\"request_id\":\"r1\",\"to\":\"\xff\"}").0.as_deref(), Some("r1"));
    assert_eq!(refused(br#"{"to":"300","request_id":"#).0, None);
    assert_eq!(refused(br#"{"request_id":"with space","to":"3"}"#).0, None);
    assert_eq!(refused(br#"["request_id","r1"]"#), (None, "the body must be a JSON object".to_owned()));
}

#[test]
fn a_body_over_the_bound_is_refused_and_still_answered_to() {
    let body = format!(r#"{{"request_id":"r1","to":"3","pad":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let (id, message) = refused(body.as_bytes());
    assert_eq!(id.as_deref(), Some("r1"));
    assert!(message.contains("at most 65536"), "{message}");
}

#[test]
fn unknown_and_deeply_nested_fields_are_skipped() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let body = format!(r#"{{"x":{deep},"request_id":"r1","to":"3","y":{{"to":1}}}}"#);
    assert!(SendRequest::decode(body.as_bytes(), None).is_ok());
    let nested = format!(r#"{{"request_id":"r1","to":{deep}}}"#);
    check_fault(&nested, "`to` must be a string of 1 to 320 characters; got an array");
}

#[test]
fn a_name_that_is_cut_inside_an_emoji_is_left_out_and_a_field_that_counts_is_named() {
    for name in ["\"Ana \\ud83d\"", "\"\\ude00\\ud83d\"", "null"] {
        for body in [
            format!(r#"{{"user_name":{name},"request_id":"r1","to":"3"}}"#),
            format!(r#"{{"request_id":"r1","to":"3","user_name":{name}}}"#),
        ] {
            let request =
                SendRequest::decode(body.as_bytes(), None).unwrap_or_else(|error| panic!("{}", error.fault));
            assert_eq!((request.id.as_str(), request.user_name), ("r1", None));
        }
    }
    let raw = b"{\"user_name\":\"Ana \xf0\x9f\",\"request_id\":\"r1\",\"to\":\"3\"}";
    assert!(SendRequest::decode(raw, None).is_ok_and(|request| request.user_name.is_none()));
    for field in
        SendRequest::FIELDS.iter().filter(|field| **field != "request_id" && !OPTIONAL.contains(field))
    {
        let body = format!(r#"{{"{field}":"3 \ud83d","request_id":"r1","x":"\ud83d"}}"#);
        let (id, message) = refused(body.as_bytes());
        assert_eq!(id.as_deref(), Some("r1"), "{field}");
        let named = message.starts_with("`to` must be") || message.starts_with(&format!("`{field}` must be"));
        assert!(
            named && (message.ends_with("not valid Unicode") || message.ends_with("got nothing")),
            "{message}"
        );
    }
    let (id, message) = refused(br#"{"request_id":"r1 \ud83d","to":"3"}"#);
    assert_eq!(id, None);
    assert!(
        message.starts_with("`request_id` must be") && message.ends_with("not valid Unicode"),
        "{message}"
    );
}

/// The fields without which a request is as good.
const OPTIONAL: [&str; 3] = ["user_name", "locale", "timezone"];

#[test]
fn a_field_that_decides_nothing_is_left_out_whatever_it_is() {
    for field in OPTIONAL {
        for odd in [
            "7",
            "true",
            "1e999",
            "[]",
            r#"["es"]"#,
            r#"{"language":"es"}"#,
            r#""\udc00""#,
            r#""es \ud83d""#,
            &format!(r#""es","{field}":"pt""#),
            &format!(r#"null,"{field}":7"#),
            &format!(r#"{{}},"{field}":"es","{field}":[]"#),
        ] {
            let body = format!(r#"{{"{field}":{odd},"request_id":"r1","to":"3","user_id":"u"}}"#);
            let request = SendRequest::decode(body.as_bytes(), None)
                .unwrap_or_else(|error| panic!("{body}: {}", error.fault));
            let (name, locale) = (request.user_name.as_deref(), request.locale.as_deref());
            assert!(name.is_none() && locale.is_none() && request.timezone.is_none(), "{body}");
            assert_eq!((request.user_id.as_deref(), request.to.as_ref()), (Some("u"), "3"));
        }
    }
    let others =
        r#"{"request_id":"r1","to":"3","user_name":7,"locale":"es","timezone":["UTC"],"user_id":"u"}"#;
    let request =
        SendRequest::decode(others.as_bytes(), None).unwrap_or_else(|error| panic!("{}", error.fault));
    assert_eq!((request.user_name, request.locale.as_deref()), (None, Some("es")), "each for itself");
    // A text that breaks its rule is an error of the caller, who learns the rule.
    check_fault(
        r#"{"request_id":"r1","to":"3","locale":"klingon!"}"#,
        "`locale` must be a BCP 47 language tag of at most 35 characters; got a string of 8 characters",
    );
    for field in
        SendRequest::FIELDS.iter().filter(|field| **field != "request_id" && !OPTIONAL.contains(field))
    {
        let (_, message) = refused(format!(r#"{{"request_id":"r1","to":"3","{field}":[]}}"#).as_bytes());
        assert!(message.starts_with(&format!("`{field}` ")), "{message}");
        let twice = format!(r#"{{"request_id":"r1","{field}":"3","{field}":"3"}}"#);
        assert_eq!(refused(twice.as_bytes()).1, format!("`{field}` is given twice"));
    }
}

#[test]
fn a_byte_order_mark_and_odd_fields_that_nothing_reads_spoil_no_request() {
    for body in [
        "\u{feff}{\"request_id\":\"r1\",\"to\":\"3\"}",
        r#"{"x":"\ud83d","request_id":"r1","to":"3"}"#,
        r#"{"\ud83d":1,"request_id":"r1","\ud83d":[{"\ud83d":1,"a":1,"a":2}],"to":"3"}"#,
        r#"{"x":1e999,"x":-1e-999,"request_id":"r1","to":"3"}"#,
    ] {
        assert!(SendRequest::decode(body.as_bytes(), None).is_ok(), "{body}");
    }
    let twice = r#"{"webotp_domain":"a.b","webotp_domain":"c.d"}"#;
    check_fault(
        &format!(r#"{{"request_id":"r1","to":"3","autofill":{twice}}}"#),
        "`autofill` is given twice",
    );
}

#[test]
fn a_time_before_1970_or_after_9999_is_named_by_a_rule_that_is_true() {
    for time in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "10000-01-01T00:00:00Z"] {
        for field in ["not_after", "requested_at"] {
            check_fault(
                &format!(r#"{{"request_id":"r1","to":"3","{field}":"{time}"}}"#),
                &format!(
                    "`{field}` must be an RFC 3339 time of the years 1970 to 9999; got a string of {} characters",
                    time.len()
                ),
            );
        }
    }
}

#[test]
fn a_time_that_means_never_is_taken() {
    let body = r#"{"request_id":"r1","to":"3","not_after":"9999-12-31T23:59:59Z"}"#;
    let request = SendRequest::decode(body.as_bytes(), None).expect("valid");
    assert_eq!(request.not_after, UnixMillis::from_seconds(253_402_300_799));
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_decoder_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = SendRequest::decode(&body, None);
    }
}
