//! The HTTP interface, driven without a socket: what each endpoint answers, and what it never tells.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use otpost::broker::RequestSource as _;
use otpost::broker::memory::MemoryBroker;
use otpost::clock::Clock;
use otpost::config::{Jwt, JwtKey};
use otpost::domain::block::{ByHand, Suppression};
use otpost::domain::challenge::ChallengeId;
use otpost::domain::code::{Code, CodeKey, CodeKeyring, CodeScope, Kid};
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::phone::PhoneNumber;
use otpost::domain::quota::Quota;
use otpost::domain::recipient::{Channel, Digest16, Purpose, RecipientKeyring};
use otpost::domain::request::{RequestId, SendRequest};
use otpost::domain::time::UnixMillis;
use otpost::domain::trail::Notes;
use otpost::domain::verdict::Verdict;
use otpost::domain::zone::Zone;
use otpost::flow::admit::Rules;
use otpost::flow::inspect::status::{Facts, Heard, Inspector};
use otpost::flow::verify::Verifier;
use otpost::http::{Api, Tokens, VALIDATING_MAX, Webhooks, ops_router, router};
use otpost::store::memory::MemoryStore;
use otpost::store::{
    Admission, Admit, Awaited, Check, Handling, KillSwitch, Limits, Mark, Marked, Proposal, Pulse, Recent,
    Refund, Settle, Settled, Store, StoreError, Story, Subject, Track, Tracked, Usage,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

pub const SECRET: &str = "a secret of more than thirty-two bytes";
pub const AUDIENCE: &str = "otpost-tests";
pub const ISSUER: &str = "https://issuer.example";
pub const ALICE: &str = "+573001234567";
pub const VERIFY_PHONE: &str = "/api/v1/auth/verify-phone-otp";
pub const VERIFY_SERVICE: &str = "/api/v1/otp/verify";
pub const SEND_SMS: &str = "/api/v1/auth/send-verification-sms";
const PURPOSE: &str = "verification";
const CODE: &str = "482913";
const START: UnixMillis = UnixMillis(1_800_000_000_000);
const LIFE: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);

/// The HTTP interface over a store and a broker in memory.
pub struct Door {
    pub store: Arc<MemoryStore>,
    pub broker: MemoryBroker,
    codes: Arc<CodeKeyring>,
    recipients: Arc<RecipientKeyring>,
    router: Router,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Door {
    pub fn open() -> Door {
        Door::with(|_| {})
    }

    /// With some of its parts exchanged.
    pub fn with(change: impl FnOnce(&mut Api)) -> Door {
        Door::made(change, None)
    }

    /// Open to the provider's reports.
    pub fn with_webhooks(webhooks: Webhooks) -> Door {
        Door::made(|_| {}, Some(Arc::new(webhooks)))
    }

    fn made(change: impl FnOnce(&mut Api), webhooks: Option<Arc<Webhooks>>) -> Door {
        let store = Arc::new(MemoryStore::new(Clock::System));
        store.set_time(START);
        let broker = MemoryBroker::default();
        let codes = Arc::new(CodeKeyring::new(vec![key("k2", 2), key("k1", 1)]).expect("two names"));
        let recipients = Arc::new(RecipientKeyring::new(&[7; 32]));
        let mut api = Api {
            tokens: Tokens::new(&jwt(JwtKey::Secret(SECRET.into()))).expect("a secret"),
            verifier: Verifier {
                store: store.clone(),
                codes: codes.clone(),
                recipients: recipients.clone(),
                limits: limits(),
            },
            requester: Arc::new(broker.requester()),
            send_wait: Duration::ZERO,
            store: store.clone(),
            recipients: recipients.clone(),
            rules: Rules {
                sms_enabled: true,
                email_enabled: true,
                default_region: "CO".parse().expect("a region"),
                allowed_countries: Some(BTreeSet::from(["CO".to_owned()])),
                allow_landline: false,
            },
            limits: limits(),
            code_length: 6,
            trusted_proxies: Vec::new(),
            clock: Clock::System,
            inspector: Inspector {
                facts: Facts {
                    version: env!("CARGO_PKG_VERSION"),
                    role: "dev",
                    production: false,
                    sms_enabled: true,
                    configured: vec!["JWT_SECRET"],
                    limits: limits(),
                    started: Some(tokio::time::Instant::now()),
                },
                store: store.clone(),
                store_in_memory: true,
                broker: None,
                provider: None,
                clock: Clock::System,
                heard: Heard::default(),
            },
            validating: Arc::new(Semaphore::new(VALIDATING_MAX)),
        };
        change(&mut api);
        let router = router(Arc::new(api), webhooks);
        Door { store, broker, codes, recipients, router }
    }

    /// With another store behind both the verifier and the limits.
    fn over(store: impl Store + 'static) -> Door {
        let store = Arc::new(store);
        Door::with(|api| {
            api.verifier.store = store.clone();
            api.store = store;
        })
    }

    /// Hands a request in, from the address of a peer.
    pub async fn ask_from(&self, peer: &str, mut request: Request<Body>) -> Answer {
        let peer: SocketAddr = peer.parse().expect("an address and a port");
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.expect("a router always answers");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a short answer");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).expect("answers are text"),
        }
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        self.ask_from("192.0.2.1:40000", request).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.ask(post(path, token, body.to_string())).await
    }

    async fn check_code(&self, path: &str, code: &str) -> Answer {
        match path {
            VERIFY_PHONE => self.post(path, &alice(), &json!({ "otp_code": code })).await,
            _ => self.post(path, &service(), &json!({"to": ALICE, "otp_code": code})).await,
        }
    }

    async fn request_code(&self) -> Answer {
        self.post(SEND_SMS, &alice(), &json!({"otp_type": "SMS"})).await
    }

    /// Admits a request for this code and ends it as sent, as a worker does.
    async fn send_code(&self, request: &str, code: &str) {
        self.send_code_for(request, code, ALICE, PURPOSE, "k1").await;
    }

    async fn send_code_for(&self, request: &str, code: &str, to: &str, purpose: &str, kid: &'static str) {
        let code = Code::parse(code).expect("digits");
        let parsed = Purpose::parse(purpose).expect("a purpose");
        let scope = CodeScope { channel: Channel::Sms, address: to, purpose: &parsed };
        let other = key(kid, 9);
        let digest = self.codes.get(kid).unwrap_or(&other).digest(scope, &code);
        let request = RequestId::parse(request).expect("an id");
        let limits = limits();
        let admit = Admit {
            handling: Handling { subject: self.subject(to, purpose), request: &request, owner: 1 },
            requested_at: None,
            not_after: None,
            code_life: LIFE,
            lease: Duration::from_secs(20),
            proposal: Proposal { id: ChallengeId::from_digest(digest), kid, digest, callers_code: true },
            kids: ",k2,k1,k9,",
            limits: &limits,
            closed: false,
            held: false,
            starts_below: u32::MAX,
            country: None,
            notes: &Notes::default(),
        };
        match self.store.admit(&admit).await {
            Ok(Admission::Granted(_)) => {}
            other => panic!("the send must be granted: {other:?}"),
        }
        let refused = Outcome::refused(Status::Sent, START, purpose, OutcomeError::of(ErrorCode::Internal));
        let settle = Settle {
            handling: admit.handling,
            outcome: &Outcome { error: None, ..refused },
            refund: Refund::None,
            found: false,
            block: None,
            receipt_due: None,
        };
        self.store.settle(&settle).await.expect("the store answers");
    }

    fn subject<'a>(&self, to: &str, purpose: &'a str) -> Subject<'a> {
        Subject { recipient: self.recipients.address(Channel::Sms, to), purpose, user: None, ip: None }
    }

    fn pass(&self, time: Duration) {
        self.store.set_time(START.plus(time));
    }

    /// The bodies of the requests on the queue.
    async fn queued(&self) -> Vec<Vec<u8>> {
        let mut source = self.broker.source(Channel::Sms, 100);
        source.cancel().await;
        let mut bodies = Vec::new();
        while let Some(delivery) = source.next().await {
            bodies.push(delivery.body);
        }
        bodies
    }
}

pub fn jwt(key: JwtKey) -> Jwt {
    Jwt { key, issuer: Some(ISSUER.to_owned()), audience: Some(AUDIENCE.to_owned()) }
}

fn key(kid: &str, secret: u8) -> CodeKey {
    CodeKey::new(Kid::parse(kid).expect("a name"), &[secret; 32])
}

fn limits() -> Limits {
    let hourly = |count| Quota { count, window: HOUR };
    Limits {
        number: hourly(5),
        number_day: Quota { count: 10, window: 24 * HOUR },
        user: hourly(10),
        ip: hourly(30),
        all: hourly(0),
        cooldown: Duration::from_secs(30),
        wrong_per_challenge: 5,
        wrong: hourly(10),
    }
}

/// The claims of a good token, with some replaced; `null` takes one away.
pub fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "sub": "user-1",
        "phone_number": ALICE,
        "name": "Alicia Ñandú",
        "locale": "es-CO",
        "zoneinfo": "America/Bogota",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": Clock::System.now().as_seconds() + 600,
    });
    for (name, value) in changes.as_object().expect("an object of claims") {
        claims[name] = value.clone();
    }
    let claims = claims.as_object_mut().expect("an object");
    claims.retain(|_, value| !value.is_null());
    Value::Object(claims.clone())
}

pub fn token(changes: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims(changes), &key).expect("a token")
}

pub fn alice() -> String {
    token(&json!({}))
}

pub fn service() -> String {
    token(
        &json!({"sub": "shop", "phone_number": null, "name": null, "scope": "profile otp:verify otp:admin"}),
    )
}

pub fn post(path: &str, token: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .expect("a request")
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("{} is no JSON: {:?}", self.status, self.text))
    }

    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }

    /// A problem as RFC 9457 has it, of this status and machine word. Answers it whole.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{} {}",
            self.status,
            self.text
        );
        let problem = self.json();
        assert_eq!((self.status, &problem["code"]), (status, &json!(code)), "{problem}");
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)));
        assert!(problem["title"].is_string(), "{problem}");
        let header =
            self.header("retry-after").map(|seconds| json!(seconds.parse::<u64>().expect("seconds")));
        assert_eq!(header.as_ref(), problem.get("retry_after"), "{problem}");
        problem
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub fn expect_nothing_of(&self, secrets: &[&str]) {
        let whole = format!("{:?} {}", self.headers, self.text);
        for secret in secrets {
            assert!(!whole.contains(secret), "{secret:?} is told by {whole}");
        }
    }
}

/// A store whose every step fails in the same way.
pub struct Broken(pub Fails);

#[derive(Clone, Copy)]
pub enum Fails {
    WithAnError,
    ByPanicking,
    ByNeverAnswering,
}

impl Broken {
    async fn fail<T>(&self) -> Result<T, StoreError> {
        match self.0 {
            Fails::WithAnError => {
                Err(StoreError::Unavailable("redis://otpost:hunter2@10.9.8.7 timed out".to_owned()))
            }
            Fails::ByPanicking => panic!("hunter2 at 10.9.8.7"),
            Fails::ByNeverAnswering => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Store for Broken {
    async fn admit(&self, _: &Admit<'_>) -> Result<Admission, StoreError> {
        self.fail().await
    }

    async fn mark(
        &self,
        _: &Handling<'_>,
        _: Option<u32>,
        _: Mark,
        _: Option<&Notes>,
    ) -> Result<Marked, StoreError> {
        self.fail().await
    }

    async fn settle(&self, _: &Settle<'_>) -> Result<Settled, StoreError> {
        self.fail().await
    }

    async fn verify(&self, _: &Check<'_>) -> Result<Verdict, StoreError> {
        self.fail().await
    }

    async fn usage(&self, _: &Subject<'_>, _: Option<&RequestId>, _: &Limits) -> Result<Usage, StoreError> {
        self.fail().await
    }

    async fn track(&self, _: &Track<'_>) -> Result<Tracked, StoreError> {
        self.fail().await
    }

    async fn overdue(&self, _: Duration, _: u32) -> Result<Vec<Awaited>, StoreError> {
        self.fail().await
    }

    async fn pulse(&self, _: u64, _: bool) -> Result<Pulse, StoreError> {
        self.fail().await
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }

    async fn set_kill_switch(&self, _: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }

    async fn story(&self, _: &RequestId, _: Option<Digest16>) -> Result<Option<Story>, StoreError> {
        self.fail().await
    }

    async fn recent(&self, _: Digest16) -> Result<Vec<Recent>, StoreError> {
        self.fail().await
    }

    async fn suppressions(&self, _: u32) -> Result<Vec<Suppression>, StoreError> {
        self.fail().await
    }

    async fn suppress(&self, _: Digest16, _: &ByHand<'_>) -> Result<Suppression, StoreError> {
        self.fail().await
    }

    async fn lift_suppression(&self, _: Digest16) -> Result<Option<Suppression>, StoreError> {
        self.fail().await
    }

    fn may_have_forgotten(&self) -> bool {
        true
    }
}

const ENTRANCES: [&str; 2] = [VERIFY_PHONE, VERIFY_SERVICE];

#[tokio::test]
async fn the_right_code_verifies_once() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code("r1", CODE).await;
        let answer = door.check_code(path, CODE).await;
        let expected = json!({"verified": true, "channel": "sms", "purpose": PURPOSE, "to": "+57******4567"});
        assert_eq!(answer.expect(200), expected);
        door.check_code(path, CODE).await.expect_problem(409, "code_used");
    }
}

#[tokio::test]
async fn a_wrong_code_tells_how_many_tries_are_left_until_only_a_new_code_helps() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code("r1", CODE).await;
        for left in [4, 3, 2, 1, 0] {
            let problem = door.check_code(path, "000000").await.expect_problem(422, "wrong_code");
            assert_eq!(problem["attempts_remaining"], left);
        }
        let answer = door.check_code(path, CODE).await;
        let problem = answer.expect_problem(429, "too_many_attempts");
        assert_eq!(problem.get("retry_after"), None, "waiting does not help: {problem}");
    }
}

#[tokio::test]
async fn who_guesses_at_one_code_after_another_is_told_when_to_come_back() {
    for path in ENTRANCES {
        let door = Door::open();
        for (round, request) in ["r1", "r2"].into_iter().enumerate() {
            door.pass(Duration::from_secs(60) * u32::try_from(round).expect("small"));
            door.send_code(request, CODE).await;
            for _ in 0..5 {
                door.check_code(path, "000000").await.expect_problem(422, "wrong_code");
            }
        }
        door.pass(Duration::from_secs(120));
        door.send_code("r3", CODE).await;
        let answer = door.check_code(path, CODE).await;
        let problem = answer.expect_problem(429, "too_many_attempts");
        assert_eq!(problem["retry_after"], 3_600 - 120, "the first try leaves the hour then");
        door.pass(HOUR);
        door.send_code("r4", CODE).await;
        door.check_code(path, CODE).await.expect(200);
    }
}

#[tokio::test]
async fn a_code_is_over_when_its_life_is_and_forgotten_an_hour_later() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code("r1", CODE).await;
        door.pass(LIFE);
        door.check_code(path, CODE).await.expect_problem(410, "code_expired");
        door.pass(LIFE + HOUR);
        door.check_code(path, CODE).await.expect_problem(404, "no_pending_code");
    }
}

#[tokio::test]
async fn a_code_is_good_for_its_own_number_and_purpose_only() {
    let door = Door::open();
    door.send_code_for("r1", CODE, ALICE, "login", "k1").await;
    door.check_code(VERIFY_PHONE, CODE).await.expect_problem(404, "no_pending_code");
    let body = |to: &str| json!({"to": to, "purpose": "login", "channel": "sms", "otp_code": CODE});
    let other = door.post(VERIFY_SERVICE, &service(), &body("+573009999999")).await;
    other.expect_problem(404, "no_pending_code");
    let national = door.post(VERIFY_SERVICE, &service(), &body("300 123 4567")).await;
    assert_eq!(national.expect(200)["purpose"], "login");
}

#[tokio::test]
async fn a_code_of_a_key_that_is_not_here_counts_nothing() {
    for path in ENTRANCES {
        let door = Door::open();
        door.send_code_for("r1", CODE, ALICE, PURPOSE, "k9").await;
        for _ in 0..7 {
            let problem = door.check_code(path, "000000").await.expect_problem(503, "key_unavailable");
            assert_eq!(problem.get("attempts_remaining"), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_with_the_store_is_told_as_such_and_nothing_more() {
    for (fails, status, code) in [
        (Fails::WithAnError, 503, "store_unavailable"),
        (Fails::ByPanicking, 500, "internal"),
        (Fails::ByNeverAnswering, 503, "timed_out"),
    ] {
        let door = Door::over(Broken(fails));
        for answer in [
            door.check_code(VERIFY_PHONE, CODE).await,
            door.check_code(VERIFY_SERVICE, CODE).await,
            door.request_code().await,
        ] {
            answer.expect_problem(status, code);
            answer.expect_nothing_of(&["hunter2", "10.9.8.7", "redis", CODE, "300123"]);
        }
        assert!(door.queued().await.is_empty());
    }
}

#[tokio::test]
async fn a_request_for_a_code_is_queued_as_any_service_would_publish_it() {
    let door = Door::open();
    let answer = door.request_code().await;
    let told = answer.expect(202);
    let request_id = told["request_id"].as_str().expect("an id");
    let expected = json!({
        "request_id": request_id, "status": "queued", "channel": "sms", "to": "+57******4567",
        "resend_after": 30, "code_length": 6,
    });
    assert_eq!(told, expected);
    let queued = door.queued().await;
    assert_eq!(queued.len(), 1);
    let request = decoded(&queued[0]);
    assert_eq!((request.id.as_str(), request.to.as_ref()), (request_id, ALICE));
    assert_eq!(request.purpose, Purpose::default());
    assert_eq!(request.user_id.as_deref(), Some("user-1"));
    assert_eq!(request.user_name.as_deref(), Some("Alicia Ñandú"));
    assert_eq!(
        (request.locale.as_deref(), request.timezone.as_ref().map(Zone::name)),
        (Some("es-CO"), Some("America/Bogota"))
    );
    assert_eq!(request.client_ip.map(|ip| ip.to_string()).as_deref(), Some("192.0.2.1"));
    assert!(request.requested_at.is_some() && request.code.is_none());
}

#[track_caller]
fn decoded(body: &[u8]) -> SendRequest<'_> {
    SendRequest::decode(body, None).unwrap_or_else(|refused| panic!("{}", refused.fault))
}

#[tokio::test]
async fn whatever_a_token_claims_the_queued_request_follows_the_contract() {
    let long = "ñ".repeat(201);
    for claims in [
        json!({"name": long, "locale": "not a language", "zoneinfo": "../../etc/passwd"}),
        json!({"name": "", "locale": "", "zoneinfo": ""}),
        json!({"name": "a\u{0}\r\n{{code}}", "locale": "e".repeat(500), "zoneinfo": "x".repeat(500)}),
        json!({"sub": "s".repeat(255), "name": "ñ".repeat(200), "zoneinfo": "America/Argentina/ComodRivadavia"}),
        json!({"sub": "ñ {} \" \\"}),
    ] {
        let door = Door::open();
        door.post(SEND_SMS, &token(&claims), &json!({"otp_type": "SMS"})).await.expect(202);
        decoded(&door.queued().await[0]);
    }
}

#[tokio::test]
async fn who_would_be_refused_by_the_worker_is_told_at_once_and_nothing_is_queued() {
    let door = Door::open();
    door.send_code("r1", CODE).await;
    let answer = door.request_code().await;
    assert_eq!(answer.expect_problem(429, "cooldown")["retry_after"], 30);
    for round in 1..5 {
        door.pass(Duration::from_secs(60) * round);
        door.send_code(&format!("again-{round}"), CODE).await;
    }
    door.pass(Duration::from_secs(400));
    let answer = door.request_code().await;
    assert_eq!(answer.expect_problem(429, "rate_limited")["retry_after"], 3_200);
    answer.expect_nothing_of(&["300123", CODE, "user-1"]);
    assert!(door.queued().await.is_empty());
}

#[tokio::test]
async fn a_number_that_nothing_is_sent_to_is_refused() {
    #[track_caller]
    fn check(door: &Door, answer: &Answer, code: &str) {
        answer.expect_problem(422, code);
        answer.expect_nothing_of(&["6012345", "2015550", "hello", "Secreto"]);
        assert_eq!(door.broker.waiting(), 0);
    }
    let ask = async |door: &Door, number: Value| {
        let token = token(&json!({ "phone_number": number }));
        door.post(SEND_SMS, &token, &json!({"otp_type": "SMS"})).await
    };
    let door = Door::open();
    for (number, code) in [
        (json!("+576012345678"), "landline"),
        (json!("+12015550123"), "country_not_allowed"),
        (json!("hello Secreto"), "invalid_recipient"),
        (json!(""), "invalid_recipient"),
        (Value::Null, "invalid_recipient"),
    ] {
        check(&door, &ask(&door, number).await, code);
    }
    let off = Door::with(|api| api.rules.sms_enabled = false);
    check(&off, &ask(&off, json!(ALICE)).await, "channel_disabled");
}

#[tokio::test]
async fn a_number_that_is_none_cannot_be_verified() {
    let door = Door::open();
    for number in [json!("hello Secreto"), Value::Null] {
        let token = token(&json!({ "phone_number": number }));
        let answer = door.post(VERIFY_PHONE, &token, &json!({ "otp_code": CODE })).await;
        answer.expect_problem(422, "invalid_recipient");
        answer.expect_nothing_of(&["Secreto", CODE]);
    }
    let body = json!({"to": "hello Secreto", "otp_code": CODE});
    let answer = door.post(VERIFY_SERVICE, &service(), &body).await;
    answer.expect_problem(422, "invalid_request");
    answer.expect_nothing_of(&["Secreto", CODE]);
}

#[tokio::test]
async fn an_idempotency_key_names_one_request_of_one_user() {
    let door = Door::open();
    let ask = async |sub: &str, key: &str| {
        let mut request = post(SEND_SMS, &token(&json!({ "sub": sub })), r#"{"otp_type":"SMS"}"#);
        request.headers_mut().insert("idempotency-key", key.parse().expect("a header value"));
        door.ask(request).await.expect(202)["request_id"].clone()
    };
    let first = ask("user-1", "order-77").await;
    let mut ids = BTreeSet::from([first.to_string()]);
    // Neither another key, nor another user, nor the same letters divided otherwise name the same request.
    for (sub, key) in
        [("user-1", "order-78"), ("user-2", "order-77"), ("user-1o", "rder-77"), ("user-1:o", "rder-77")]
    {
        assert!(ids.insert(ask(sub, key).await.to_string()), "{sub} {key}");
    }
    assert!(!first.to_string().contains("order") && !first.to_string().contains("user"));
    assert_eq!(door.queued().await.len(), 5);
    door.send_code(first.as_str().expect("an id"), CODE).await;
    assert_eq!(ask("user-1", "order-77").await, first, "a repeat is not refused by a cooldown");
}

#[tokio::test]
async fn an_idempotency_key_is_no_way_around_a_limit() {
    let door = Door::open();
    door.send_code("r1", CODE).await;
    let mut request = post(SEND_SMS, &alice(), r#"{"otp_type":"SMS"}"#);
    request.headers_mut().insert("idempotency-key", "another".parse().expect("a header value"));
    door.ask(request).await.expect_problem(429, "cooldown");
}

#[tokio::test]
async fn without_an_idempotency_key_every_request_is_another_one() {
    let door = Door::open();
    let (first, second) = (door.request_code().await.expect(202), door.request_code().await.expect(202));
    assert_ne!(first["request_id"], second["request_id"]);
}

#[tokio::test]
async fn an_idempotency_key_that_breaks_its_rule_is_refused() {
    let door = Door::open();
    for key in [Vec::new(), vec![b'k'; 256], "Secreto-ñ".as_bytes().to_vec()] {
        let mut request = post(SEND_SMS, &alice(), r#"{"otp_type":"SMS"}"#);
        let value = axum::http::HeaderValue::from_bytes(&key).expect("a header value");
        request.headers_mut().insert("idempotency-key", value);
        let answer = door.ask(request).await;
        answer.expect_problem(400, "invalid_request");
        answer.expect_nothing_of(&["Secreto", "kkk"]);
    }
    assert!(door.queued().await.is_empty());
}

#[tokio::test]
async fn a_request_that_could_not_be_queued_may_be_asked_for_again() {
    let door = Door::open();
    door.broker.fail_next_publishes(1);
    let answer = door.request_code().await;
    answer.expect_problem(503, "queue_unavailable");
    answer.expect_nothing_of(&["300123", "user-1"]);
    assert!(door.queued().await.is_empty());
    door.request_code().await.expect(202);
    door.broker.delete_request_queue();
    door.request_code().await.expect_problem(503, "queue_unavailable");
}

/// Bodies that are not what an endpoint asks for; each holds `Secreto` or the digits `739164`, which nothing may tell.
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

/// Values of `otp_code` that are no code.
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
async fn a_body_that_is_wrong_gets_a_problem_that_repeats_nothing_of_it() {
    let door = Door::open();
    for (path, token) in [(SEND_SMS, alice()), (VERIFY_PHONE, alice()), (VERIFY_SERVICE, service())] {
        for (name, body, status, code) in bad_bodies() {
            let answer = door.ask(post(path, &token, body)).await;
            assert_eq!(answer.status, status, "{path}: {name}: {}", answer.text);
            answer.expect_problem(status, code);
            answer.expect_nothing_of(&["Secreto", "739164", "[["]);
        }
    }
    for (path, token) in [(VERIFY_PHONE, alice()), (VERIFY_SERVICE, service())] {
        for code in bad_codes() {
            let answer = door.post(path, &token, &json!({"to": ALICE, "otp_code": code})).await;
            let problem = answer.expect_problem(422, "invalid_request");
            let detail = problem["detail"].as_str().expect("a sentence");
            assert!(detail.starts_with("`otp_code` must be a string of 4 to 10 digits; got "), "{detail}");
            answer.expect_nothing_of(&["Secreto", "7391", "٧٣٩", "７３９", "300123"]);
        }
    }
    for kind in [json!("EMAIL"), json!("sms"), json!("Secreto"), json!(1), json!(["SMS"]), Value::Null] {
        let answer = door.post(SEND_SMS, &alice(), &json!({ "otp_type": kind })).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert!(
            problem["detail"].as_str().is_some_and(|told| told.starts_with("`otp_type` must be \"SMS\""))
        );
        answer.expect_nothing_of(&["Secreto", "EMAIL"]);
    }
    for (field, value) in
        [("channel", json!("Secreto")), ("purpose", json!("Se creto")), ("purpose", json!(7))]
    {
        let mut body = json!({"to": ALICE, "otp_code": CODE});
        body[field] = value;
        let answer = door.post(VERIFY_SERVICE, &service(), &body).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert!(
            problem["detail"].as_str().is_some_and(|told| told.starts_with(&format!("`{field}` must be")))
        );
        answer.expect_nothing_of(&["creto", CODE, "300123"]);
    }
    assert!(door.queued().await.is_empty());
}

#[tokio::test]
async fn a_large_body_is_refused_whether_or_not_it_tells_its_length() {
    let door = Door::open();
    let large = format!(r#"{{"otp_type":"SMS","pad":"{}"}}"#, "x".repeat(20_000));
    for told in [true, false] {
        let mut request = post(SEND_SMS, &alice(), large.clone());
        if told {
            let length = large.len().to_string().parse().expect("a number");
            request.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        door.ask(request).await.expect_problem(413, "body_too_large");
    }
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused() {
    let door = Door::open();
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
        let answer = door.ask(request).await;
        answer.expect_problem(415, "unsupported_media_type");
        answer.expect_nothing_of(&["Secreto", CODE]);
    }
    for kind in ["application/json; charset=utf-8", "APPLICATION/JSON", " application/json ;x=y"] {
        let mut request = post(VERIFY_PHONE, &alice(), format!(r#"{{"otp_code":"{CODE}"}}"#));
        request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a header value"));
        door.ask(request).await.expect_problem(404, "no_pending_code");
    }
}

#[tokio::test]
async fn whoever_asks_without_a_token_learns_nothing_of_their_body() {
    let door = Door::open();
    for path in [SEND_SMS, VERIFY_PHONE, VERIFY_SERVICE] {
        for (_, body, status, code) in bad_bodies() {
            let request = Request::post(path).body(Body::from(body)).expect("a request");
            let answer = door.ask(request).await;
            // A body that is too large is not read to its end, whoever sends it.
            match status {
                413 => answer.expect_problem(413, code),
                _ => answer.expect_problem(401, "unauthenticated"),
            };
        }
    }
}

#[tokio::test]
async fn a_path_or_a_method_that_is_not_served_gets_a_problem() {
    let door = Door::open();
    for path in ["/", "/Secreto", "/api/v1/auth/verify-phone-otp/Secreto", "/metrics", "/api/v1/otp"] {
        let answer = door.ask(post(path, &alice(), "{}")).await;
        answer.expect_problem(404, "not_found");
        answer.expect_nothing_of(&["Secreto"]);
    }
    for path in [SEND_SMS, VERIFY_PHONE, VERIFY_SERVICE] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            let answer = door.ask(request).await;
            answer.expect_problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), Some("POST"), "RFC 9110 §15.5.6 asks for it");
        }
    }
}

async fn get(router: Router, path: &str) -> (u16, String, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("a router always answers");
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let (status, kind) = (response.status().as_u16(), kind.unwrap_or_default().to_owned());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a short answer");
    (status, kind, String::from_utf8(body.to_vec()).expect("answers are text"))
}

#[tokio::test]
async fn probes_need_no_token_and_metrics_are_not_for_users() {
    let door = Door::open();
    for path in ["/livez", "/readyz"] {
        let (status, _, text) = get(door.router.clone(), path).await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
    }
    assert_eq!(get(door.router.clone(), "/metrics").await.0, 404);
}

#[tokio::test]
async fn operators_see_whether_a_process_is_ready_and_what_it_counts() {
    let ready = ops_router(Arc::new(|| Ok(())));
    let not_ready = ops_router(Arc::new(|| Err("not consuming\n")));
    assert_eq!(get(ready.clone(), "/readyz").await.0, 200);
    let (status, _, text) = get(not_ready.clone(), "/readyz").await;
    assert_eq!((status, text.as_str()), (503, "not consuming\n"));
    assert_eq!(get(not_ready, "/livez").await.0, 200, "a restart would not bring a broker back");
    Door::open().post("/Secreto-path", &alice(), &json!({})).await.expect_problem(404, "not_found");
    let (status, kind, text) = get(ready, "/metrics").await;
    assert_eq!((status, kind.as_str()), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(text.ends_with("# EOF\n") && text.contains("otpost_http_requests_total"), "{text}");
    assert!(!text.contains("Secreto"), "strangers must not make up labels: {text}");
}

#[tokio::test]
async fn only_a_trusted_proxy_says_where_a_client_is() {
    async fn client_ip(trusted: &str, peer: &str, forwarded: &[&str]) -> Option<String> {
        let door = Door::with(|api| {
            api.trusted_proxies = trusted.split(',').filter_map(|net| net.parse().ok()).collect();
        });
        let mut request = post(SEND_SMS, &alice(), r#"{"otp_type":"SMS"}"#);
        for line in forwarded {
            let line = axum::http::HeaderValue::from_bytes(line.as_bytes()).expect("a header value");
            request.headers_mut().append("x-forwarded-for", line);
        }
        door.ask_from(peer, request).await.expect(202);
        let body = &door.queued().await[0];
        decoded(body).client_ip.map(|ip| ip.to_string())
    }
    const TRUSTED: &str = "10.0.0.0/8,2001:db8::/32";
    for (trusted, peer, forwarded, expected) in [
        ("", "203.0.113.9:1", &["198.51.100.7"] as &[&str], "203.0.113.9"),
        ("", "10.0.0.1:1", &["198.51.100.7"], "10.0.0.1"),
        (TRUSTED, "203.0.113.9:1", &["198.51.100.7"], "203.0.113.9"),
        (TRUSTED, "10.0.0.1:1", &[], "10.0.0.1"),
        (TRUSTED, "10.0.0.1:1", &["198.51.100.7"], "198.51.100.7"),
        (TRUSTED, "10.0.0.1:1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (TRUSTED, "10.0.0.1:1", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
        (TRUSTED, "10.0.0.1:1", &["198.51.100.7, nonsense"], "10.0.0.1"),
        (TRUSTED, "10.0.0.1:1", &["ñ"], "10.0.0.1"),
        (TRUSTED, "[2001:db8::1]:1", &["2a00::7"], "2a00::7"),
        (TRUSTED, "[::ffff:10.0.0.1]:1", &["::ffff:198.51.100.7"], "198.51.100.7"),
    ] {
        let got = client_ip(trusted, peer, forwarded).await;
        assert_eq!(got.as_deref(), Some(expected), "{trusted} {peer} {forwarded:?}");
    }
}

#[test]
fn the_masked_number_is_what_the_answers_show() {
    let number = PhoneNumber::parse(ALICE, "CO".parse().expect("a region")).expect("a number");
    assert_eq!(number.to_string(), "+57******4567");
    // The digest that names the number in the store is no mask of it.
    let named: Digest16 = RecipientKeyring::new(&[7; 32]).address(Channel::Sms, ALICE);
    assert!(!named.as_str().contains("4567"));
}
