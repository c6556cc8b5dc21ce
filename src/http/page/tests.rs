use std::time::Duration;

use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, header};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::Role;
use crate::domain::address::Address;
use crate::domain::code::Code;
use crate::domain::phone::PhoneNumber;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;
use crate::http::auth::{Tokens, User};
use crate::provider::{Message, MessageObserver as _};

const HERE: &str = "127.0.0.1:50000";
const HOST: &str = "localhost:8080";
const NUMBERED_FROM: UnixMillis = UnixMillis(1_800_000_000_000);

/// The routes of the page, and the parts behind them that tests use.
struct TestPage {
    router: Router,
    handset: Arc<Handset>,
    settings: Settings,
    shutdown: CancellationToken,
}

fn start() -> TestPage {
    let settings = Settings::read(Role::Dev, std::iter::empty(), "/nowhere/.env".as_ref(), |_| Vec::new());
    let settings = settings.expect("development needs no setting");
    let handset = Arc::new(Handset::new("MeStore", NUMBERED_FROM));
    let shutdown = CancellationToken::new();
    let listening = "127.0.0.1:8080".parse().expect("an address");
    let page = Page::new(handset.clone(), &settings, listening, shutdown.clone());
    TestPage { router: routes(page), handset, settings, shutdown }
}

fn get_(path: &str) -> Builder {
    Request::get(path).header(header::HOST, HOST)
}

fn post_token() -> Builder {
    Request::post("/dev/token").header(header::HOST, HOST).header(header::CONTENT_TYPE, "application/json")
}

impl TestPage {
    async fn ask(&self, request: Builder, body: &str) -> Response {
        self.ask_from(Some(HERE), request, body).await
    }

    async fn ask_from(&self, peer: Option<&str>, request: Builder, body: &str) -> Response {
        let mut request = request.body(Body::from(body.to_owned())).expect("a request");
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer.parse().expect("an address")));
        }
        self.router.clone().oneshot(request).await.expect("a router always answers")
    }

    async fn status(&self, request: Builder) -> u16 {
        self.ask(request, "{}").await.status().as_u16()
    }

    async fn token(&self, person: &Value) -> Value {
        let answer = self.ask(post_token(), &person.to_string()).await;
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.expect("a short answer");
        serde_json::from_slice(&body).expect("JSON")
    }

    /// The person that the API reads from a token of the page.
    async fn user(&self, person: &Value) -> User {
        let answer = self.token(person).await;
        let bearer = format!("Bearer {}", answer["token"].as_str().expect("a token"));
        let headers =
            HeaderMap::from_iter([(header::AUTHORIZATION, bearer.parse().expect("a header value"))]);
        let tokens = Tokens::new(self.settings.jwt.as_ref().expect("a key")).expect("a usable key");
        let Ok(user) = tokens.user(&headers).await else { panic!("the token is refused") };
        user
    }

    /// Shows a message, as the simulated provider does.
    fn show(&self, code: &str) {
        let to: Address =
            PhoneNumber::parse("+573001234567", "CO".parse().expect("a region")).expect("a number").into();
        self.handset.shown(
            &Message {
                request_id: &RequestId::parse("r-1").expect("an id"),
                to: &to,
                sender: 0,
                body: &format!("MeStore: tu código es {code}"),
                mail: None,
                code: Some(&Code::parse(code).expect("digits")),
                locale: None,
                user_name: None,
                validity: Duration::from_secs(60),
                attempt: 1,
            },
            NUMBERED_FROM,
        );
    }

    /// The codes of a stream's next messages, and the number of the last.
    async fn codes(&self, seen: Option<&str>, count: usize) -> (Vec<String>, String) {
        let request =
            seen.into_iter().fold(get_("/dev/messages"), |asked, id| asked.header("last-event-id", id));
        let mut stream = self.ask(request, "").await.into_body().into_data_stream();
        let (mut codes, mut last) = (Vec::new(), String::new());
        for _ in 0..count {
            let event = stream.next().await.expect("the stream goes on").expect("a piece of it");
            let event = String::from_utf8(event.to_vec()).expect("text");
            let field = |name| event.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            let shown: Value = serde_json::from_str(field("data: ")).expect("JSON");
            assert_eq!((&shown["to"], &shown["from"]), (&json!("+57******4567"), &json!("MeStore")));
            codes.push(shown["code"].as_str().expect("a code").to_owned());
            last = field("id: ").to_owned();
        }
        (codes, last)
    }
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let page = start();
    for path in ["/", "/page.css", "/page.js", "/gateway.js", "/handset.js", "/words.js", "/texts.js"] {
        let answer = page.ask(get_(path), "").await;
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.headers()[header::REFERRER_POLICY], "no-referrer");
    }
    let refused = page.ask(Request::get("/").header(header::HOST, "evil.example"), "").await;
    assert!(refused.headers().contains_key(header::CONTENT_SECURITY_POLICY));
}

#[test]
fn every_documented_error_has_a_text_in_every_language() {
    let openapi: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("JSON");
    let codes = openapi["components"]["schemas"]["ProblemCode"]["enum"].as_array().expect("error codes");
    let texts = include_str!("texts.js");
    let languages = texts.matches("    errors: {").count();
    // Errors of callbacks and of the console never reach a person.
    let others = [
        "signature_refused",
        "not_recorded",
        "not_suppressed",
        "request_in_progress",
        "no_override",
        "too_many_overrides",
    ];
    for code in codes.iter().filter(|code| others.iter().all(|other| *code != other)) {
        let code = code.as_str().expect("a string");
        assert_eq!(texts.matches(&format!("\n      {code}: \"")).count(), languages, "{code}");
    }
    assert!(languages >= 3 && codes.len() > 30);
}

#[tokio::test]
async fn another_page_in_the_same_browser_gets_nothing() {
    let page = start();
    // A foreign name that resolves to this machine after its page was loaded.
    for path in ["/", "/page.js", "/dev/messages"] {
        let rebound = Request::get(path).header(header::HOST, "evil.example:8080");
        assert_eq!(page.status(rebound).await, 403, "{path}");
        assert_eq!(page.status(Request::get(path)).await, 403, "{path}: no host at all");
    }
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "https://localhost:8080"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(page.status(post_token().header(name, value)).await, 403, "{name}: {value}");
        let stream = get_("/dev/messages").header(name, value);
        assert_eq!(page.status(stream).await, 403, "{name}: {value}");
    }
    let own =
        || post_token().header("origin", "http://localhost:8080").header("sec-fetch-site", "same-origin");
    assert_eq!(page.status(own()).await, 200);
    // One of two values may be another page's.
    for (name, value) in
        [("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")]
    {
        assert_eq!(page.status(own().header(name, value)).await, 403, "{name}");
    }
    // The content types that a form can send without a preflight request.
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let form = Request::post("/dev/token").header(header::HOST, HOST).header(header::CONTENT_TYPE, kind);
        assert_eq!(page.status(form).await, 415);
    }
    // A link on another site may open the page.
    assert_eq!(page.status(get_("/").header("sec-fetch-site", "cross-site")).await, 200);
}

#[tokio::test]
async fn another_machine_gets_nothing_whatever_host_it_sends() {
    let page = start();
    for peer in [Some("192.0.2.7:50000"), Some("[2001:db8::7]:50000"), Some("[::ffff:192.0.2.7]:50000"), None]
    {
        for request in [get_("/"), get_("/dev/messages"), post_token()] {
            assert_eq!(page.ask_from(peer, request, "{}").await.status(), 403, "{peer:?}");
        }
    }
    for peer in [HERE, "[::1]:50000", "[::ffff:127.0.0.1]:50000"] {
        assert_eq!(page.ask_from(Some(peer), post_token(), "{}").await.status(), 200, "{peer}");
    }
    // A configured network address belongs to this machine.
    let is_this_machine = |peer: &str, listening: &str| {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        super::is_this_machine(address(peer), address(listening))
    };
    assert!(is_this_machine("10.0.0.5", "10.0.0.5") && !is_this_machine("10.0.0.6", "10.0.0.5"));
    assert!(!is_this_machine("10.0.0.5", "0.0.0.0") && !is_this_machine("0.0.0.0", "0.0.0.0"));
}

#[tokio::test]
async fn a_token_identifies_the_requested_person() {
    let page = start();
    let person = json!({"phone_number": "+573005550505", "email": "ana@example.com", "locale": "pt"});
    let user = page.user(&person).await;
    assert_eq!(user.claims.phone_number.as_deref(), Some("+573005550505"));
    assert_eq!(user.claims.locale.as_deref(), Some("pt"));
    let long = json!({"email": "a".repeat(255)}).to_string();
    assert_eq!(page.ask(post_token(), &long).await.status(), 422);
}

#[tokio::test]
async fn a_token_names_its_addresses_in_the_form_of_all_answers() {
    let page = start();
    for (typed, masked) in [
        ("+573001234567", json!("+57******4567")),
        ("300 123 4567", json!("+57******4567")),
        ("(+57) 300-123-4567", json!("+57******4567")),
        ("+34600000001", json!("+34*****0001")),
        ("123", json!(null)),
        ("", json!(null)),
    ] {
        assert_eq!(
            page.token(&json!({"phone_number": typed})).await["to"]["phone_number"],
            masked,
            "{typed}"
        );
    }
    for (typed, masked) in [
        ("ana@example.com", json!("a***@e***.com")),
        ("MARIA@mail.shop.example", json!("m***@m***.example")),
        ("ana@", json!(null)),
    ] {
        assert_eq!(page.token(&json!({"email": typed})).await["to"]["email"], masked, "{typed}");
    }
    assert_eq!(page.token(&json!({})).await["to"], json!({"phone_number": null, "email": null}));
}

#[tokio::test]
async fn another_number_is_another_person() {
    let page = start();
    let sub = async |number: &str, locale: &str| {
        page.user(&json!({"phone_number": number, "email": "ana@example.com", "locale": locale})).await.sub
    };
    let ana = sub("+573001234567", "es").await;
    assert_eq!(ana, sub("+573001234567", "en").await, "the same person in another language");
    assert_ne!(ana, sub("+573005551614", "es").await);
    assert!(!ana.contains("3001234567"), "{ana}");
}

#[tokio::test]
async fn a_stream_has_the_last_messages_and_then_new_ones() {
    let page = start();
    for n in 0..30 {
        page.show(&format!("{n:06}"));
    }
    let (codes, last) = page.codes(None, 20).await;
    assert_eq!((codes[0].as_str(), codes[19].as_str()), ("000010", "000029"));
    let (later, ()) = tokio::join!(page.codes(Some(&last), 1), async { page.show("482913") });
    assert_eq!(later.0, ["482913"], "a seen message is not repeated");
    let (codes, _) = page.codes(Some("1799999999999"), 1).await;
    assert_eq!(codes, ["000011"], "numbers of an earlier process are below these");
}

#[tokio::test]
async fn streams_are_bounded_and_end_at_shutdown() {
    let page = start();
    let mut streams = Vec::new();
    for _ in 0..handset::STREAMS_MAX {
        streams.push(page.ask(get_("/dev/messages"), "").await.into_body().into_data_stream());
    }
    assert_eq!(page.status(get_("/dev/messages")).await, 503);
    drop(streams.pop());
    assert_eq!(page.status(get_("/dev/messages")).await, 200, "a closed stream frees its permit");
    page.shutdown.cancel();
    for mut stream in streams {
        assert!(stream.next().await.is_none(), "shutdown ends it");
    }
}

#[test]
fn only_names_that_cannot_mean_another_machine_are_accepted() {
    #[track_caller]
    fn check(name: &str, listening: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, name.parse().expect("a header value"));
        let listening = listening.parse().expect("an address");
        assert_eq!(host(&headers).is_some_and(|host| is_own_name(&host, listening)), expected, "{name}");
    }
    for name in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.8.8", "[::1]:8080", "[::1]"] {
        check(name, "127.0.0.1", true);
    }
    for name in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:1", "", "a b", "10.0.0.5"]
    {
        check(name, "127.0.0.1", false);
    }
    check("10.0.0.5:8080", "10.0.0.5", true);
    check("10.0.0.5:8080", "0.0.0.0", false);
    check("0.0.0.0:8080", "0.0.0.0", false);
}
