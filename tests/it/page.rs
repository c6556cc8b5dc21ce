//! The page of `otpost dev` is nowhere else. What it does is tested beside it, and in a browser (`tests/e2e`).

use axum::body::Body;
use axum::http::{Request, header};

use crate::http::Door;

#[tokio::test]
async fn what_production_serves_has_no_page_and_gives_no_tokens() {
    let door = Door::open();
    let files = ["/", "/page.css", "/page.js", "/gateway.js", "/handset.js", "/words.js", "/texts.js"];
    for path in files.into_iter().chain(["/dev/messages", "/dev/token"]) {
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let answer = door.ask(request.body(Body::from("{}")).expect("a request")).await;
            answer.expect_problem(404, "not_found");
        }
    }
}
