//! Published keys, fetched over a real socket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use otpost::telemetry::metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use super::*;

/// A small HTTP server with one configured answer.
struct Issuer {
    url: String,
    answer: Arc<Mutex<Vec<u8>>>,
    fetches: Arc<AtomicUsize>,
    listening: Mutex<Option<AbortHandle>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Issuer {
    async fn publishing(keys: &[Value]) -> Issuer {
        Issuer::answering(ok(&json!({ "keys": keys }).to_string())).await
    }

    async fn answering(answer: Vec<u8>) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
        let (answer, fetches) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let serving = tasks.spawn({
            let (answer, fetches) = (answer.clone(), fetches.clone());
            async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = [0; 4_096];
                    let _ = stream.read(&mut request).await;
                    fetches.fetch_add(1, Ordering::SeqCst);
                    let answer = answer.lock().expect("no panic").clone();
                    let _ = stream.write_all(&answer).await;
                }
            }
        });
        let listening = Mutex::new(Some(serving));
        Issuer { url, answer, fetches, listening, tasks: Mutex::new(tasks) }
    }

    fn answer(&self, answer: Vec<u8>) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn publish(&self, keys: &[Value]) {
        self.answer(ok(&json!({ "keys": keys }).to_string()));
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        let serving = self.listening.lock().expect("no panic").take();
        serving.expect("it serves").abort();
    }

    /// An HTTP interface that uses the keys of this issuer.
    fn server(&self) -> TestServer {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tokens = Tokens::new(&jwt(JwtKey::Jwks(self.url.clone()))).expect("a URL");
        self.tasks.lock().expect("no panic").spawn(tokens.refresh_keys());
        TestServer::with(|api| api.tokens = tokens)
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn published(kind: &Kind) -> Value {
    let key = Jwk::from_encoding_key(&kind.signs, kind.algorithm).expect("a key");
    let mut key = serde_json::to_value(key).expect("plain data");
    key["kid"] = kind.name.into();
    key
}

fn named(kind: &Kind, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(kind.algorithm) };
    encode(&header, &claims(&json!({})), &kind.signs).expect("a token")
}

#[track_caller]
fn expect_unavailable(name: &str, answer: &Answer) {
    let problem = answer.expect_problem(503, "key_unavailable");
    assert_eq!(
        problem["detail"], "the key of this token is not available now; no attempt was counted",
        "{name}"
    );
    assert_eq!(answer.header("retry-after"), Some("5"), "{name}");
    answer.expect_nothing_of(&["eyJ", "127.0.0.1", "jwks.json", "482913"]);
}

/// Advances the clock. No request may be in flight.
async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_of_a_published_key_is_accepted_with_its_kid_and_algorithm_only() {
    let [secret, rsa, p256, ed25519] = kinds();
    let mut oct = published(&secret);
    oct["use"] = "sig".into();
    let issuer = Issuer::publishing(&[oct, published(&rsa), published(&p256), published(&ed25519)]).await;
    let server = issuer.server();
    for kind in [&rsa, &p256, &ed25519] {
        let answer = with_token(&server, &named(kind, Some(kind.name))).await;
        expect_accepted(kind.name, &answer);
        for kid in
            [rsa.name, p256.name, ed25519.name, "other", ""].into_iter().filter(|kid| *kid != kind.name)
        {
            let answer = with_token(&server, &named(kind, Some(kid))).await;
            expect_refused(&format!("{} as {kid}", kind.name), &answer, "invalid_token", INVALID);
        }
        let answer = with_token(&server, &named(kind, None)).await;
        expect_refused("no name among several", &answer, "invalid_token", INVALID);
    }
    let answer = with_token(&server, &named(&secret, Some(secret.name))).await;
    expect_refused("a secret that was published", &answer, "invalid_token", INVALID);
    assert_eq!(issuer.fetches(), 1, "the last fetch was less than a minute ago");
}

/// The key with bytes in front of this number.
fn padded(kind: &Kind, parameter: &str, front: &[u8]) -> Value {
    let mut key = published(kind);
    let number = BASE64URL.decode(key[parameter].as_str().expect("text")).expect("base64");
    key[parameter] = BASE64URL.encode([front, &number].concat()).into();
    key
}

#[tokio::test]
async fn a_published_rsa_key_with_zeros_in_front_of_its_numbers_verifies() {
    let [_, rsa, ..] = kinds();
    for (parameter, zeros) in [("n", 1), ("n", 8), ("e", 1), ("e", 300)] {
        let issuer = Issuer::publishing(&[padded(&rsa, parameter, &vec![0; zeros])]).await;
        let server = issuer.server();
        for kid in [Some(rsa.name), None] {
            let answer = with_token(&server, &named(&rsa, kid)).await;
            expect_accepted(&format!("{zeros} in front of {parameter}"), &answer);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_published_twice_is_one_key_and_odd_neighbours_spoil_no_set() {
    let [_, rsa, p256, ed25519] = kinds();
    for kind in [&rsa, &p256, &ed25519] {
        let again = published(kind);
        let mut annotated = published(kind);
        annotated["x5c"] = json!({"odd": [7]});
        annotated["use"] = "sig".into();
        let set = json!({"keys": [published(kind), null, 7, again, {"kty": "RSA"}, annotated]}).to_string();
        let odd = r#"{"name":"Ana \ud83d","\ud83d":1e999,"keys":[{"kid":"\ud83d"},"#;
        let body = set.replacen(r#"{"keys":["#, &format!("\u{feff}{odd}"), 1);
        let issuer = Issuer::answering(ok(&body)).await;
        let server = issuer.server();
        for kid in [Some(kind.name), None] {
            expect_accepted(kind.name, &with_token(&server, &named(kind, kid)).await);
        }
    }
    // Another key under the same name is ambiguous, however often the first is there.
    let mut other = published(&p256);
    other["kid"] = rsa.name.into();
    let issuer = Issuer::publishing(&[published(&rsa), published(&rsa), other]).await;
    let answer = with_token(&issuer.server(), &named(&rsa, Some(rsa.name))).await;
    expect_refused("ambiguous", &answer, "invalid_token", INVALID);
}

#[tokio::test]
async fn a_header_with_odd_parameters_is_read_and_one_with_two_of_a_name_is_not() {
    let [_, rsa, p256, _] = kinds();
    let issuer = Issuer::publishing(&[published(&rsa), published(&p256)]).await;
    let server = issuer.server();
    let with_header = |header: &str| {
        let signed =
            format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims(&json!({})).to_string()));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &rsa.signs, rsa.algorithm);
        format!("{signed}.{}", signature.expect("a signature"))
    };
    for odd in [
        r#""typ":7"#,
        r#""x":"\ud83d","\ud83d":{}"#,
        r#""x5c":{},"jwk":[],"jku":7,"x5u":null"#,
        r#""x":1,"x":2"#,
    ] {
        let header = format!(r#"{{{odd},"alg":"RS256","kid":"{}"}}"#, rsa.name);
        expect_accepted(odd, &with_token(&server, &with_header(&header)).await);
    }
    let name = rsa.name;
    for header in [
        format!(r#"{{"alg":"RS256","alg":"RS256","kid":"{name}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{name}","kid":"{name}"}}"#),
        format!(r#"{{"alg":"RS256","kid":"{name}","crit":null}}"#),
        format!(r#"{{"alg":"RS256","kid":"{name}","crit":[]}}"#),
        format!(r#"{{"alg":"RS256","kid":["{name}"]}}"#),
        format!(r#"{{"alg":["RS256"],"kid":"{name}"}}"#),
        format!(r#"{{"kid":"{name}"}}"#),
        r#"{"alg":"RS256","kid":"\ud83d"}"#.to_owned(),
        r#"["RS256"]"#.to_owned(),
        String::new(),
    ] {
        expect_refused(&header, &with_token(&server, &with_header(&header)).await, "invalid_token", INVALID);
    }
}

#[tokio::test]
async fn a_published_key_cannot_be_used_as_a_secret() {
    let [_, rsa, ..] = kinds();
    let key = published(&rsa);
    let modulus = key["n"].as_str().expect("text").to_owned();
    let issuer = Issuer::publishing(std::slice::from_ref(&key)).await;
    let server = issuer.server();
    let bytes = BASE64URL.decode(&modulus).expect("base64");
    let pem = include_bytes!("../keys/rsa.public.pem");
    for secret in [modulus.as_bytes(), &bytes, key.to_string().as_bytes(), pem, b""] {
        let header = Header { kid: Some(rsa.name.to_owned()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims(&json!({})), &EncodingKey::from_secret(secret)).expect("a token");
        expect_refused("HS256", &with_token(&server, &token).await, "invalid_token", INVALID);
    }
    for algorithm in ["none", "RS512", "PS256", "RS256"] {
        let token = unsigned(&json!({"alg": algorithm, "kid": rsa.name}), &claims(&json!({})), "AAAA");
        expect_refused(algorithm, &with_token(&server, &token).await, "invalid_token", INVALID);
    }
    expect_accepted("the real one", &with_token(&server, &named(&rsa, Some(rsa.name))).await);
}

#[tokio::test]
async fn keys_and_urls_in_a_token_are_ignored() {
    let [_, rsa, p256, _] = kinds();
    let issuer = Issuer::publishing(&[published(&rsa)]).await;
    let elsewhere = Issuer::publishing(&[published(&p256)]).await;
    let server = issuer.server();
    let embedded: Jwk = serde_json::from_value(published(&p256)).expect("a key");
    for (kid, kind, accepted) in [(rsa.name, &rsa, true), (rsa.name, &p256, false), (p256.name, &p256, false)]
    {
        let header = Header {
            kid: Some(kid.to_owned()),
            jku: Some(elsewhere.url.clone()),
            x5u: Some(elsewhere.url.clone()),
            jwk: Some(embedded.clone()),
            ..Header::new(kind.algorithm)
        };
        let token = encode(&header, &claims(&json!({})), &kind.signs).expect("a token");
        let answer = with_token(&server, &token).await;
        match accepted {
            true => expect_accepted(kid, &answer),
            false => expect_refused(kid, &answer, "invalid_token", INVALID),
        }
    }
    assert_eq!(elsewhere.fetches(), 0);
}

#[tokio::test]
async fn the_only_key_of_a_set_verifies_tokens_without_a_kid() {
    let [_, rsa, p256, _] = kinds();
    let mut other_use = published(&p256);
    other_use["use"] = "enc".into();
    let issuer = Issuer::publishing(&[published(&rsa), other_use]).await;
    let server = issuer.server();
    expect_accepted("no name", &with_token(&server, &named(&rsa, None)).await);
    let answer = with_token(&server, &named(&p256, None)).await;
    expect_refused("of another key", &answer, "invalid_token", INVALID);
    let answer = with_token(&server, &named(&p256, Some(p256.name))).await;
    expect_refused("for encryption", &answer, "invalid_token", INVALID);
}

#[tokio::test]
async fn a_rotated_key_is_fetched_at_its_first_use_and_a_withdrawn_one_verifies_nothing() {
    let [_, rsa, p256, _] = kinds();
    let issuer = Issuer::publishing(&[published(&rsa)]).await;
    let server = issuer.server();
    expect_accepted("the first", &with_token(&server, &named(&rsa, Some(rsa.name))).await);
    issuer.publish(&[published(&p256)]);
    let early = with_token(&server, &named(&p256, Some(p256.name))).await;
    expect_refused("within a minute", &early, "invalid_token", INVALID);
    skip(Duration::from_secs(61)).await;
    expect_accepted("the old one", &with_token(&server, &named(&rsa, Some(rsa.name))).await);
    expect_accepted("the new one", &with_token(&server, &named(&p256, Some(p256.name))).await);
    let answer = with_token(&server, &named(&rsa, Some(rsa.name))).await;
    expect_refused("the old one then", &answer, "invalid_token", INVALID);
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn while_the_endpoint_is_down_known_keys_work_and_unknown_ones_are_unavailable() {
    let [_, rsa, p256, _] = kinds();
    let issuer = Issuer::publishing(&[published(&rsa)]).await;
    let server = issuer.server();
    let known = named(&rsa, Some(rsa.name));
    expect_accepted("before", &with_token(&server, &known).await);
    issuer.kill();
    skip(Duration::from_secs(61)).await;
    expect_unavailable("unknown", &with_token(&server, &named(&p256, Some(p256.name))).await);
    expect_accepted("after", &with_token(&server, &known).await);
    let answer = with_token(&server, "no.token.atall").await;
    expect_refused("no token", &answer, "invalid_token", INVALID);
}

#[tokio::test]
async fn a_bad_answer_adds_no_key_and_removes_none() {
    let [_, rsa, p256, _] = kinds();
    let redirected = Issuer::publishing(&[published(&p256)]).await;
    let keys = json!({"keys": [published(&p256)]}).to_string();
    let status =
        |line: &str| ok(&keys).strip_prefix(b"HTTP/1.1 200 OK").map(|rest| [line.as_bytes(), rest].concat());
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        redirected.url
    );
    let padded = ok(&format!("{}{keys}", " ".repeat(300 * 1024)));
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    let endless = [head, vec![b' '; 400_000]].concat();
    let many: Vec<Value> = (0..65).map(|_| published(&p256)).collect();
    let bad = [
        ("a redirect", redirect.into_bytes()),
        ("404", status("HTTP/1.1 404 Not Found").expect("a status line")),
        ("500", status("HTTP/1.1 500 Internal Server Error").expect("a status line")),
        ("too long", padded),
        ("too long without a length", endless),
        ("a page", ok("<html>sign in</html>")),
        ("half", ok(&keys[..keys.len() / 2])),
        ("broken off", ok(&keys)[..ok(&keys).len() - 20].to_vec()),
        ("too many", ok(&json!({ "keys": many }).to_string())),
        ("nothing", Vec::new()),
    ];
    for (name, answer) in bad {
        let issuer = Issuer::publishing(&[published(&rsa)]).await;
        let server = issuer.server();
        let known = named(&rsa, Some(rsa.name));
        expect_accepted(name, &with_token(&server, &known).await);
        issuer.answer(answer);
        skip(Duration::from_secs(61)).await;
        expect_unavailable(name, &with_token(&server, &named(&p256, Some(p256.name))).await);
        expect_accepted(name, &with_token(&server, &known).await);
    }
    assert_eq!(redirected.fetches(), 0, "the redirect was not followed");
}

#[tokio::test]
async fn without_any_key_tokens_are_unavailable_until_the_endpoint_answers() {
    let [_, rsa, ..] = kinds();
    let issuer = Issuer::answering(b"HTTP/1.1 503 No\r\nconnection: close\r\n\r\n".to_vec()).await;
    let server = issuer.server();
    let good = named(&rsa, Some(rsa.name));
    expect_unavailable("at the start", &with_token(&server, &good).await);
    expect_unavailable("no name", &with_token(&server, &named(&rsa, None)).await);
    let secret = signed(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), &claims(&json!({})));
    expect_refused("never good here", &with_token(&server, &secret).await, "invalid_token", INVALID);
    issuer.publish(&[published(&rsa)]);
    // The second fetch comes after one to two seconds.
    for _ in 0..100 {
        if with_token(&server, &good).await.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    expect_accepted("later", &with_token(&server, &good).await);
    let response = metrics::render();
    for result in ["good", "status"] {
        let metric = format!("otpost_jwks_fetches_total{{result=\"{result}\"}} ");
        let count = response.lines().find_map(|line| line.strip_prefix(metric.as_str()));
        assert!(count.is_some_and(|count| count != "0"), "{metric}{count:?}");
    }
    assert!(response.contains("otpost_jwks_keys ") && !response.contains(&issuer.url));
}

#[test]
fn an_unusable_url_is_refused_at_startup() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for (url, usable) in [
        ("https://issuer.example/jwks?tenant=1", true),
        ("http://127.0.0.1:1/jwks", true),
        ("https://user:hunter2@issuer.example/jwks", false),
        ("https://hunter2@issuer.example/jwks", false),
        ("https://issuer.example/jwks#hunter2", false),
        ("https://", false),
        ("file:///hunter2", false),
        ("hunter2", false),
    ] {
        let made = Tokens::new(&jwt(JwtKey::Jwks(url.to_owned())));
        assert_eq!(made.is_ok(), usable, "{url}");
        if let Err(error) = made {
            assert_eq!(error.setting(), "JWT_JWKS_URL");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}

/// As if `JWT_JWKS_URL` were the address of our own key set.
#[tokio::test]
async fn a_published_key_that_signs_proofs_checks_no_token() {
    let [_, _, p256, ed25519] = kinds();
    let issuer = Issuer::publishing(&[published(&p256), published(&ed25519)]).await;
    let proofs = ProofSigner::new(&ProofSettings {
        keys: include_str!("../keys/p256.private.pem").into(),
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
    });
    let proofs = proofs.expect("a key");
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tokens = Tokens::new(&jwt(JwtKey::Jwks(issuer.url.clone()))).expect("a URL");
    let tokens = tokens.apart_from(&proofs).expect("published keys are not known yet");
    issuer.tasks.lock().expect("no panic").spawn(tokens.refresh_keys());
    let server = TestServer::with(|api| api.tokens = tokens);
    expect_accepted("another key", &with_token(&server, &named(&ed25519, Some(ed25519.name))).await);
    let refused = with_token(&server, &named(&p256, Some(p256.name))).await;
    expect_refused("the key of proofs", &refused, "invalid_token", INVALID);
}
