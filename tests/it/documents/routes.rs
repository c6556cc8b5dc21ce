//! Compares the routes, enumerations and version of `docs/openapi.json` with the program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use otpost::clock::Clock;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::time::UnixMillis;
use otpost::domain::verdict::Verdict;
use otpost::flow::opt_statuses::OptStatuses;
use otpost::http::Webhooks;
use otpost::provider::sendgrid::events::SendGridEvents;
use otpost::provider::twilio::callback::TwilioCallbacks;
use otpost::provider::twilio::inbound::TwilioInbound;
use otpost::provider::{Callbacks, InboundMessages as _};
use serde_json::Value;

use super::http::OPENAPI;
use super::messages::RESULT;
use crate::fake_sendgrid::EventKey;
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN};
use crate::harness::{Embedded, RECIPIENT_KEY};
use crate::http::{Answer, TestServer};
use crate::opt_statuses;
use crate::vendors::{NO_ONES_KEY, Vendor};

const HTTP: &str = "src/http";
/// The page of `otpost dev`, which is not part of the contract.
const PAGE: &str = "page";
/// The webhook of a provider in `PROVIDERS_FILE`.
const OF_A_FILE: &str = "/webhooks/{provider}";
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(HTTP)
}

/// The text between the next two quotation marks.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// The paths of the router: as its source names them, in place or by a constant of the same file, and those of callbacks.
fn routes() -> BTreeSet<String> {
    let code = read(&folder().join("router.rs"));
    let arguments = code.split(".route(").skip(1).map(str::trim_start);
    let path = |argument: &str| match argument.strip_prefix('"') {
        Some(path) => path.split('"').next().expect("a first part").to_owned(),
        None => {
            let name = argument.split(',').next().expect("a first part");
            let constant = code.split(&format!("const {name}: &str = ")).nth(1);
            constant.and_then(quoted).unwrap_or_else(|| panic!("teach this test what {name} is")).to_owned()
        }
    };
    arguments.map(path).chain(paths_of_calls()).collect()
}

fn documented() -> BTreeSet<String> {
    OPENAPI["paths"].as_object().expect("paths").keys().cloned().collect()
}

fn callbacks() -> Vec<Arc<dyn Callbacks>> {
    let url = "https://otp.example.co/webhooks/twilio/status";
    let twilio = TwilioCallbacks::new(url, ACCOUNT_SID, vec![AUTH_TOKEN.to_owned().into()]).expect("valid");
    let sendgrid = SendGridEvents::new(&EventKey::fresh().public(), Clock::System).expect("a key");
    let vendor = Vendor::named("webhook");
    let described = vendor.described(&vendor.fake(), NO_ONES_KEY);
    vec![Arc::new(twilio), Arc::new(sendgrid), Arc::new(described.callbacks.expect("receipts"))]
}

/// The paths that providers call.
fn paths_of_calls() -> Vec<String> {
    let documented = |path: &str| path.replace("/webhooks/webhook", OF_A_FILE);
    let callbacks = callbacks().into_iter().map(|reader| documented(reader.endpoint().path));
    callbacks.chain([inbound().endpoint().path.to_owned()]).collect()
}

fn inbound() -> TwilioInbound {
    let url = "https://otp.example.co/webhooks/twilio/inbound";
    opt_statuses::messages(url, "http://127.0.0.1:9", &[AUTH_TOKEN])
}

fn with_all_webhooks(gateway: &Embedded) -> TestServer {
    let opt_statuses = OptStatuses {
        store: gateway.world.store.clone(),
        recipient_keyring: Arc::new(RecipientKeyring::new(&RECIPIENT_KEY)),
        messages: Arc::new(inbound()),
    };
    TestServer::with_webhooks(Webhooks {
        callbacks: callbacks(),
        receipts: gateway.tracker.clone(),
        opt_statuses: Some(Arc::new(opt_statuses)),
    })
}

async fn ask(server: &TestServer, method: &str, path: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path.replace("{request_id}", "r1").replace("{provider}", "webhook"));
    server.ask(request.body(Body::empty()).expect("a request")).await
}

#[test]
fn every_route_is_documented_and_nothing_else_is() {
    assert_eq!(routes(), documented());
}

#[test]
fn docs_http_lists_every_callback() {
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md"));
    for path in paths_of_calls() {
        assert!(page.contains(&format!("`POST {path}`")), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_documented_method_is_served_and_no_other() {
    let gateway = Embedded::start();
    let server = with_all_webhooks(&gateway);
    for path in documented() {
        let item = &OPENAPI["paths"][&path];
        for method in METHODS {
            let answer = ask(&server, method, &path).await;
            let documented = item.get(method.to_ascii_lowercase()).is_some();
            assert_eq!(answer.status != 405, documented, "{method} {path}: {}", answer.text);
            assert!(!answer.text.contains("\"code\":\"not_found\""), "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_document_is_served_without_a_token() {
    let answer = ask(&TestServer::start(), "GET", "/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(&answer.json(), &*OPENAPI);
    assert_eq!(OPENAPI["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_operation_has_a_unique_name_and_its_security() {
    let mut names = BTreeSet::new();
    for (path, item) in OPENAPI["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = operation["operationId"].as_str().expect("a name");
            assert!(names.insert(name), "{name} is there twice");
            let open = operation["security"].as_array().expect("a list").is_empty();
            let refuses = operation["responses"].get("401").or(operation["responses"].get("403")).is_some();
            assert_eq!(open, !refuses, "{method} {path}");
        }
    }
}

/// The values of a documented enumeration.
fn words(name: &str) -> BTreeSet<String> {
    let words = OPENAPI["components"]["schemas"][name]["enum"].as_array().expect("words").iter();
    words.map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// The problem codes in the source of `src/http`.
fn written_codes(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.file_stem().is_some_and(|stem| stem == PAGE) {
            continue;
        }
        if entry.is_dir() {
            written_codes(&entry, codes);
            continue;
        }
        let code = read(&entry);
        for made in code.split("Problem::new(").skip(1) {
            let arguments = made.split(')').next().expect("a first part");
            codes.extend(quoted(arguments).map(str::to_owned));
        }
    }
}

/// The values of `ErrorCode` in its generated schema.
fn error_codes() -> BTreeSet<String> {
    let words = RESULT["$defs"]["ErrorCode"]["oneOf"].as_array().expect("words").iter();
    words.map(|word| word["const"].as_str().expect("a word").to_owned()).collect()
}

fn verdicts() -> impl Iterator<Item = String> {
    let all = [
        Verdict::Wrong { attempts_left: 1 },
        Verdict::Expired { at: UnixMillis(0) },
        Verdict::NonePending,
        Verdict::AlreadyUsed,
        Verdict::Locked { retry_after: None },
        Verdict::KeyUnavailable,
    ];
    all.into_iter().map(|verdict| verdict.as_str().to_owned())
}

#[test]
fn the_documented_codes_of_problems_are_those_of_the_program() {
    let mut codes = BTreeSet::new();
    written_codes(&folder(), &mut codes);
    assert!(codes.len() > 15, "a search that finds only {codes:?} proves nothing");
    codes.extend(verdicts());
    codes.extend(error_codes());
    // Its status is `unknown`, which is a success over HTTP.
    codes.remove("in_doubt");
    assert_eq!(codes, words("ProblemCode"));
}

#[test]
fn the_documented_enumerations_are_those_of_the_program() {
    assert_eq!(words("ErrorCode"), error_codes());
    let channels = &RESULT["$defs"]["Channel"]["oneOf"];
    let of_messages = channels.as_array().expect("words").iter().filter_map(|word| word["const"].as_str());
    assert_eq!(words("Channel"), of_messages.map(str::to_owned).collect());
    for word in words("DeliveryStatus") {
        assert!(DeliveryStatus::parse(&word).is_some(), "{word}");
    }
}

#[test]
fn the_codes_of_each_status_are_among_all_codes() {
    let all = words("ProblemCode");
    let mut used = BTreeSet::from(["not_found".to_owned(), "method_not_allowed".to_owned()]);
    for (name, response) in OPENAPI["components"]["responses"].as_object().expect("responses") {
        let problem = &response["content"]["application/problem+json"]["schema"]["properties"];
        let codes = problem["code"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let codes: BTreeSet<String> = codes.map(str::to_owned).collect();
        assert!(codes.is_subset(&all), "{name}: {codes:?}");
        used.extend(codes);
    }
    assert_eq!(used, all);
}
