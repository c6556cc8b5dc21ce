//! Status, limit usage and validation for operators, over HTTP and by the commands of the real binary.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::broker::rabbit::consumer::RabbitConsumer;
use otpost::domain::channel::Channel;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::flow::inspect::status::ProviderHealthCache;
use otpost::provider::sendgrid::SendGridMail;
use otpost::provider::twilio::messages::TwilioMessages;
use otpost::store::Store as _;
use serde_json::{Value, json};

use crate::contract::broker::patiently;
use crate::contract::broker::rabbit::{self, RabbitWorld};
use crate::fake_sendgrid::{API_KEY, Answer as SendGridSays, FakeSendGrid};
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, Answer as TwilioSays, FakeTwilio};
use crate::harness::{ALICE, Embedded, RECIPIENT_KEY};
use crate::http::broken::{Broken, Fails};
use crate::http::{Answer, TestServer, service, token};
use crate::promises::secrets::{captured_log, has_run, start_capturing};
use crate::real::{Redis, redis_url, unique};
use crate::scripted::ScriptedProvider;
use crate::{sendgrid, twilio};

const STATUS: &str = "/api/v1/sms/status";
const RATE_LIMIT: &str = "/api/v1/sms/rate-limit";
const VALIDATE: &str = "/api/v1/sms/validate";
/// The numbers of the test script in the guide of the previous service.
const FOUR: [&str; 4] = ["3001234567", "+573001234567", "6012345678", "invalid"];

pub fn otpost(more: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_otpost"))
        .args(arguments)
        .env_clear()
        .envs(more.iter().copied())
        .output()
        .expect("the binary starts")
}

#[track_caller]
pub fn rows(output: &Output, exit: i32) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(exit), "{text} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?} is no list"))
}

async fn status(server: &TestServer) -> Answer {
    let request = Request::get(STATUS).header(header::AUTHORIZATION, format!("Bearer {}", service()));
    server.ask(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn the_four_numbers_of_the_old_guide_get_the_same_verdicts_by_command_and_endpoint() {
    let response =
        TestServer::start().post(VALIDATE, &service(), &json!({ "numbers": FOUR })).await.expect(200);
    let response = response["numbers"].as_array().expect("a list");
    let commanded = rows(&otpost(&[], &[&["check-number", "--json"], &FOUR[..]].concat()), 3);
    assert_eq!(response, &commanded, "the same content from both");
    let mobile = |number: &str| {
        json!({"number": number, "valid": true, "formatted": "+573001234567", "region": "CO", "type": "mobile",
               "sendable": true})
    };
    assert_eq!(response[0], mobile("3001234567"));
    assert_eq!(response[1], mobile("+573001234567"));
    let landline = &response[2];
    assert_eq!(
        ["valid", "type", "sendable", "reason", "formatted"].map(|name| landline[name].clone()),
        [json!(true), json!("landline"), json!(false), json!("landline"), json!("+576012345678")]
    );
    let invalid = &response[3];
    assert_eq!(
        ["valid", "sendable", "reason"].map(|name| invalid[name].clone()),
        [json!(false), json!(false), json!("invalid_recipient")]
    );
    for row in [landline, invalid] {
        assert!(row["why_not"].as_str().is_some_and(|why| why.len() > 5), "{row}");
    }
    let table =
        String::from_utf8(otpost(&[], &[&["check-number"], &FOUR[..]].concat()).stdout).expect("text");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    for (line, words) in
        lines.iter().zip(["mobile; sendable", "mobile; sendable", "landline; not sendable: ", "not valid; "])
    {
        assert!(line.contains(words), "{line}");
    }
}

#[tokio::test]
async fn the_count_and_length_of_validated_numbers_are_bounded() {
    let server = TestServer::start();
    let many = |count| json!({ "numbers": vec!["3001234567"; count] });
    let response = server.post(VALIDATE, &service(), &many(100)).await.expect(200);
    assert_eq!(response["numbers"].as_array().map(Vec::len), Some(100));
    let long = "3".repeat(5_000);
    let response = server.post(VALIDATE, &service(), &json!({ "numbers": [long] })).await.expect(200);
    assert_eq!(response["numbers"][0]["valid"], false);
    for body in [
        many(0),
        many(101),
        json!({}),
        json!({"numbers": "3001234567"}),
        json!({"numbers": [3001234567_u64]}),
    ] {
        let problem = server.post(VALIDATE, &service(), &body).await.expect_problem(422, "invalid_request");
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.starts_with("`numbers` must be a list"))
        );
    }
}

#[tokio::test]
async fn numbers_are_validated_for_one_request_at_a_time() {
    let mut permits = None;
    let server = TestServer::with(|api| permits = Some(api.validations.clone()));
    let taken = permits.expect("permits").try_acquire_owned().expect("a permit");
    let ask = async || server.post(VALIDATE, &service(), &json!({ "numbers": FOUR })).await;
    ask().await.expect_problem(503, "busy");
    drop(taken);
    ask().await.expect(200);
}

#[test]
fn wrong_settings_are_reported_as_json_with_the_option_for_it() {
    let faulty =
        [("ENVIRONMENT", "development"), ("AMQP_URL", "hunter2"), ("SMS_RATE_LIMIT_PER_DAY", "hunter2")];
    for command in [&["status"] as &[&str], &["rate-limit", ALICE], &["dead-letters", "list"], &["topology"]]
    {
        let output = otpost(&faulty, &[command, &["--json"]].concat());
        let printed = rows(&output, 2);
        let names: Vec<&Value> = printed.iter().map(|row| &row["name"]).collect();
        assert_eq!(names, [&json!("AMQP_URL"), &json!("SMS_RATE_LIMIT_PER_DAY")], "{command:?}: {printed:?}");
        assert!(printed.iter().all(|row| row["problem"].is_string() && !row.to_string().contains("hunter2")));
        let plain = otpost(&faulty, command);
        assert_eq!((plain.status.code(), plain.stdout.is_empty()), (Some(2), true));
    }
}

#[tokio::test]
async fn only_operators_may_query_and_every_query_is_in_the_audit_log() {
    start_capturing();
    let server = TestServer::start();
    let get = |token: &str| {
        let request = Request::get(STATUS).header(header::AUTHORIZATION, format!("Bearer {token}"));
        request.body(Body::empty()).expect("a request")
    };
    let verifier = token(&json!({"scope": "otp:verify"}));
    server.ask(get(&verifier)).await.expect_problem(403, "insufficient_scope");
    server.post(RATE_LIMIT, &verifier, &json!({"to": ALICE})).await.expect_problem(403, "insufficient_scope");
    server
        .post(VALIDATE, &verifier, &json!({ "numbers": FOUR }))
        .await
        .expect_problem(403, "insufficient_scope");
    server.ask(get(&service())).await.expect(200);
    server.post(RATE_LIMIT, &service(), &json!({"to": ALICE})).await.expect(200);
    server.post(VALIDATE, &service(), &json!({ "numbers": FOUR })).await.expect(200);
    let log = captured_log();
    let audit: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
        .filter(|line| line["fields"]["audit"] == true)
        .map(|line| json!([line["fields"]["action"], line["fields"]["to"]]))
        .collect();
    assert_eq!(
        audit,
        [json!(["status", null]), json!(["rate_limit", "+57******4567"]), json!(["validate", null])],
        "{log}"
    );
    assert!(!has_run(&log, "3001234567"), "{log}");
}

#[tokio::test]
async fn the_status_of_a_process_without_servers_says_so() {
    let response = status(&TestServer::start()).await.expect(200);
    assert_eq!(
        [
            &response["mode"],
            &response["provider"],
            &response["environment"],
            &response["role"],
            &response["version"]
        ],
        ["simulation", "simulated", "development", "dev", env!("CARGO_PKG_VERSION")]
            .map(|word| json!(word))
            .each_ref()
    );
    assert_eq!(
        response["health"],
        json!({"redis": {"state": "in_memory", "ms": 0}, "rabbitmq": {"state": "in_memory"},
               "twilio": {"state": "not_configured",
                          "detail": "no account is set in this process; a worker may have one"}})
    );
    assert_eq!(response["kill_switch"], json!({"on": false}));
    let email = &response["email"];
    assert_eq!(
        [&email["enabled"], &email["mode"], &email["provider"], &email["limits"]["per_number"]],
        [&json!(true), &json!("simulation"), &json!("simulated"), &json!(5)]
    );
    assert_eq!((&response["limits"]["per_number"], &response["limits"]["cooldown"]), (&json!(5), &json!(30)));
    assert!(response["uptime"].is_u64() && response["configured"] == json!(["JWT_SECRET"]), "{response}");
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_the_kill_switch_and_survives_a_missing_store() {
    let gateway = Embedded::start();
    let store = gateway.world.store.clone();
    let server = TestServer::with(|api| api.inspector.store = store.clone());
    store.set_kill_switch(Some("pumping")).await.expect("it answers");
    let response = status(&server).await.expect(200);
    assert_eq!(
        (&response["kill_switch"]["on"], &response["kill_switch"]["reason"]),
        (&json!(true), &json!("pumping"))
    );
    store.gone.store(true, Ordering::SeqCst);
    let response = status(&server).await.expect(200);
    assert_eq!(response["health"]["redis"]["state"], "down");
    assert!(
        response.get("kill_switch").is_none() && response["health"]["rabbitmq"]["state"] == "in_memory",
        "{response}"
    );
}

#[tokio::test(start_paused = true)]
async fn frequent_status_requests_query_the_provider_rarely() {
    let gateway = Embedded::start();
    let provider: Arc<ScriptedProvider> = gateway.world.provider.clone();
    let server = TestServer::with(|api| {
        api.inspector.provider = Some(provider.clone());
        api.inspector.process.production = true;
        api.inspector.provider_health = ProviderHealthCache::default();
    });
    let state = async || status(&server).await.expect(200)["health"]["twilio"]["state"].clone();
    for _ in 0..50 {
        assert_eq!(state().await, "up");
    }
    assert_eq!(provider.probes().len(), 1);
    provider.set_healthy(false);
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(state().await, "up", "the cached answer");
    tokio::time::advance(Duration::from_secs(1)).await;
    let response = status(&server).await.expect(200);
    assert_eq!(
        (&response["health"]["twilio"]["state"], &response["mode"]),
        (&json!("down"), &json!("production"))
    );
    assert_eq!((state().await, provider.probes().len()), (json!("down"), 2));
    assert!(status(&server).await.expect(200)["health"]["twilio"]["asked_at"].is_string());
}

#[tokio::test]
async fn the_status_shows_twilios_answer_without_credentials_or_address() {
    for (answers, state, mode) in [
        (vec![], "up", "production"),
        (vec![TwilioSays::error(401, 20003)], "refused", "simulation"),
        (vec![TwilioSays::error(401, 70051)], "limited", "production"),
        (vec![TwilioSays::error(500, 20500)], "down", "production"),
    ] {
        let twilio = FakeTwilio::start();
        twilio.next(answers);
        let account = TwilioMessages::new(twilio::settings(&twilio)).expect("good settings");
        let server = TestServer::with(|api| api.inspector.provider = Some(Arc::new(account)));
        let answer = status(&server).await;
        let response = answer.expect(200);
        // In development, a worker with refused credentials simulates messages.
        assert_eq!(
            (&response["health"]["twilio"]["state"], &response["mode"]),
            (&json!(state), &json!(mode)),
            "{response}"
        );
        assert_eq!(twilio.only_request().method, "GET");
        answer.expect_nothing_of(&["127.0.0.1", ACCOUNT_SID, AUTH_TOKEN]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_command_exits_with_3_if_twilio_refuses_the_credentials_in_production() {
    rabbit::in_world(async |world| {
        let _consumers = consumers(world);
        for (token, exit, state) in [(AUTH_TOKEN, 0, "up"), ("wrong", 3, "refused")] {
            let (twilio, redis) = (FakeTwilio::start(), Redis::fresh());
            let (servers, base) = (servers(world, &redis), twilio.base_url());
            let provider = [
                ("TWILIO_ACCOUNT_SID", ACCOUNT_SID),
                ("TWILIO_AUTH_TOKEN", token),
                ("TWILIO_FROM_NUMBER", "+15005550006"),
                ("TWILIO_API_BASE_URL", &base),
            ];
            let printed = status_with_consumers(&with_servers(&servers, &provider), exit).await;
            assert_eq!(
                [&printed["health"]["twilio"]["state"], &printed["mode"], &printed["environment"]],
                [&json!(state), &json!("production"), &json!("production")]
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_provider_of_emails_has_its_own_status_and_is_queried_rarely_too() {
    let email = async |server: &TestServer| status(server).await.expect(200)["email"].clone();
    for (answers, state) in [(vec![], "up"), (vec![SendGridSays::status(500)], "down")] {
        let sendgrid = FakeSendGrid::start();
        sendgrid.next(answers);
        let account = SendGridMail::new(sendgrid::settings_at(sendgrid.base_url())).expect("good settings");
        let server = TestServer::with(|api| {
            api.inspector.email_provider = Some(Arc::new(account));
            api.inspector.process.production = true;
        });
        for _ in 0..20 {
            let response = email(&server).await;
            assert_eq!(
                [&response["mode"], &response["provider"], &response["health"]["state"]],
                [&json!("production"), &json!("sendgrid"), &json!(state)]
            );
        }
        assert_eq!(sendgrid.requests().len(), 1);
    }
    // Enabled because workers send e-mails; this process does not know their account.
    let server = TestServer::with(|api| api.inspector.process.production = true);
    let response = email(&server).await;
    assert_eq!(
        (&response["enabled"], &response["health"]["state"]),
        (&json!(true), &json!("not_configured"))
    );
    assert!(response.get("mode").is_none() && response.get("provider").is_none(), "{response}");
    let server = TestServer::with(|api| api.inspector.process.email_enabled = false);
    let response = email(&server).await;
    assert!(response["enabled"] == json!(false) && response.get("health").is_none(), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_command_exits_with_3_if_the_provider_of_emails_refuses_the_key() {
    rabbit::in_world(async |world| {
        let _consumers = consumers(world);
        for (key, environment, exit, state, mode) in [
            (API_KEY, "production", 0, "up", "production"),
            ("SG.wrong", "production", 3, "refused", "production"),
            ("SG.wrong", "development", 0, "refused", "simulation"),
        ] {
            let (sendgrid, redis) = (FakeSendGrid::start(), Redis::fresh());
            let (servers, base) = (servers(world, &redis), sendgrid.base_url());
            let provider = [
                ("ENVIRONMENT", environment),
                ("EMAIL_FROM", "codes@shop.example"),
                ("SENDGRID_API_KEY", key),
                ("SENDGRID_API_BASE_URL", &base),
            ];
            let set = with_servers(&servers, &provider);
            let printed = status_with_consumers(&set, exit).await;
            let email = &printed["email"];
            assert_eq!(
                (&email["health"]["state"], &email["mode"]),
                (&json!(state), &json!(mode)),
                "{printed}"
            );
            let table = String::from_utf8(otpost(&set, &["status"]).stdout).expect("text");
            let line = match (mode, state) {
                ("production", "up") => "e-mail       production, by sendgrid: up, ",
                ("production", _) => "e-mail       production, by sendgrid: access refused: ",
                _ => "e-mail       simulation: access refused: ",
            };
            assert!(table.contains(line), "{table}");
        }
    })
    .await;
}

/// Without them production has another error.
fn consumers(world: &RabbitWorld) -> [RabbitConsumer; 2] {
    Channel::ALL.map(|channel| RabbitConsumer::start(world.settings(1), channel))
}

fn servers(world: &RabbitWorld, redis: &Redis) -> [(&'static str, String); 4] {
    [
        ("AMQP_URL", rabbit::url()),
        ("AMQP_PREFIX", world.names.dead().trim_end_matches(".dead").to_owned()),
        ("REDIS_URL", redis_url()),
        ("REDIS_PREFIX", redis.prefix.clone()),
    ]
}

fn with_servers<'a>(
    servers: &'a [(&'static str, String)],
    more: &[(&'static str, &'a str)],
) -> Vec<(&'static str, &'a str)> {
    servers.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect()
}

/// The status once the queues have their consumers.
async fn status_with_consumers(settings: &[(&str, &str)], exit: i32) -> Value {
    let consumed = async {
        loop {
            let output = otpost(settings, &["status", "--json"]);
            let row = rows(&output, output.status.code().expect("an exit code")).remove(0);
            if row["queues"].as_array().expect("a list").iter().all(|queue| queue["consumers"] == 1) {
                return rows(&output, exit).remove(0);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    patiently(consumed).await
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_delays_the_status_only_briefly() {
    let server = TestServer::with(|api| api.inspector.store = Arc::new(Broken(Fails::ByNeverAnswering)));
    let began = tokio::time::Instant::now();
    let response = status(&server).await.expect(200);
    assert_eq!(response["health"]["redis"]["state"], "down");
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_limit_usage_is_the_same_by_command_and_endpoint() {
    let redis = Redis::fresh();
    let key = RECIPIENT_KEY;
    let server = TestServer::with(|api| {
        api.store = Arc::new(redis.store());
        api.recipient_keyring = Arc::new(RecipientKeyring::new(&key));
    });
    let settings = |more: &[(&'static str, &'static str)]| {
        let (url, prefix, key) = (redis_url(), redis.prefix.clone(), BASE64.encode(key));
        let output = |arguments: &[&str]| {
            let base = [("REDIS_URL", url.as_str()), ("REDIS_PREFIX", &prefix), ("OTP_RECIPIENT_KEY", &key)];
            otpost(&[&base[..], more].concat(), arguments)
        };
        rows(&output(&["rate-limit", ALICE, "--json"]), 0)
    };
    let response = server.post(RATE_LIMIT, &service(), &json!({"to": ALICE})).await.expect(200);
    assert_eq!(vec![response.clone()], settings(&[]), "the same content from both");
    assert_eq!(
        response,
        json!({"to": "+57******4567", "limit": 5, "used": 0, "remaining": 5, "window": 3600, "limit_day": 10,
               "used_day": 0, "remaining_day": 10, "limit_wrong": 10, "used_wrong": 0, "cooldown": 0})
    );
    let email = server.post(RATE_LIMIT, &service(), &json!({"to": "Ana@Shop.example"})).await.expect(200);
    assert_eq!((&email["to"], &email["remaining"]), (&json!("a***@s***.example"), &json!(5)));
    let off = settings(&[("SMS_RATE_LIMIT_PER_NUMBER", "0")]);
    assert!(off[0].get("remaining").is_none() && off[0]["limit"] == 0, "{off:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reached_limit_has_the_time_of_its_reset() {
    let mut gateway = Embedded::start();
    let server = TestServer::with(|api| {
        api.store = gateway.world.store.clone();
        api.recipient_keyring = Arc::new(RecipientKeyring::new(&RECIPIENT_KEY));
        api.clock = gateway.world.clock;
        api.limits.cooldown = Duration::ZERO;
    });
    for n in 0..5 {
        gateway.request(&format!("r{n}"), ALICE).await.expect_sent();
    }
    let response = server.post(RATE_LIMIT, &service(), &json!({"to": "300 123 4567"})).await.expect(200);
    assert_eq!(
        [&response["used"], &response["remaining"], &response["used_day"]],
        [&json!(5), &json!(0), &json!(5)]
    );
    assert!(response["resets_at"].is_string(), "{response}");
    for body in [json!({}), json!({"to": "12"}), json!({"to": 3}), json!({"to": ["3001234567"]})] {
        server.post(RATE_LIMIT, &service(), &body).await.expect_problem(422, "invalid_request");
    }
    gateway.world.store.gone.store(true, Ordering::SeqCst);
    server.post(RATE_LIMIT, &service(), &json!({"to": ALICE})).await.expect_problem(503, "store_unavailable");
}

#[test]
fn the_status_command_queries_real_servers_and_exits_with_3_if_one_is_down() {
    let prefix = unique("status");
    let (redis, amqp) = (redis_url(), rabbit::url());
    let real = [
        ("ENVIRONMENT", "development"),
        ("AMQP_URL", amqp.as_str()),
        ("AMQP_PREFIX", prefix.as_str()),
        ("REDIS_PREFIX", prefix.as_str()),
        ("REDIS_URL", redis.as_str()),
    ];
    let printed = rows(&otpost(&real, &["status", "--json"]), 0);
    let states =
        |row: &Value| ["redis", "rabbitmq", "twilio"].map(|name| row["health"][name]["state"].clone());
    assert_eq!(states(&printed[0]), ["up", "up", "not_configured"].map(|state| json!(state)), "{printed:?}");
    assert_eq!(
        printed[0]["configured"],
        json!(["AMQP_PREFIX", "AMQP_URL", "ENVIRONMENT", "REDIS_PREFIX", "REDIS_URL"])
    );
    assert!(printed[0].get("uptime").is_none());
    // No server listens on this port.
    let gone = ("AMQP_URL", "amqp://guest:hunter2@127.0.0.1:9/%2f");
    for (name, url, states_then) in [
        (gone.0, gone.1, ["up", "down", "not_configured"]),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:9", ["down", "up", "not_configured"]),
    ] {
        let output = otpost(&[&real[..], &[(name, url)]].concat(), &["status", "--json"]);
        let printed = rows(&output, 3);
        assert_eq!(states(&printed[0]), states_then.map(|state| json!(state)), "{printed:?}");
        let text = format!("{printed:?} {}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("hunter2"), "{text}");
    }
    let table = String::from_utf8(otpost(&[&real[..], &[gone]].concat(), &["status"]).stdout).expect("text");
    assert!(table.contains("rabbitmq     down: cannot be reached: connection refused\n"), "{table}");
    let table = String::from_utf8(otpost(&real, &["status"]).stdout).expect("text");
    for line in ["mode         simulation", "e-mail       simulation", "rabbitmq     up", "kill switch  off"]
    {
        assert!(table.contains(line), "{table}");
    }
}

#[test]
fn a_server_that_refuses_or_is_down_is_named_once_with_the_setting_to_check() {
    let real = rabbit::url();
    let (user, host) = real.split_once('@').expect("a URL with a user");
    let wrong = format!("{}:hunter2@{host}", user.rsplit_once(':').expect("a password").0);
    let refuses = "RabbitMQ (AMQP_URL) refuses us (ACCESS_REFUSED): check the user and password in AMQP_URL";
    let gone = "RabbitMQ (AMQP_URL) cannot be reached: connection refused";
    for (url, response) in [(wrong.as_str(), refuses), ("amqp://guest:hunter2@127.0.0.1:1/%2f", gone)] {
        for command in [&["topology"] as &[&str], &["dead-letters", "list"]] {
            let output = otpost(&[("ENVIRONMENT", "development"), ("AMQP_URL", url)], command);
            let err = String::from_utf8(output.stderr).expect("text");
            assert_eq!(
                (output.status.code(), err),
                (Some(1), format!("otpost: {response}\n")),
                "{command:?}"
            );
        }
    }
    let redis = redis_url().replace("redis://", "redis://unknown:hunter2@");
    let output = otpost(&[("ENVIRONMENT", "development"), ("REDIS_URL", &redis)], &["kill-switch", "status"]);
    let err = String::from_utf8(output.stderr).expect("text");
    assert_eq!(
        err,
        "otpost: Redis (REDIS_URL): wrong user or password: check the user and password in REDIS_URL\n"
    );
}

#[test]
fn without_environment_the_error_says_that_this_is_production() {
    let hint = "this is production, as ENVIRONMENT is not set; on a laptop set ENVIRONMENT=development\n";
    for (command, what) in [("worker", "cannot start"), ("topology", "cannot do this")] {
        let response = |more: &[(&str, &str)]| {
            let output = otpost(more, &[command]);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            String::from_utf8(output.stderr).expect("text")
        };
        let forgotten = response(&[]);
        assert!(
            forgotten.starts_with(&format!("otpost {what} with these settings:\n  AMQP_URL ")),
            "{forgotten}"
        );
        assert!(forgotten.ends_with(hint), "{forgotten}");
        assert!(!response(&[("ENVIRONMENT", "production")]).contains(hint));
    }
}
