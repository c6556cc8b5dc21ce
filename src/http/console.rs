//! The operators' console: a page over the endpoints for operators, compiled into the program.
//!
//! The page holds no data and needs no token: every answer that it shows does. It exists with `OPS_CONSOLE` only.

use axum::Router;
use axum::middleware;
use axum::response::Redirect;
use axum::routing::get;

use super::static_files::{SCRIPT, file, with_headers};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/console", get(async || Redirect::permanent("/console/")))
        .route("/console/", file("text/html; charset=utf-8", include_str!("console/index.html")))
        .route("/console/console.css", file("text/css; charset=utf-8", include_str!("console/console.css")))
        .route("/console/console.js", file(SCRIPT, include_str!("console/console.js")))
        .route("/console/api.js", file(SCRIPT, include_str!("console/api.js")))
        .route("/console/draw.js", file(SCRIPT, include_str!("console/draw.js")))
        .route("/console/live.js", file(SCRIPT, include_str!("console/live.js")))
        .route("/console/overview.js", file(SCRIPT, include_str!("console/overview.js")))
        .route("/console/workers.js", file(SCRIPT, include_str!("console/workers.js")))
        .route("/console/report.js", file(SCRIPT, include_str!("console/report.js")))
        .route("/console/conversion.js", file(SCRIPT, include_str!("console/conversion.js")))
        .route("/console/spend.js", file(SCRIPT, include_str!("console/spend.js")))
        .route("/console/defence.js", file(SCRIPT, include_str!("console/defence.js")))
        .route("/console/audit.js", file(SCRIPT, include_str!("console/audit.js")))
        .route("/console/stop.js", file(SCRIPT, include_str!("console/stop.js")))
        .route("/console/people.js", file(SCRIPT, include_str!("console/people.js")))
        .route("/console/suppressions.js", file(SCRIPT, include_str!("console/suppressions.js")))
        .route("/console/dead-letters.js", file(SCRIPT, include_str!("console/dead-letters.js")))
        .layer(middleware::map_response(with_headers))
}
