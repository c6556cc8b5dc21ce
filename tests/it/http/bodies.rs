//! Request bodies that break the rules of an endpoint.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::services::{SEND, sender};
use super::{ALICE, CODE, SEND_SMS, TestServer, VERIFY_PHONE, VERIFY_SERVICE, alice, post, service};

/// Wrong bodies. Each contains `Secreto` or the digits `739164`, which no answer may repeat.
fn bad_bodies() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let nested =
        |depth: usize| format!("{{\"otp_code\":{}\"Secreto\"{}}}", "[".repeat(depth), "]".repeat(depth));
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("nothing", text(""), 400, "malformed_json"),
        ("no JSON", text("Secreto=1&otp_code=739164"), 400, "malformed_json"),
        ("cut off", text(r#"{"otp_type":"Secreto","otp_code":"739164"#), 400, "malformed_json"),
        ("two values", text(r#"{"otp_code":"Secreto"} {"otp_code":"Secreto"}"#), 400, "malformed_json"),
        ("no UTF-8", b"{\"otp_code\":\"Secreto\xff\"}".to_vec(), 400, "malformed_json"),
        ("two marks", text("\u{feff}\u{feff}{\"otp_code\":\"Secreto\"}"), 400, "malformed_json"),
        ("UTF-16", b"\xfe\xff\0{\0}".to_vec(), 400, "malformed_json"),
        ("nested deep", text(&nested(5_000)), 400, "malformed_json"),
        ("nested deeper", text(&format!("{{\"otp_type\":{}", "[".repeat(10_000))), 400, "malformed_json"),
        ("nested and too large", text(&nested(10_000)), 413, "body_too_large"),
        (
            "too large",
            text(&format!(r#"{{"otp_code":"Secreto","pad":"{}"}}"#, "x".repeat(20_000))),
            413,
            "body_too_large",
        ),
        ("an array", text(r#"["Secreto","739164"]"#), 422, "invalid_request"),
        ("a string", text(r#""Secreto""#), 422, "invalid_request"),
        ("null", text("null"), 422, "invalid_request"),
        ("an empty object", text("{}"), 422, "invalid_request"),
    ]
}

/// Values of `otp_code` that are not codes.
fn bad_codes() -> Vec<Value> {
    vec![
        Value::Null,
        json!(739164),
        json!(true),
        json!(["739164"]),
        json!({"Secreto": "739164"}),
        json!(""),
        json!("739"),
        json!("73916473916"),
        json!("739164".repeat(2_000)),
        json!("73916a"),
        json!("739164\u{0}"),
        json!("-73916"),
        json!("739164-"),
        json!("739.164"),
        json!("⁷³⁹¹⁶⁴"),
        json!("739164\u{2028}73916"),
        json!(format!("739164{}", " ".repeat(200))),
        json!("Secreto"),
    ]
}

#[tokio::test]
async fn a_wrong_body_gets_a_problem_that_repeats_no_part_of_it() {
    let server = TestServer::start();
    for (path, token) in [(SEND_SMS, alice()), (VERIFY_PHONE, alice()), (VERIFY_SERVICE, service())] {
        for (name, body, status, code) in bad_bodies() {
            let answer = server.ask(post(path, &token, body)).await;
            assert_eq!(answer.status, status, "{path}: {name}: {}", answer.text);
            answer.expect_problem(status, code);
            answer.expect_nothing_of(&["Secreto", "739164", "[["]);
        }
    }
    for (path, token) in [(VERIFY_PHONE, alice()), (VERIFY_SERVICE, service())] {
        for code in bad_codes() {
            let answer = server.post(path, &token, &json!({"to": ALICE, "otp_code": code})).await;
            let problem = answer.expect_problem(422, "invalid_request");
            let detail = problem["detail"].as_str().expect("a sentence");
            assert!(detail.starts_with("`otp_code` must be a string of 4 to 10 digits; got "), "{detail}");
            answer.expect_nothing_of(&["Secreto", "7391", "739.", "⁷³⁹", "300123"]);
        }
    }
    for kind in [json!("EMAIL"), json!("sms"), json!("Secreto"), json!(1), json!(["SMS"]), Value::Null] {
        let answer = server.post(SEND_SMS, &alice(), &json!({ "otp_type": kind })).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|response| response.starts_with("`otp_type` must be \"SMS\""))
        );
        answer.expect_nothing_of(&["Secreto", "EMAIL"]);
    }
    for (field, value) in
        [("channel", json!("Secreto")), ("purpose", json!("Se creto")), ("purpose", json!(7))]
    {
        let mut body = json!({"to": ALICE, "otp_code": CODE});
        body[field] = value;
        let answer = server.post(VERIFY_SERVICE, &service(), &body).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|response| response.starts_with(&format!("`{field}` must be")))
        );
        answer.expect_nothing_of(&["creto", CODE, "300123"]);
    }
    assert!(server.queued().await.is_empty());
}

#[tokio::test]
async fn a_large_body_is_refused_with_or_without_its_length() {
    let server = TestServer::start();
    let large = format!(r#"{{"otp_type":"SMS","pad":"{}"}}"#, "x".repeat(20_000));
    for response in [true, false] {
        let mut request = post(SEND_SMS, &alice(), large.clone());
        if response {
            let length = large.len().to_string().parse().expect("a number");
            request.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        server.ask(request).await.expect_problem(413, "body_too_large");
    }
}

#[tokio::test]
async fn a_body_of_another_content_type_is_refused() {
    let server = TestServer::start();
    for kind in [
        None,
        Some(""),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("Secreto/json"),
        Some("application/jsonp"),
    ] {
        let mut request = post(VERIFY_PHONE, &alice(), format!(r#"{{"otp_code":"{CODE}"}}"#));
        request.headers_mut().remove(header::CONTENT_TYPE);
        if let Some(kind) = kind {
            request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a header value"));
        }
        let answer = server.ask(request).await;
        answer.expect_problem(415, "unsupported_media_type");
        answer.expect_nothing_of(&["Secreto", CODE]);
    }
    for kind in ["application/json; charset=utf-8", "APPLICATION/JSON", " application/json ;x=y"] {
        let mut request = post(VERIFY_PHONE, &alice(), format!(r#"{{"otp_code":"{CODE}"}}"#));
        request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a header value"));
        server.ask(request).await.expect_problem(404, "no_pending_code");
    }
}

#[tokio::test]
async fn a_request_without_a_token_learns_nothing_about_its_body() {
    let server = TestServer::start();
    for path in [SEND_SMS, VERIFY_PHONE, VERIFY_SERVICE] {
        for (_, body, status, code) in bad_bodies() {
            let request = Request::post(path).body(Body::from(body)).expect("a request");
            let answer = server.ask(request).await;
            // A body that is too large is refused before authentication.
            match status {
                413 => answer.expect_problem(413, code),
                _ => answer.expect_problem(401, "unauthenticated"),
            };
        }
    }
}

#[tokio::test]
async fn a_json_answer_ends_in_a_newline() {
    let server = TestServer::start();
    server.send_code("r1", CODE).await;
    let check = |code: &str| json!({"to": ALICE, "otp_code": code});
    let wrong = server.post(VERIFY_SERVICE, &service(), &check("000000")).await;
    let right = server.post(VERIFY_SERVICE, &service(), &check(CODE)).await;
    let limits = server.post("/api/v1/sms/rate-limit", &service(), &json!({ "to": ALICE })).await;
    for (answer, status) in [(wrong, 422), (right, 200), (limits, 200)] {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.text.ends_with("}\n") && answer.text.matches('\n').count() == 1, "{:?}", answer.text);
    }
}

/// Objects that begin with the fields that an endpoint needs.
const SEND_BODY: &str = r#"{"otp_type":"SMS","#;
const CHECK: &str = r#"{"otp_code":"482913","#;
const CHECK_FOR_SERVICE: &str = r#"{"otp_code":"482913","to":"+573001234567","#;

#[tokio::test]
async fn a_field_that_is_given_twice_is_refused_at_every_depth_and_named_if_it_is_ours() {
    let server = TestServer::start();
    let operator = super::token(&json!({"scope": "otp:admin", "phone_number": null}));
    for (path, token, open, field) in [
        (SEND_SMS, alice(), SEND_BODY, "otp_type"),
        (super::SEND_EMAIL, alice(), r#"{"otp_type":"EMAIL","#, "otp_type"),
        (VERIFY_PHONE, alice(), CHECK, "otp_code"),
        (super::VERIFY_EMAIL, alice(), CHECK, "otp_code"),
        (VERIFY_SERVICE, service(), CHECK_FOR_SERVICE, "to"),
        (VERIFY_SERVICE, service(), r#"{"purpose":null,"#, "purpose"),
        (VERIFY_SERVICE, service(), r#"{"channel":"sms","#, "channel"),
        (SEND, sender(&json!({})), r#"{"to":"+573001234567","#, "to"),
        ("/api/v1/sms/rate-limit", operator.clone(), r#"{"to":"+573001234567","#, "to"),
        ("/api/v1/sms/validate", operator.clone(), r#"{"numbers":["1"],"#, "numbers"),
        ("/api/v1/sms/requests", operator.clone(), r#"{"to":"+573001234567","#, "to"),
    ] {
        let escaped = format!("\\u{:04x}{}", u32::from(field.as_bytes()[0]), &field[1..]);
        for (twice, named) in [
            (format!(r#""{field}":"Secreto""#), true),
            (format!(r#""{escaped}":null"#), true),
            (format!(r#""x":{{"{field}":1,"y":2,"{field}":1}}"#), true),
            (format!(r#""x":[[{{"z":{{"{field}":1,"{escaped}":{{}}}}}}]]"#), true),
            (r#""Secreto":1,"Secreto":2"#.to_owned(), false),
            (r#""x":{"Secreto":1,"Secreto":2}"#.to_owned(), false),
            (r#""a\ud83d":1,"a\ud83d":2"#.to_owned(), false),
            (r#""x":[{"\udc00":1,"\udc00":2}]"#.to_owned(), false),
        ] {
            let answer = server.ask(post(path, &token, format!("{open}{twice}}}"))).await;
            let problem = answer.expect_problem(400, "malformed_json");
            let name = if named { format!("`{field}`") } else { "a field".to_owned() };
            assert_eq!(problem["detail"], format!("{name} is given twice"), "{path}: {twice}");
            answer.expect_nothing_of(&["Secreto", CODE]);
        }
    }
    assert!(server.queued().await.is_empty());
}

#[tokio::test]
async fn a_byte_order_mark_and_odd_values_that_nothing_reads_spoil_no_body() {
    let server = TestServer::start();
    for body in [
        format!("\u{feff}{CHECK}\"x\":1}}"),
        format!(r#"{CHECK}"name":"Ana \ud83d"}}"#),
        format!(r#"{CHECK}"\ud83d":1}}"#),
        format!(r#"{CHECK}"x":[{{"y":["\ude00\ud83d"]}}]}}"#),
        format!(r#"{CHECK}"x":1e999,"y":-{}}}"#, "9".repeat(5_000)),
        format!("{CHECK}\"x\":{}{}}}", "[".repeat(100), "]".repeat(100)),
    ] {
        server.ask(post(VERIFY_PHONE, &alice(), body)).await.expect_problem(404, "no_pending_code");
    }
    let answer = server.ask(post(VERIFY_PHONE, &alice(), r#"{"otp_code":"4829 \ud83d"}"#)).await;
    let problem = answer.expect_problem(422, "invalid_request");
    let rule = "`otp_code` must be a string of 4 to 10 digits; got a string that is not valid Unicode";
    assert_eq!(problem["detail"], rule);
}
