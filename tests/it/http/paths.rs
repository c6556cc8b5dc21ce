//! Paths, methods, probes and metrics.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use otpost::http::ops_router;
use serde_json::json;
use tower::ServiceExt as _;

use super::{SEND_SMS, TestServer, VERIFY_PHONE, VERIFY_SERVICE, alice, post};

#[tokio::test]
async fn an_unknown_path_or_method_gets_a_problem() {
    let server = TestServer::start();
    for path in ["/", "/Secreto", "/api/v1/auth/verify-phone-otp/Secreto", "/metrics", "/api/v1/otp"] {
        let answer = server.ask(post(path, &alice(), "{}")).await;
        answer.expect_problem(404, "not_found");
        answer.expect_nothing_of(&["Secreto"]);
    }
    for path in [SEND_SMS, VERIFY_PHONE, VERIFY_SERVICE] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            let answer = server.ask(request).await;
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
    let server = TestServer::start();
    for path in ["/livez", "/readyz"] {
        let (status, _, text) = get(server.router.clone(), path).await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
    }
    assert_eq!(get(server.router.clone(), "/metrics").await.0, 404);
}

#[tokio::test]
async fn operators_see_whether_a_process_is_ready_and_what_it_counts() {
    let ready = ops_router(Arc::new(|| Ok(())), None);
    let not_ready = ops_router(Arc::new(|| Err("not consuming\n".into())), None);
    assert_eq!(get(ready.clone(), "/readyz").await.0, 200);
    let (status, _, text) = get(not_ready.clone(), "/readyz").await;
    assert_eq!((status, text.as_str()), (503, "not consuming\n"));
    assert_eq!(get(not_ready, "/livez").await.0, 200, "a restart would not bring a broker back");
    TestServer::start().post("/Secreto-path", &alice(), &json!({})).await.expect_problem(404, "not_found");
    let (status, kind, text) = get(ready, "/metrics").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("# TYPE otpost_http_requests_total counter\n"), "{text}");
    assert!(!text.contains("Secreto"), "strangers must not make up labels: {text}");
}

#[test]
fn docs_http_lists_every_path_with_its_method() {
    let read = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        std::fs::read_to_string(path).expect("text")
    };
    let (routes, page) = (read("src/http/router.rs"), read("docs/http.md"));
    let mut count = 0;
    for route in routes.split(".route(\"").skip(1) {
        let (path, handler) = route.split_once("\", ").expect("a path and who answers");
        let method = if handler.starts_with("post(") { "POST" } else { "GET" };
        assert!(page.contains(&format!("`{method} {path}`")), "{method} {path}");
        count += 1;
    }
    assert!(count >= 14, "{count} routes");
}
