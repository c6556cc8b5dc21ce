//! Claims of every type: those that decide nothing are left out one by one.

use jsonwebtoken::crypto;

use super::*;

/// A token whose claims are this text. `SOON` in it is a valid `exp`.
fn written(text: &[u8]) -> String {
    let soon = (Clock::System.now().as_seconds() + 600).to_string();
    let text =
        String::from_utf8_lossy(text).contains("SOON").then(|| replaced(text, b"SOON", soon.as_bytes()));
    let parts = [BASE64URL.encode(r#"{"alg":"HS256"}"#), BASE64URL.encode(text.unwrap_or_default())];
    let signed = parts.join(".");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{signed}.{signature}")
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = text.windows(from.len()).position(|part| part == from).expect("it is there");
    [&text[..at], to, &text[at + from.len()..]].concat()
}

/// Valid claims of Alice with more of them behind.
fn with_more(more: &[u8]) -> String {
    let most = format!(
        r#"{{"exp":SOON,"aud":"{AUDIENCE}","iss":"{ISSUER}","sub":"u1","phone_number":"{ALICE}","email":"{ANA}","#
    );
    written(&[most.as_bytes(), more, b"}"].concat())
}

/// Values of other types than text, and text that is cut inside an emoji.
const ODD: [&[u8]; 14] = [
    b"null",
    b"true",
    b"7",
    b"-1.5e3",
    b"1e999",
    b"123456789012345678901234567890",
    b"[]",
    br#"["Ana"]"#,
    br#"{"country":"US","language":"en"}"#,
    br#"{"a":{"a":1,"a":2},"\ud83d":"\ud83d"}"#,
    br#""Ana \ud83d""#,
    br#""\ude00\ud83d""#,
    b"\"Ana \xf0\x9f\x98\"",
    b"\"\xed\xa0\xbd\"",
];

#[tokio::test]
async fn a_claim_that_decides_nothing_is_left_out_whatever_it_is() {
    let server = TestServer::start();
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    for name in
        ["name", "locale", "zoneinfo", "scope", "picture", "\\ud83d", "address", "nonce", "jti", "iat"]
    {
        for value in ODD.into_iter().chain([deep.as_bytes(), br#""a\u0000b""#]) {
            let more = [b"\"", name.as_bytes(), b"\":", value].concat();
            let shown = String::from_utf8_lossy(&more).chars().take(60).collect::<String>();
            expect_accepted(&shown, &with_token(&server, &with_more(&more)).await);
        }
    }
    for more in [
        r#""name":"Ana","name":"Eva""#,
        r#""locale":"es","locale":{}"#,
        r#""zoneinfo":7,"zone\u0069nfo":7"#,
        r#""picture":1,"picture":2"#,
    ] {
        expect_accepted(more, &with_token(&server, &with_more(more.as_bytes())).await);
    }
}

#[tokio::test]
async fn a_beginning_that_is_null_or_long_ago_is_none() {
    let server = TestServer::start();
    for more in [
        r#""nbf":null"#,
        r#""nbf":0"#,
        r#""nbf":-1"#,
        r#""nbf":-1.5e9"#,
        r#""iat":null,"nbf":null,"jti":null"#,
    ] {
        expect_accepted(more, &with_token(&server, &with_more(more.as_bytes())).await);
    }
    for more in [r#""nbf":1e300"#, r#""nbf":9999999999"#, r#""nbf":null,"nbf":null"#] {
        expect_refused(
            more,
            &with_token(&server, &with_more(more.as_bytes())).await,
            "invalid_token",
            INVALID,
        );
    }
}

/// A token of Alice whose header is this text.
fn with_header(header: &[u8]) -> String {
    let payload = claims(&json!({})).to_string();
    let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn a_header_is_read_parameter_by_parameter_and_a_key_id_is_a_string() {
    let server = TestServer::start();
    let long = format!(r#""{}""#, "k".repeat(4_000));
    // With one configured key its id decides nothing.
    for kid in ["\"\"", "null", r#""k1""#, r#""\u0000""#, &long] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        expect_accepted(
            &kid[..kid.len().min(40)],
            &with_token(&server, &with_header(header.as_bytes())).await,
        );
    }
    // RFC 7515 §4.1.4: its value must be a string.
    for kid in ["7", "true", "[]", r#"["k1"]"#, "{}", r#""\ud83d""#, r#""k1","kid":"k1""#] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        expect_refused(
            kid,
            &with_token(&server, &with_header(header.as_bytes())).await,
            "invalid_token",
            INVALID,
        );
    }
    // Parameters that are not used.
    for name in ["typ", "cty", "jku", "jwk", "x5u", "x5c", "x5t", "\\ud83d", "more"] {
        for value in ODD {
            let header = [br#"{"alg":"HS256",""#, name.as_bytes(), b"\":", value, b"}"].concat();
            expect_accepted(name, &with_token(&server, &with_header(&header)).await);
        }
    }
    for crit in ["null", "[]", r#"["exp"]"#, "7"] {
        let header = format!(r#"{{"alg":"HS256","crit":{crit}}}"#);
        expect_refused(
            crit,
            &with_token(&server, &with_header(header.as_bytes())).await,
            "invalid_token",
            INVALID,
        );
    }
}

#[tokio::test]
async fn the_message_of_a_person_goes_without_the_claims_that_cannot_be_read() {
    for (more, name, locale) in [
        (r#""name":"Ana","locale":"es-CO""#, json!("Ana"), json!("es-CO")),
        (r#""name":7,"locale":{"language":"en"}"#, Value::Null, Value::Null),
        (r#""name":"Ana \ud83d","locale":"es""#, Value::Null, json!("es")),
        (r#""name":"Ana","locale":["es"]"#, json!("Ana"), Value::Null),
        (r#""name":"Ana","name":"Eva""#, Value::Null, Value::Null),
    ] {
        let server = TestServer::start();
        let answer = server.post(SEND_SMS, &with_more(more.as_bytes()), &json!({"otp_type": "SMS"})).await;
        assert_eq!(answer.expect(202)["status"], "queued", "{more}");
        let queued = server.queued().await;
        let body: Value = serde_json::from_slice(&queued[0]).expect("JSON");
        assert_eq!((&body["user_name"], &body["locale"]), (&name, &locale), "{more}");
    }
}

#[tokio::test]
async fn a_claim_that_decides_is_refused_if_it_is_given_twice_or_no_text() {
    let server = TestServer::start();
    for more in [
        r#""exp":9999999999"#,
        r#""e\u0078p":9999999999"#,
        r#""nbf":1,"nbf":1"#,
        r#""iss":"https://issuer.example""#,
        r#""aud":"otpost-tests""#,
        r#""sub":"u1""#,
        r#""phone_number":"+573001234567""#,
        r#""email":null"#,
        r#""scope":"otp:verify","scope":"otp:admin""#,
        r#""nbf":"1""#,
        r#""nbf":[1]"#,
        r#""nbf":true"#,
        r#""nbf":1e999"#,
    ] {
        let answer = with_token(&server, &with_more(more.as_bytes())).await;
        expect_refused(more, &answer, "invalid_token", INVALID);
    }
    for value in ODD {
        let claims = |name: &str, rest: &str| {
            written(&[format!("{{\"{name}\":").as_bytes(), value, b",", rest.as_bytes()].concat())
        };
        let shown = String::from_utf8_lossy(value);
        let valid = format!(r#""exp":SOON,"aud":"{AUDIENCE}","iss":"{ISSUER}""#);
        // Without these a person cannot be served, and the answer says why.
        let answer =
            with_token(&server, &claims("sub", &format!(r#"{valid},"phone_number":"{ALICE}"}}"#))).await;
        expect_refused(&shown, &answer, "invalid_token", NO_SUBJECT);
        let answer = with_token(&server, &claims("phone_number", &format!(r#"{valid},"sub":"u1"}}"#))).await;
        assert_eq!(
            answer.expect_problem(422, "invalid_recipient")["detail"],
            "the token has no `phone_number`",
            "{shown}"
        );
        let body = json!({"to": ALICE, "otp_code": "482913"});
        let answer = server.post(VERIFY_SERVICE, &claims("scope", &format!("{valid}}}")), &body).await;
        answer.expect_problem(403, "insufficient_scope");
        // A service needs no subject.
        let token = claims("sub", &format!(r#"{valid},"scope":"otp:verify"}}"#));
        expect_accepted(&shown, &server.post(VERIFY_SERVICE, &token, &body).await);
        for (name, rest) in [
            ("aud", format!(r#""exp":SOON,"iss":"{ISSUER}","sub":"u1"}}"#)),
            ("iss", format!(r#""exp":SOON,"aud":"{AUDIENCE}","sub":"u1"}}"#)),
        ] {
            expect_refused(
                &shown,
                &with_token(&server, &claims(name, &rest)).await,
                "invalid_token",
                INVALID,
            );
        }
    }
    // A list of scopes is no scope, whatever is in it.
    let body = json!({"to": ALICE, "otp_code": "482913"});
    let listed = with_more(br#""scope":["otp:verify"]"#);
    server.post(VERIFY_SERVICE, &listed, &body).await.expect_problem(403, "insufficient_scope");
}

#[tokio::test]
async fn the_audience_may_stand_among_odd_ones_and_times_are_numbers() {
    let server = TestServer::start();
    let claims = |exp: &str, aud: &str| {
        let rest = format!(r#""iss":"{ISSUER}","sub":"u1","phone_number":"{ALICE}","then":"SOON""#);
        written(format!(r#"{{"exp":{exp},"aud":{aud},{rest}}}"#).as_bytes())
    };
    let ours = format!("\"{AUDIENCE}\"");
    let soon = (Clock::System.now().as_seconds() + 600).to_string();
    for aud in [&ours, &format!(r#"[7,null,"\ud83d",["x"],{{}},{ours}]"#), &format!("[{ours},{ours}]")] {
        expect_accepted(aud, &with_token(&server, &claims(&soon, aud)).await);
    }
    for aud in [format!("[[{ours}]]"), format!("{{{ours}:{ours}}}"), "[7,\"\\ud83d\"]".to_owned()] {
        expect_refused(&aud, &with_token(&server, &claims(&soon, &aud)).await, "invalid_token", INVALID);
    }
    for exp in
        [format!("{soon}.75"), format!("{soon}0e-1"), "1e18".to_owned(), "9223372036854775807".to_owned()]
    {
        expect_accepted(&exp, &with_token(&server, &claims(&exp, &ours)).await);
    }
    for exp in [
        "-1",
        "-1e9",
        "1e300",
        "1e999",
        "99999999999999999999",
        "\"9999999999\"",
        "[9999999999]",
        "null",
        "true",
    ] {
        expect_refused(exp, &with_token(&server, &claims(exp, &ours)).await, "invalid_token", INVALID);
    }
    for exp in ["0", "1.5", "-0"] {
        expect_refused(exp, &with_token(&server, &claims(exp, &ours)).await, "invalid_token", EXPIRED);
    }
}

#[tokio::test]
async fn claims_that_are_no_object_are_refused() {
    let server = TestServer::start();
    for text in
        ["", "SOON", "[\"SOON\"]", "\"SOON\"", "{\"exp\":SOON", "{\"exp\":SOON} {}", "{\"exp\":SOON,}"]
    {
        expect_refused(text, &with_token(&server, &written(text.as_bytes())).await, "invalid_token", INVALID);
    }
}
