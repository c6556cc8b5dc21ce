//! Tests of the HTTP interface, driven without a socket.

mod bodies;
pub mod broken;
mod connections;
mod conversion;
mod crowds;
mod damaged;
mod defence;
mod email;
mod many_connections;
mod paths;
mod pending;
mod proofs;
mod refusals;
mod send;
pub mod services;
pub mod spend;
mod verified;
mod verify;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use otpost::broker::memory::MemoryBroker;
use otpost::broker::{Names, RequestConsumer as _};
use otpost::clock::Clock;
use otpost::config::{Jwt, JwtKey};
use otpost::domain::amount::Currency;
use otpost::domain::budget::Budgets;
use otpost::domain::challenge::ChallengeId;
use otpost::domain::channel::Channel;
use otpost::domain::code::{Code, CodeKey, CodeKeyring, CodeScope, Kid};
use otpost::domain::defence::DefenceMode;
use otpost::domain::history::RequestHistory;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::purpose::Purpose;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::recipient_rules::RecipientRules;
use otpost::domain::request_id::RequestId;
use otpost::domain::time::UnixMillis;
use otpost::domain::time_zone::Zone;
use otpost::flow::conversion::ConversionCounter;
use otpost::flow::defence::Defence;
use otpost::flow::inspect::spend::SpendView;
use otpost::flow::inspect::status::{Inspector, ProcessInfo, ProviderHealthCache};
use otpost::flow::verify::Verifier;
use otpost::http::{Api, PendingLimiter, Tokens, VALIDATIONS_MAX, Webhooks, router};
use otpost::store::memory::MemoryStore;
use otpost::store::{
    Admission, AdmissionInput, CompletionInput, Lease, LimitSubject, ProposedChallenge, Refund, Store,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::documents::http::check_answer;
use crate::documents::messages::check_request;

pub const SECRET: &str = "a secret of more than thirty-two bytes";
pub const AUDIENCE: &str = "otpost-tests";
pub const ISSUER: &str = "https://issuer.example";
pub const ALICE: &str = "+573001234567";
pub const VERIFY_PHONE: &str = "/api/v1/auth/verify-phone-otp";
pub const VERIFY_SERVICE: &str = "/api/v1/otp/verify";
pub const SEND_SMS: &str = "/api/v1/auth/send-verification-sms";
pub const VERIFY_EMAIL: &str = "/api/v1/auth/verify-email-otp";
pub const SEND_EMAIL: &str = "/api/v1/auth/send-verification-email";
pub const ANA: &str = "ana@shop.example";
const PURPOSE: &str = "verification";
const CODE: &str = "482913";
const START: UnixMillis = UnixMillis(1_800_000_000_000);
const LIFE: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);

/// The HTTP interface over a store and a broker in memory.
pub struct TestServer {
    pub store: Arc<MemoryStore>,
    pub broker: MemoryBroker,
    codes: Arc<CodeKeyring>,
    recipient_keyring: Arc<RecipientKeyring>,
    router: Router,
}

/// A complete response.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl TestServer {
    pub fn start() -> TestServer {
        TestServer::with(|_| {})
    }

    /// With parts of the state replaced.
    pub fn with(change: impl FnOnce(&mut Api)) -> TestServer {
        TestServer::build(change, None)
    }

    /// With routes for status callbacks.
    pub fn with_webhooks(webhooks: Webhooks) -> TestServer {
        TestServer::build(|_| {}, Some(webhooks))
    }

    fn build(change: impl FnOnce(&mut Api), webhooks: Option<Webhooks>) -> TestServer {
        let store = Arc::new(MemoryStore::new(Clock::System));
        store.set_time(START);
        let broker = MemoryBroker::default();
        let codes = Arc::new(CodeKeyring::new(vec![key("k2", 2), key("k1", 1)]).expect("two names"));
        let recipients = Arc::new(RecipientKeyring::new(&[7; 32]));
        let mut api = Api {
            tokens: Tokens::new(&jwt(JwtKey::Secret(SECRET.into()))).expect("a secret"),
            verifier: Verifier {
                store: store.clone(),
                publisher: Arc::new(broker.publisher()),
                code_keyring: codes.clone(),
                recipient_keyring: recipients.clone(),
                limits: limits(),
                provider_verifier: None,
                conversion: Arc::new(ConversionCounter::new(store.clone(), Clock::System)),
                defence: Arc::new(Defence::new(DefenceMode::default(), 100, store.clone(), Clock::System)),
                in_flight: TaskTracker::new(),
                clock: Clock::System,
            },
            proofs: None,
            rpc_client: Arc::new(broker.rpc_client()),
            send_wait: Duration::ZERO,
            pending: PendingLimiter::default(),
            limit_counter: Arc::default(),
            store: store.clone(),
            recipient_keyring: recipients.clone(),
            rules: RecipientRules {
                sms_enabled: true,
                email_enabled: true,
                default_region: "CO".parse().expect("a region"),
                allowed_countries: Some(BTreeSet::from(["CO".to_owned()])),
                allowed_shared_codes: BTreeSet::new(),
                allow_landline: false,
            },
            limits: limits(),
            code_length: 6,
            code_life: Duration::from_secs(600),
            spend: SpendView {
                currency: Currency::USD,
                is_estimate: true,
                budgets: Budgets::default(),
                zone: Zone::parse("America/Bogota").expect("a zone"),
            },
            defence_mode: DefenceMode::default(),
            trusted_proxies: Vec::new(),
            clock: Clock::System,
            inspector: Inspector {
                process: ProcessInfo {
                    sms_provider_default: "simulated",
                    version: env!("CARGO_PKG_VERSION"),
                    role: "dev",
                    production: false,
                    sms_enabled: true,
                    email_enabled: true,
                    configured: vec!["JWT_SECRET"],
                    limits: limits(),
                    started: Some(tokio::time::Instant::now()),
                },
                store: store.clone(),
                store_in_memory: true,
                broker: None,
                queues: Some(Arc::new(broker.request_queues())),
                names: Names::new("otpost"),
                keys: Vec::new(),
                provider: None,
                email_provider: None,
                clock: Clock::System,
                provider_health: ProviderHealthCache::default(),
                email_provider_health: ProviderHealthCache::default(),
            },
            validations: Arc::new(Semaphore::new(VALIDATIONS_MAX)),
            console: Some(crate::console::console(Arc::new(crate::console::NoQueue))),
        };
        change(&mut api);
        let router = router(Arc::new(api), webhooks);
        TestServer { store, broker, codes, recipient_keyring: recipients, router }
    }

    /// With another store.
    fn over(store: impl Store + 'static) -> TestServer {
        let store = Arc::new(store);
        TestServer::with(|api| {
            api.verifier.store = store.clone();
            api.store = store;
        })
    }

    /// Sends a request from a peer address, and checks the response against `docs/openapi.json`.
    pub async fn ask_from(&self, peer: &str, mut request: Request<Body>) -> Answer {
        let peer: SocketAddr = peer.parse().expect("an address and a port");
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = self.ask_unchecked(request).await;
        check_answer(method.as_str(), &path, &answer);
        answer
    }

    /// For what `docs/openapi.json` leaves out: the page of the console.
    pub async fn ask_unchecked(&self, request: Request<Body>) -> Answer {
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
        self.send_code_over(&*self.store, request, code, to, purpose, kid).await;
    }

    async fn send_code_over(
        &self,
        store: &dyn Store,
        request: &str,
        code: &str,
        to: &str,
        purpose: &str,
        kid: &'static str,
    ) {
        let code = Code::parse(code).expect("digits");
        let parsed = Purpose::parse(purpose).expect("a purpose");
        let scope = CodeScope { channel: channel_of(to), address: to, purpose: &parsed };
        let other = key(kid, 9);
        let digest = self.codes.get(kid).unwrap_or(&other).digest(scope, &code);
        let request = RequestId::parse(request).expect("an id");
        let limits = limits();
        let admit = AdmissionInput {
            lease: Lease { subject: self.subject(to, purpose), request_id: &request, token: 1 },
            requested_at: None,
            not_after: None,
            code_life: LIFE,
            lease_duration: Duration::from_secs(20),
            proposal: ProposedChallenge {
                id: ChallengeId::from_digest(digest),
                kid,
                digest,
                callers_code: true,
            },
            code_key_ids: ",k2,k1,k9,",
            limits: &limits,
            reject_if_new: None,
            gate_closed: false,
            crash_suspect_leases_min: u32::MAX,
            country: None,
            history: &RequestHistory::default(),
            spend: None,
        };
        let grant = match store.admit(&admit).await {
            Ok(Admission::Granted(grant)) => grant,
            other => panic!("the send must be granted: {other:?}"),
        };
        let refused =
            Outcome::with_error(Status::Sent, START, purpose, OutcomeError::of(ErrorCode::Internal));
        let challenge = Some(grant.challenge.as_str().to_owned());
        let history = RequestHistory { challenge, ..RequestHistory::default() };
        let completion = CompletionInput {
            lease: admit.lease,
            outcome: &Outcome { error: None, history, ..refused },
            refund: Refund::None,
            limits: admit.limits,
            found_by_lookup: false,
            message_is_unnamed: false,
            suppression: None,
            poll_receipt_after: None,
            spent: None,
        };
        store.complete(&completion).await.expect("the store answers");
    }

    fn subject<'a>(&self, to: &str, purpose: &'a str) -> LimitSubject<'a> {
        LimitSubject {
            recipient: self.recipient_keyring.address(channel_of(to), to),
            purpose,
            user: None,
            ip: None,
            network: None,
        }
    }

    pub fn pass(&self, time: Duration) {
        self.store.set_time(START.plus(time));
    }

    /// The bodies of the requests on the queue.
    pub async fn queued(&self) -> Vec<Vec<u8>> {
        self.queued_by(Channel::Sms).await
    }

    async fn queued_by(&self, channel: Channel) -> Vec<Vec<u8>> {
        let mut source = self.broker.consumer(channel, 100);
        source.cancel().await;
        let mut bodies = Vec::new();
        while let Some(delivery) = source.next().await {
            check_request(&delivery.body);
            bodies.push(delivery.body);
        }
        bodies
    }
}

fn channel_of(to: &str) -> Channel {
    if to.contains('@') { Channel::Email } else { Channel::Sms }
}

pub fn jwt(key: JwtKey) -> Jwt {
    Jwt { key, issuer: Some(ISSUER.to_owned()), audience: Some(AUDIENCE.to_owned()) }
}

fn key(kid: &str, secret: u8) -> CodeKey {
    CodeKey::new(Kid::parse(kid).expect("a name"), &[secret; 32])
}

fn limits() -> Limits {
    Limits::default().with(Limit::All, 0)
}

/// The claims of a valid token, with changes; `null` removes a claim.
pub fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "sub": "user-1",
        "phone_number": ALICE,
        "email": "Ana@Shop.example",
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
        &json!({"sub": "shop", "phone_number": null, "email": null, "name": null, "scope": "profile otp:verify otp:admin"}),
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

    /// Expects a problem (RFC 9457) with this status and code, and returns it.
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
            assert!(!whole.contains(secret), "{secret:?} is in {whole}");
        }
    }
}
