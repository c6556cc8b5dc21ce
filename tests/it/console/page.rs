//! The page itself: its files, and the headers that bound it.

use axum::body::Body;
use axum::http::Request;
use otpost::config::{Role, Settings};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::get;
use crate::contract::broker::rabbit::{RabbitWorld, in_world};
use crate::http::{Answer, TestServer};
use crate::logs::Running;
use crate::real::Redis;

async fn file(server: &TestServer, path: &str) -> Answer {
    server.ask_unchecked(Request::get(path).body(Body::empty()).expect("a request")).await
}

/// The files that a text of the page names.
fn named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('"').skip(1).step_by(2);
    let files = quoted.filter(|name| name.ends_with(".js") || name.ends_with(".css"));
    files.map(|name| name.trim_start_matches("./").to_owned()).collect()
}

#[tokio::test]
async fn the_page_and_all_that_it_names_are_served_with_strict_headers() {
    let server = TestServer::start();
    let moved = file(&server, "/console").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("/console/")));
    let index = file(&server, "/console/").await;
    let (mut left, mut seen) = (named(&index.text), BTreeSet::new());
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    let mut answers = vec![index];
    while let Some(name) = left.pop_first() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let answer = file(&server, &format!("/console/{name}")).await;
        let kind =
            if name.ends_with(".js") { "text/javascript; charset=utf-8" } else { "text/css; charset=utf-8" };
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{name}");
        left.extend(named(&answer.text));
        answers.push(answer);
    }
    assert!(seen.len() > 8, "{seen:?}");
    for answer in answers {
        let policy = answer.header("content-security-policy").expect("a policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert!(answer.header("set-cookie").is_none());
    }
}

/// The policy would block them, and a store would keep the token.
#[test]
fn the_page_has_no_inline_code_no_foreign_resource_and_no_storage() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        for bad in [
            "<style",
            " style=",
            " onclick=",
            "localStorage",
            "sessionStorage",
            "indexedDB",
            "document.cookie",
            "innerHTML",
            "eval(",
            "https://",
            "insertAdjacentHTML",
        ] {
            assert!(!text.contains(bad), "{}: {bad}", path.display());
        }
        let links = text.matches("http://").count();
        assert_eq!(links, text.matches("http://www.w3.org/2000/svg").count(), "{}", path.display());
        read += 1;
    }
    assert!(read > 8, "{read} files");
}

#[test]
fn the_console_is_off_unless_the_setting_turns_it_on() {
    let is_on = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let settings = Settings::read(Role::Offline, variables, Path::new("/nonexistent"), |_| Vec::new());
        settings.map(|settings| settings.ops_console).map_err(|errors| errors.errors)
    };
    assert_eq!(is_on(&[]), Ok(false));
    assert_eq!(is_on(&[("OPS_CONSOLE", "true")]), Ok(true));
    let errors = is_on(&[("OPS_CONSOLE", "maybe")]).expect_err("it is neither");
    assert_eq!(errors[0].to_string(), "OPS_CONSOLE must be true or false");
}

/// The status line of an answer to this path.
async fn status_line(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_and_serve_have_the_console_if_it_is_on_and_never_on_the_ops_port() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        for (command, setting, expected) in
            [("http", "true", "200 OK"), ("serve", "true", "200 OK"), ("http", "false", "404 Not Found")]
        {
            let (http, ops) = (free_address(), free_address());
            let settings = [("OPS_CONSOLE", setting), ("HTTP_ADDR", &http), ("OPS_ADDR", &ops)];
            let mut process = Running::with_servers(command, world, &redis, &settings);
            process.says("started").await;
            assert_eq!(
                status_line(&http, "/console/").await,
                format!("HTTP/1.1 {expected}"),
                "{command} {setting}"
            );
            assert_eq!(status_line(&ops, "/console/").await, "HTTP/1.1 404 Not Found");
            assert_eq!(status_line(&ops, "/api/v1/ops/overview").await, "HTTP/1.1 404 Not Found");
        }
    })
    .await;
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn a_file_that_the_page_does_not_have_is_not_found() {
    let server = TestServer::start();
    server.ask(get("/console/other.js", "")).await.expect_problem(404, "not_found");
}
