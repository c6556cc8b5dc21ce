//! Forgetting a person: by the real binary, and the job by which workers have the texts at the provider deleted.

use std::collections::{BTreeSet, VecDeque};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::domain::address::Address;
use otpost::domain::channel::Channel;
use otpost::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::outcome::Status;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::{
    Accepted, CredentialError, FetchedMessage, LookupError, Message, Provider, ProviderMessage, Redacted,
};
use otpost::store::forget::{ForgetStore as _, Listing, RedactionJob};
use otpost::store::{DefenceStore as _, Store as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::contract::store::request_to;
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, Answer, FakeTwilio};
use crate::harness::{ALICE, Embedded, HOUR, Options, RECIPIENT_KEY, World, request};
use crate::promises::secrets::has_run;
use crate::real::{Redis, redis_url};
use crate::scripted::Script;
use crate::why::{otpost, rows, said, seed};

const MASKED: &str = "+57******4567";
const SENDER: &str = "+15005550006";
const NUMBER: &str = "3001234567";

/// A provider that deletes texts, after the scripted answers.
struct Redactor {
    texts: Mutex<BTreeSet<String>>,
    answers: Mutex<VecDeque<Result<Redacted, LookupError>>>,
    asked: Mutex<Vec<(Instant, String)>>,
    inner: Arc<dyn Provider>,
}

impl Redactor {
    fn of(world: &World, texts: &[String]) -> Arc<Redactor> {
        Arc::new(Redactor {
            texts: Mutex::new(texts.iter().cloned().collect()),
            answers: Mutex::default(),
            asked: Mutex::default(),
            inner: world.provider.clone(),
        })
    }

    fn next(&self, answers: impl IntoIterator<Item = Result<Redacted, LookupError>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn left(&self) -> usize {
        self.texts.lock().unwrap().len()
    }

    fn asked(&self) -> Vec<(Instant, String)> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Provider for Redactor {
    fn name(&self) -> &'static str {
        "twilio"
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        self.inner.send(message).await
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        self.inner.check_credentials().await
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        self.inner.find(to, since).await
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        self.inner.fetch(message_id).await
    }

    fn redacts(&self) -> bool {
        true
    }

    async fn redact(&self, message_id: &str) -> Result<Redacted, LookupError> {
        self.asked.lock().unwrap().push((Instant::now(), message_id.to_owned()));
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(Redacted::Done));
        if answer == Ok(Redacted::Done) {
            self.texts.lock().unwrap().remove(message_id);
        }
        answer
    }
}

fn digest(to: &str) -> Digest16 {
    RecipientKeyring::new(&RECIPIENT_KEY).address(Channel::Sms, to)
}

fn sids(count: u32) -> Vec<String> {
    (0..count).map(|nth| format!("SM{nth:032x}")).collect()
}

async fn job(world: &World) -> RedactionJob {
    let [job] = &world.store.redaction_jobs().await.expect("answers")[..] else { panic!("there is one") };
    job.clone()
}

fn working(redactor: &Arc<Redactor>) -> Options {
    Options { maintained: true, provider: Some(redactor.clone()), ..Options::default() }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_done_slowly_and_goes_on_after_a_crash() {
    let (world, texts) = (World::new(), sids(22));
    world.store.add_redactions(digest(ALICE), &texts, Listing::Complete).await.expect("answers");
    let redactor = Redactor::of(&world, &texts);
    let first = Embedded::in_world(world.clone(), working(&redactor));
    while redactor.left() > 17 {
        sleep(Duration::from_millis(10)).await;
    }
    first.crash().await;
    assert_eq!((redactor.left(), job(&world).await.done), (17, 5));
    sleep(Duration::from_secs(60)).await;
    let mut second = Embedded::in_world(world.clone(), working(&redactor));
    second.request("r1", ALICE).await.expect_sent();
    sleep(Duration::from_secs(30)).await;
    let shown = job(&world).await;
    assert_eq!((shown.total, shown.done, shown.failed, shown.left(), redactor.left()), (22, 22, 0, 0, 0));
    let asked = redactor.asked();
    assert_eq!(asked.len(), 22, "each once");
    let in_five_seconds = asked.windows(6).all(|six| six[5].0 - six[0].0 >= Duration::from_secs(3));
    assert!(in_five_seconds, "a worker asks for five messages in a round");
}

#[tokio::test(start_paused = true)]
async fn messages_on_their_way_and_a_throttling_provider_are_waited_for() {
    let (world, texts) = (World::new(), sids(3));
    world.store.add_redactions(digest(ALICE), &texts, Listing::Complete).await.expect("answers");
    let redactor = Redactor::of(&world, &texts);
    let throttled = || Err(LookupError::Unanswered("answered with HTTP 429, code 20429".to_owned()));
    redactor.next([Ok(Redacted::TooEarly), throttled()]);
    let _worker = Embedded::in_world(world.clone(), working(&redactor));
    sleep(Duration::from_secs(50)).await;
    assert_eq!((redactor.asked().len(), job(&world).await.done), (2, 0), "after the 429 none is asked for");
    sleep(Duration::from_secs(100)).await;
    assert_eq!(job(&world).await.done, 2);
    sleep(Duration::from_secs(500)).await;
    let shown = job(&world).await;
    assert_eq!((shown.done, shown.left()), (3, 0), "the one on its way has left");
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_breaker_is_open_nothing_is_asked_for() {
    let (world, texts) = (World::new(), sids(1));
    let redactor = Redactor::of(&world, &texts);
    let gateway = Embedded::in_world(world.clone(), working(&redactor));
    world.provider.set_healthy(false);
    let refused = SendFailure::refused(Scope::Account, Some(20_003));
    world.provider.script_default(Script::Fail(refused));
    for nth in 0..10 {
        gateway.publish(&request(&format!("r{nth}"), &format!("+57300123450{nth}")));
    }
    sleep(Duration::from_secs(20)).await;
    assert!(!world.provider.probes().is_empty(), "it is open");
    world.store.add_redactions(digest(ALICE), &texts, Listing::Complete).await.expect("answers");
    sleep(Duration::from_secs(60)).await;
    assert!(redactor.asked().is_empty());
    world.provider.set_healthy(true);
    world.provider.script_default(Script::Accept);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(redactor.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_forgotten_request_gets_its_reduced_result_and_sends_nothing() {
    let mut gateway = Embedded::start();
    let first = gateway.request("r1", ALICE).await;
    first.expect_sent();
    gateway.world.store.forget(digest(ALICE)).await.expect("answers");
    let repeat = gateway.request("r1", ALICE).await;
    repeat.expect_sent().expect_replayed(true);
    for name in ["to", "status", "provider_message_id", "attempts", "expires_at", "purpose"] {
        assert_eq!(repeat.body[name], first.body[name], "{name}");
    }
    assert_eq!(gateway.posted().len(), 1);
}

/// The binary in production, with an account at the fake.
fn with_account(redis: &Redis, twilio: &FakeTwilio, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_otpost"))
        .args(arguments)
        .env_clear()
        .env("REDIS_URL", redis_url())
        .env("REDIS_PREFIX", &redis.prefix)
        .env("OTP_RECIPIENT_KEY", BASE64.encode(RECIPIENT_KEY))
        .env("TWILIO_ACCOUNT_SID", ACCOUNT_SID)
        .env("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
        .env("TWILIO_FROM_NUMBER", SENDER)
        .env("TWILIO_API_BASE_URL", twilio.base_url())
        .output()
        .expect("the binary starts")
}

const FORGET: [&str; 5] = ["forget", "--to", ALICE, "--reason", "asked by letter"];

fn json(arguments: &[&'static str]) -> Vec<&'static str> {
    [arguments, &["--json"]].concat()
}

fn jobs(redis: &Redis) -> Vec<Value> {
    rows(&otpost(redis, &["forget", "--status", "--json"]), 0)
}

#[tokio::test]
async fn a_person_is_forgotten_by_the_command_and_the_job_is_shown() {
    let (redis, twilio) = (Redis::fresh(), FakeTwilio::start());
    let store = redis.store();
    seed(&store, ALICE, "r1", Status::Sent, None).await;
    twilio.add(ALICE, SENDER, "tu codigo es 123456", |message| message["status"] = "delivered".into());
    twilio.add(ALICE, SENDER, "", |message| message["status"] = "delivered".into());
    let said_before = said(&otpost(&redis, &["forget", "--status"]), 0).0;
    assert_eq!(said_before, "no text is to be deleted\n");

    let of_person = OverrideTarget::Recipient(digest(ALICE));
    let deny = NewOverride { action: OverrideAction::Deny, duration: HOUR, shown: MASKED, reason: "asked" };
    store.set_defence_override(&of_person, Some(&deny)).await.expect("answers");

    let report = rows(&with_account(&redis, &twilio, &json(&FORGET)), 0);
    assert_eq!(report[0]["to"], MASKED);
    assert_eq!(store.defence(&[]).await.expect("answers").list.overrides, []);
    assert_eq!(report[0]["removed"], json!({"histories": 1, "codes": 1, "suppression_note": false}));
    let kept: Vec<&str> = report[0]["kept"].as_array().expect("a list").iter().map(what).collect();
    assert_eq!(kept, ["requests", "limits"]);
    let mark = report[0]["redaction"]["job"].as_str().expect("a job").to_owned();
    assert!(mark.starts_with('#') && mark.len() == 9, "{mark}");
    let shown = jobs(&redis);
    assert_eq!((&shown[0]["job"], &shown[0]["older_messages"]), (&json!(mark), &json!("complete")));
    assert_eq!(shown[0]["failed"], 0);

    let (out, err) = said(&with_account(&redis, &twilio, &FORGET), 0);
    assert!(out.contains("removed 0 histories, 0 codes"), "{out}");
    assert!(out.contains("a repeated request must not be sent again") && err.is_empty(), "{out}{err}");
    assert!(!has_run(&format!("{out}{err}{report:?}"), NUMBER), "{out}");
    let (table, _) = said(&otpost(&redis, &["forget", "--status"]), 0);
    assert!(table.lines().count() == 2 && table.contains(&mark), "{table}");
    assert!(redis.dump().iter().all(|(key, _, value)| !has_run(&format!("{key}{value}"), NUMBER)));
    assert!(redis.dump().iter().all(|(.., value)| !value.contains(MASKED)));
    let recorded = redis.dump().into_iter().filter(|(.., value)| value.contains("forget"));
    assert!(recorded.clone().count() > 0 && recorded.clone().all(|(.., value)| value.contains(&mark)));
}

fn what(row: &Value) -> &str {
    row["what"].as_str().expect("a word")
}

#[tokio::test]
async fn a_listing_that_fails_leaves_the_rest_done_and_the_command_can_be_repeated() {
    let (redis, twilio) = (Redis::fresh(), FakeTwilio::start());
    seed(&redis.store(), ALICE, "r1", Status::Sent, None).await;
    twilio.add(ALICE, SENDER, "tu codigo es 123456", |message| message["status"] = "delivered".into());
    twilio.next([Answer::error(500, 20500)]);
    let (out, err) = said(&with_account(&redis, &twilio, &FORGET), 1);
    assert!(out.contains("removed 1 histories"), "{out}");
    assert!(err.contains("older messages are not listed") && err.contains("run it again"), "{err}");
    assert_eq!(jobs(&redis)[0]["older_messages"], "failed");
    said(&with_account(&redis, &twilio, &FORGET), 0);
    assert_eq!(jobs(&redis)[0]["older_messages"], "complete");
}

#[tokio::test]
async fn without_an_account_the_command_forgets_here_alone() {
    let redis = Redis::fresh();
    let store = redis.store();
    seed(&store, ALICE, "r1", Status::Sent, None).await;
    let report = rows(&otpost(&redis, &json(&FORGET)), 0);
    assert_eq!(report[0]["removed"]["histories"], 1);
    let (out, _) = said(&otpost(&redis, &["forget", "--to", "ana@shop.example", "--reason", "x"]), 0);
    assert!(out.contains("no text at a provider"), "{out}");
}

#[tokio::test]
async fn while_a_request_is_in_progress_the_answer_is_no() {
    let redis = Redis::fresh();
    let request = request_to(1, "in-flight");
    let mut input = request.admit();
    input.lease.subject.recipient = digest(ALICE);
    redis.store().admit(&input).await.expect("answers");
    let (out, err) = said(&otpost(&redis, &FORGET), 3);
    let expected = format!("otpost: nothing was changed: a request to {MASKED} is in progress, for ");
    assert!(out.is_empty() && err.starts_with(&expected), "{out}{err}");
}

#[tokio::test]
async fn wrong_usage_changes_nothing() {
    let redis = Redis::fresh();
    seed(&redis.store(), ALICE, "r1", Status::Sent, None).await;
    for wrong in [
        &["forget"] as &[&str],
        &["forget", "--to", ALICE],
        &["forget", "--reason", "x"],
        &["forget", "--to", ALICE, "--reason", ""],
        &["forget", "--to", "12", "--reason", "x"],
        &["forget", "--to", ALICE, "--reason", "x", "--status"],
    ] {
        let (out, err) = said(&otpost(&redis, wrong), 2);
        assert!(!has_run(&format!("{out}{err}"), NUMBER), "{wrong:?}: {err}");
    }
    assert!(redis.dump().iter().any(|(.., value)| value.contains(MASKED)), "nothing has changed");
}
