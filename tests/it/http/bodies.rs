//! Request bodies that break the rules of an endpoint.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

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
        ("a byte order mark", text("\u{feff}{\"otp_code\":\"Secreto\"}"), 400, "malformed_json"),
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
        json!(" 739164"),
        json!("739164\n"),
        json!("73916a"),
        json!("٧٣٩١٦٤"),
        json!("７３９１６４"),
        json!("739164\u{0}"),
        json!("-73916"),
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
            answer.expect_nothing_of(&["Secreto", "7391", "٧٣٩", "７３９", "300123"]);
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
