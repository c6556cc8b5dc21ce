//! E-mail addresses in the commands of operators, run by the real binary on the real Redis, and in the same endpoints.
//! All output is masked.

use std::process::{Command, Output};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use otpost::domain::channel::Channel;
use otpost::domain::outcome::Status;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::store::Store as _;
use serde_json::{Value, json};

use crate::harness::RECIPIENT_KEY;
use crate::http::{ALICE, ANA, TestServer, service};
use crate::real::Redis;
use crate::why::{otpost, rows, said, seed};

const MASKED: &str = "a***@s***.example";
/// With the upper case that people type.
const WRITTEN: &str = "Ana@Shop.EXAMPLE";
const BAD: [&str; 4] =
    ["ana@", "ana@localhost", "ana@shop.example,bob@shop.example", "Ana <ana@shop.example>"];

#[track_caller]
fn expect_masked(output: &Output) {
    let text = format!("{output:?}").to_lowercase();
    assert!(!text.contains("ana@") && !text.contains("shop"), "{text}");
}

/// The HTTP interface on a real Redis, with the recipient key of the commands.
fn server(redis: &Redis) -> TestServer {
    TestServer::with(|api| {
        api.store = Arc::new(redis.store());
        api.recipient_keyring = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
    })
}

#[tokio::test]
async fn the_last_requests_and_limits_of_an_address_are_the_same_by_command_and_endpoint() {
    let redis = Redis::fresh();
    seed(&redis.store(), ANA, "e1", Status::Sent, None).await;
    seed(&redis.store(), ALICE, "s1", Status::Sent, None).await;
    let server = server(&redis);
    let listed = otpost(&redis, &["why", "--to", WRITTEN, "--json"]);
    expect_masked(&listed);
    let listed = rows(&listed, 0);
    assert_eq!((listed.len(), &listed[0]["request_id"]), (1, &json!("e1")));
    let response = server.post("/api/v1/sms/requests", &service(), &json!({"to": WRITTEN})).await.expect(200);
    assert_eq!((&response["to"], &response["requests"]), (&json!(MASKED), &json!(listed)));

    let explained = otpost(&redis, &["why", "e1", "--to", ANA]);
    assert!(said(&explained, 0).0.starts_with(&format!("e1  to {MASKED}, login: sent")), "{explained:?}");
    expect_masked(&explained);
    let other = otpost(&redis, &["why", "s1", "--to", ANA]);
    assert!(said(&other, 3).1.starts_with("otpost: no record of this request to this recipient"));

    let limits = otpost(&redis, &["rate-limit", WRITTEN, "--json"]);
    expect_masked(&limits);
    let limits = rows(&limits, 0);
    assert_eq!((&limits[0]["to"], &limits[0]["used"]), (&json!(MASKED), &json!(1)));
    let response =
        server.post("/api/v1/sms/rate-limit", &service(), &json!({"to": WRITTEN})).await.expect(200);
    assert_eq!((&response["to"], &response["used"]), (&limits[0]["to"], &limits[0]["used"]));
}

#[tokio::test]
async fn an_address_is_suppressed_listed_and_removed_again() {
    let redis = Redis::fresh();
    let ask = |arguments: &[&str]| otpost(&redis, &[&["suppressions"], arguments].concat());
    let added = ask(&["add", WRITTEN, "--reason", "pidió parar", "--json"]);
    expect_masked(&added);
    assert_eq!(rows(&added, 0)[0]["to"], MASKED);
    rows(&ask(&["add", ALICE, "--json"]), 0);
    let (out, _) = said(&ask(&["list"]), 0);
    assert!(out.lines().count() == 3 && out.contains(MASKED) && out.contains("+57******4567"), "{out}");
    let name = RecipientKeyring::new(&RECIPIENT_KEY).address(Channel::Email, ANA);
    let removed = ask(&["remove", ANA, "--json"]);
    expect_masked(&removed);
    assert_eq!(rows(&removed, 0)[0]["reason"], "pidió parar");
    assert!(
        redis.store().remove_suppression(name).await.expect("answers").is_none(),
        "it was stored under the digest of the address"
    );
    let (_, err) = said(&ask(&["remove", ANA]), 3);
    assert_eq!(err, format!("otpost: {MASKED} is not suppressed\n"));
    assert_eq!(rows(&ask(&["list", "--json"]), 0).len(), 1);
}

#[tokio::test]
async fn an_invalid_address_is_refused_by_its_rule_and_changes_nothing() {
    let redis = Redis::fresh();
    for bad in BAD {
        for arguments in
            [&["rate-limit", bad] as &[&str], &["why", "--to", bad], &["suppressions", "add", bad]]
        {
            let output = otpost(&redis, arguments);
            let (out, err) = said(&output, 2);
            assert!(out.is_empty() && err.starts_with("otpost: the e-mail address "), "{err}");
            assert!(!err.contains("ana@") && !err.contains("bob"), "{err}");
        }
        let body = json!({ "to": bad });
        for path in ["/api/v1/sms/requests", "/api/v1/sms/rate-limit"] {
            let problem =
                server(&redis).post(path, &service(), &body).await.expect_problem(422, "invalid_request");
            assert!(
                problem["detail"].as_str().is_some_and(|response| response.starts_with("`to` ")),
                "{problem}"
            );
        }
    }
    assert!(redis.store().suppressions(9).await.expect("answers").is_empty());
}

/// The claims of the token that the command prints.
fn token(arguments: &[&str], exit: i32) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_otpost"))
        .arg("token")
        .args(arguments)
        .env_clear()
        .env("ENVIRONMENT", "development")
        .output()
        .expect("the binary starts");
    let (out, err) = said(&output, exit);
    let Some(claims) = out.split('.').nth(1) else { return json!(err) };
    serde_json::from_slice(&BASE64URL.decode(claims).expect("base64")).expect("claims")
}

#[test]
fn a_development_token_has_a_number_an_address_or_both() {
    let named = |claims: &Value| (claims["phone_number"].clone(), claims["email"].clone());
    assert_eq!(named(&token(&[], 0)), (json!(ALICE), json!(null)));
    assert_eq!(named(&token(&["--email", ANA], 0)), (json!(null), json!(ANA)));
    assert_eq!(named(&token(&["--email", ANA, "--phone", ALICE], 0)), (json!(ALICE), json!(ANA)));
    let service = token(&["--scope", "otp:verify"], 0);
    assert_eq!(named(&service), (json!(null), json!(null)));
    assert_eq!((&service["sub"], &service["scope"]), (&json!("development-service"), &json!("otp:verify")));
    for (arguments, whose) in [
        (&["--email", ANA] as &[&str], (json!(null), json!(ANA))),
        (&["--phone", ALICE], (json!(ALICE), json!(null))),
        (&["--email", ANA, "--phone", ALICE], (json!(ALICE), json!(ANA))),
    ] {
        let person = token(&[arguments, &["--scope", "otp:verify"]].concat(), 0);
        assert_eq!((named(&person), &person["scope"]), (whose, &json!("otp:verify")));
        assert_eq!(person["sub"], "development-user");
    }
    for bad in BAD {
        let response = token(&["--email", bad], 2);
        assert!(
            response.as_str().is_some_and(|response| response.starts_with("otpost: --email ")),
            "{response}"
        );
    }
}

/// Standard output and error of a command of development, and its exit code.
fn ran(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_otpost"))
        .args(arguments)
        .env_clear()
        .envs([("ENVIRONMENT", "development"), ("OPS_ADDR", "127.0.0.1:1")])
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn a_misspelt_scope_is_refused_and_the_known_ones_are_named() {
    for scope in ["otp:verfiy", "otp:verify otp:sent", "verify", "otp:verify,otp:send", "OTP:SEND"] {
        let (out, err, code) = ran(&["token", "--scope", scope]);
        assert_eq!((out.as_str(), code), ("", Some(2)), "{scope}");
        assert!(err.contains("is no scope of otpost; there are otp:send, otp:verify, otp:admin"), "{err}");
    }
    let both = token(&["--scope", "otp:send  otp:verify"], 0);
    assert_eq!(both["scope"], "otp:send otp:verify");
}

#[test]
fn a_command_with_swapped_letters_is_recognised() {
    for (typed, meant) in [("dve", "dev"), ("wroker", "worker"), ("sevre", "serve"), ("httpp", "http")] {
        let (_, err, code) = ran(&[typed]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(&format!("'{meant}'")), "{err}");
    }
    assert!(!ran(&["xyz"]).1.contains("similar"));
}

#[test]
fn an_argument_cannot_write_on_the_terminal_through_an_error() {
    let odd = "x\u{1b}[31m\u{202e}\u{9b}2Jy";
    let option = format!("--{odd}");
    for arguments in [&[odd] as &[&str], &["status", odd], &["status", &option], &["token", "--minutes", odd]]
    {
        let (out, err, code) = ran(arguments);
        assert_eq!((out.as_str(), code), ("", Some(2)), "{err:?}");
        assert!(!err.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{err:?}");
        // The parser of the arguments takes sequences away that begin with an escape.
        assert!(err.contains("x\u{fffd}\u{fffd}2Jy"), "{err:?}");
    }
}

#[test]
fn token_and_health_print_json_if_asked_to() {
    let (out, err, code) = ran(&["token", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let rows: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(rows[0]["token"].as_str().map(|token| token.split('.').count()), Some(3));
    assert!(rows[0]["expires_at"].is_string() && out.ends_with("]\n"));
    let (out, err, code) = ran(&["health", "--json"]);
    assert_eq!(code, Some(1), "{err}");
    let rows: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(rows, json!([{"address": "127.0.0.1:1", "ready": false}]));
}
