//! `GET /api/v1/sms/defence`: for operators only.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use otpost::domain::defence::{Change, DefenceBatch, Scope, ScopeChanges, ScopeKind, minute_of};
use otpost::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use otpost::store::DefenceStore as _;

use super::{Answer, START, TestServer, alice, service};

async fn ask(server: &TestServer, token: Option<&str>) -> Answer {
    let request = Request::get("/api/v1/sms/defence");
    let request = match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    server.ask(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_holds_and_overrides() {
    let server = TestServer::with(|_| {});
    let scope = Scope { kind: ScopeKind::Network, id: 0x1234_5678_0000_0000 };
    let changes = vec![Change { minute: minute_of(START), sent: 300, verified: 0 }];
    let subjects = vec![ScopeChanges { scope, budget: scope.kind.floor(), weight: 300, changes }];
    let batch = DefenceBatch { writer: 1, sequence: 1, subjects, ..DefenceBatch::default() };
    server.store.add_defence(&batch).await.expect("answers");
    let target = OverrideTarget::parse("+37120").expect("digits");
    let duration = Duration::from_secs(3_600);
    let new = NewOverride { action: OverrideAction::Deny, duration, shown: "+37120", reason: "pumping" };
    server.store.set_defence_override(&target, Some(&new)).await.expect("answers");
    let body = ask(&server, Some(&service())).await.expect(200);
    assert_eq!(body["mode"], "monitor");
    assert_eq!(
        (&body["holds"][0]["scope"], &body["holds"][0]["name"]),
        (&"network".into(), &"12345678".into())
    );
    let known = &body["overrides"][0];
    assert_eq!(
        (&known["target"], &known["action"], &known["reason"]),
        (&"+37120".into(), &"deny".into(), &"pumping".into())
    );
}

#[tokio::test(start_paused = true)]
async fn only_an_operator_may_ask() {
    let server = TestServer::with(|_| {});
    ask(&server, None).await.expect_problem(401, "unauthenticated");
    ask(&server, Some(&alice())).await.expect_problem(403, "insufficient_scope");
}
