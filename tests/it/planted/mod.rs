//! 10,000 numbers and their codes pass through the real binary, and none is in anything that an operator sees.

mod scene;
mod search;

use std::time::Duration;

use otpost::broker::{SEND_EMAIL_KEY, SEND_SMS_KEY};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::scene::{Process, Scene, every_spelling};
use self::search::Planted;
use crate::contract::broker::World as _;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::fake_twilio::Answer;

const COUNT: usize = 10_000;
/// Of these the last ones are asked for over HTTP.
const OVER_HTTP: usize = 100;
const REFUSED: usize = 100;
const IN_DOUBT: usize = 10;
const DEAD: usize = 20;
const EMAILS: usize = 20;
/// A part of each address; of the local part a mask shows its first letter.
const IN_ADDRESSES: &str = "mpleado.plantado";
/// Typed by people, and chosen by a caller; no message has it.
const TYPED: &str = "0123456789";
const WITHIN: Duration = Duration::from_secs(120);

/// All last eight digits begin with a zero, as no number of a metric does.
fn number(at: usize) -> String {
    format!("+57{}{:07}", 300 + at % 3 * 10, (at * 997 + 1_234_567) % 10_000_000)
}

fn address(at: usize) -> String {
    format!("e{IN_ADDRESSES}{at}@correo.example")
}

/// Twilio's answers name the number, as the real ones do.
fn script(scene: &Scene) {
    for at in 0..REFUSED {
        let message = format!("The 'To' number {} is not a valid phone number", number(at));
        let body = json!({"code": 21211, "message": message, "more_info": "", "status": 400});
        scene.twilio.for_recipient(&number(at), Answer::Status(400, body));
    }
    for at in REFUSED..REFUSED + IN_DOUBT {
        scene.twilio.for_recipient(&number(at), Answer::AcceptThenClose);
    }
}

/// The results of all requests, and of one more to each of some recipients, which a limit refuses.
async fn send_all(world: &RabbitWorld, scene: &Scene) -> Vec<String> {
    let mut results = world.results().await;
    let request = |at: usize, id: &str| {
        json!({"request_id": format!("{id}-{at}"), "to": every_spelling(&number(at), at), "user_id": number(at),
               "user_name": "Planted", "client_ip": "198.51.100.7"})
    };
    let queued = (0..COUNT - OVER_HTTP).map(|at| request(at, "p"));
    let repeated = (500..600).map(|at| request(at, "again"));
    scene.publish(SEND_SMS_KEY, queued.chain(repeated).map(|body| body.to_string())).await;
    let by_email = (0..EMAILS).map(|at| {
        json!({"request_id": format!("e-{at}"), "to": address(at), "user_id": address(at), "user_name": "Planted"})
    });
    scene.publish(SEND_EMAIL_KEY, by_email.map(|body| body.to_string())).await;
    let dead = (0..DEAD).map(|at| json!({"to": number(at), "code": TYPED}).to_string());
    scene.publish(SEND_SMS_KEY, dead).await;
    let over_http = (COUNT - OVER_HTTP..COUNT).map(|at| {
        scene.post(
            "/api/v1/otp/send",
            json!({"to": number(at), "user_id": number(at), "user_name": "Planted"}),
        )
    });
    let mut shown = futures_util::future::join_all(over_http).await;
    let (began, mut ended) = (Instant::now(), 0);
    while ended < COUNT + 100 + EMAILS {
        assert!(began.elapsed() < WITHIN, "{ended} results");
        let result = results.next().await;
        ended += usize::from(!result.routing_key.ends_with("delivered"));
        shown.push(format!("{} {}", result.routing_key, String::from_utf8_lossy(&result.body)));
    }
    shown
}

/// Answers and outputs that operators and callers see: checks, receipts, queries, commands.
async fn ask_everything(scene: &Scene, codes: &[(String, String)]) -> Vec<String> {
    let mut shown = Vec::new();
    for (at, (to, code)) in codes.iter().take(60).enumerate() {
        let typed = if at % 2 == 0 { code } else { TYPED };
        shown.push(scene.post("/api/v1/otp/verify", json!({"to": to, "otp_code": typed})).await);
    }
    shown.extend(scene.report_delivered(40).await);
    for at in (0..COUNT).step_by(COUNT / 10) {
        let to = json!({"to": number(at)});
        shown.push(scene.post("/api/v1/sms/requests", to.clone()).await);
        shown.push(scene.post("/api/v1/sms/rate-limit", to).await);
        shown.push(scene.get(&format!("/api/v1/sms/requests/p-{at}")).await);
    }
    shown.push(scene.get("/api/v1/sms/status").await);
    shown.push(scene.command(&["suppressions", "add", &number(7), "--reason", "planted"]));
    shown.push(scene.command(&["log-level", "trace", "--for", "1m"]));
    let listed = scene.command(&["dead-letters", "list", "--json", "--limit", "100"]);
    let rows: Vec<Value> = serde_json::from_str(&listed).expect("a list");
    assert_eq!(rows.len(), DEAD, "{listed}");
    let id = rows[0]["id"].as_str().expect("an id").to_owned();
    shown.push(listed);
    let (refused, in_doubt) = ("p-3".to_owned(), format!("p-{}", REFUSED + 1));
    for arguments in [
        &["dead-letters", "list"][..],
        &["dead-letters", "show", &id],
        &["status"],
        &["status", "--json"],
        &["why", &refused],
        &["why", &in_doubt, "--json"],
        &["why", "--to", &number(500)],
        &["rate-limit", &number(500), "--json"],
        &["suppressions", "list"],
    ] {
        shown.push(scene.command(arguments));
    }
    shown
}

/// Views and acts of the console. Its operator types a number and an address where they do not belong.
async fn ask_the_console(scene: &Scene) -> Vec<String> {
    let reason = format!("call {} or write to {}", number(8), address(8));
    let listed = scene.get("/api/v1/ops/dead-letters").await;
    let body: Value = serde_json::from_str(&listed[listed.find('{').expect("JSON")..]).expect("JSON");
    let id = &body["dead_letters"][0]["id"];
    let mut shown = vec![listed];
    for (path, body) in [
        ("suppressions", json!({"to": number(8), "reason": reason, "hours": 1})),
        ("suppressions", json!({"to": address(8), "reason": reason, "hours": 1})),
        ("kill-switch/on", json!({"reason": reason})),
        ("dead-letters/replay", json!({"ids": [id], "dry_run": true})),
    ] {
        shown.push(scene.post(&format!("/api/v1/ops/{path}"), body).await);
    }
    // All workers have read it.
    sleep(Duration::from_millis(1_200)).await;
    shown.push(scene.get("/api/v1/ops/overview").await);
    shown.push(scene.get("/api/v1/ops/suppressions").await);
    shown.push(scene.post("/api/v1/ops/kill-switch/off", json!({})).await);
    shown.iter().for_each(|answer| assert!(answer.starts_with("200"), "{answer}"));
    shown.push(scene.command(&["suppressions", "list"]));
    shown
}

/// Everything that the processes wrote, served and exported, once they have ended.
async fn read_everything(scene: &mut Scene, processes: Vec<Process>) -> Vec<String> {
    let mut texts = Vec::new();
    for process in &processes {
        texts.push(scene.metrics_of(process).await);
    }
    for process in processes {
        texts.push(process.log_at_the_end());
    }
    scene.collector.read_received();
    let spans = &scene.collector.spans;
    assert!(spans.len() > 1_000, "{} spans", spans.len());
    // Without ids and times, whose digits are those of chance.
    texts.extend(spans.iter().map(|span| format!("{} {} {:?}", span.name, span.state, span.attributes)));
    texts
}

fn expect_lines(log: &str, messages: &[&str]) {
    for message in messages {
        assert!(log.contains(message), "no line {message:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_10_000_planted_numbers_and_codes_is_in_anything_that_operators_see() {
    in_world(async |world: &RabbitWorld| {
        let mut scene = Scene::start(world).await;
        script(&scene);
        let workers = [scene.spawn("worker", "json"), scene.spawn("worker", "pretty")];
        let http = scene.spawn_http().await;
        let mut texts = send_all(world, &scene).await;
        let codes = scene.codes();
        let (mut planted, sent) = (Planted::default(), COUNT - REFUSED);
        (0..COUNT).for_each(|at| planted.add_number(&number(at)));
        codes.iter().for_each(|(_, code)| planted.add_code(code));
        let codes_of_emails = scene.codes_of_emails();
        assert_eq!(codes_of_emails.len(), EMAILS);
        codes_of_emails.iter().for_each(|code| planted.add_code(code));
        planted.add_code(TYPED);
        planted.add_word(IN_ADDRESSES);
        assert!(planted.count().0 == COUNT && planted.count().1 > sent, "{:?}", planted.count());
        texts.extend(ask_everything(&scene, &codes).await);
        texts.extend(ask_the_console(&scene).await);
        sleep(Duration::from_millis(1_200)).await;
        let [json, pretty] = workers;
        texts.extend(read_everything(&mut scene, vec![json, pretty, http]).await);

        let all = texts.join("\n");
        expect_lines(
            &all,
            &[
                "request completed",
                "provider refused a message",
                "send in doubt",
                "message dead-lettered",
                "operator query",
                "operator act",
                "sending paused",
                "code checked",
                "DEBUG",
                "otpost_requests_total",
                "sms.rejected",
                "http request answered",
                "cooldown",
                "log filter changed",
            ],
        );
        let found = planted.found_in(&all);
        assert!(found.is_empty(), "{} leaks, such as {:#?}", found.len(), &found[..found.len().min(5)]);
    })
    .await;
}
