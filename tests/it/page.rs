//! The page of `otpost dev` exists nowhere else. Its tests are `src/http/page/tests.rs` and, in a browser, `tests/e2e`.

use axum::body::Body;
use axum::http::{Request, header};

use crate::http::TestServer;

#[tokio::test]
async fn production_serves_no_page_and_issues_no_tokens() {
    let server = TestServer::start();
    let files = ["/", "/page.css", "/page.js", "/gateway.js", "/handset.js", "/words.js", "/texts.js"];
    for path in files.into_iter().chain(["/dev/messages", "/dev/token"]) {
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let answer = server.ask(request.body(Body::from("{}")).expect("a request")).await;
            answer.expect_problem(404, "not_found");
        }
    }
}
