//! JSON answers. Each ends in a newline, so that the prompt of a terminal starts on its own line.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An `application/json` answer.
pub(crate) struct JsonAnswer<T>(pub(crate) T);

/// An answer as JSON, with its newline.
pub(super) fn json_line(answer: &impl Serialize) -> Vec<u8> {
    let mut body = serde_json::to_vec(answer).expect("an answer is plain data");
    body.push(b'\n');
    body
}

impl<T: Serialize> IntoResponse for JsonAnswer<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], json_line(&self.0)).into_response()
    }
}
