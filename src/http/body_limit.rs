//! Reads the body of a request before its handler runs, with bounds on its size, its time, and the bytes in flight.
//!
//! A body is copied, so that it costs the same however it is cut into chunks.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::connections::{BodyInFlight, Connection, Room};
use super::problem::Problem;
use super::serve::HEAD_BYTES_MAX;

/// The time for a body, counted from the end of the head.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// The longest time for an answer, counted from the end of the body.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// An unfinished body grows in blocks: growing one large buffer would leave smaller ones behind it in memory.
const BLOCK_BYTES: usize = 16 * 1024;

/// The memory of a header field beside its bytes: 104 in a map that may be half empty, and 72 in the list of repeated
/// fields, which may be half empty, too.
const HEADER_BYTES: usize = 384;

/// Bounds the bodies of requests, and the time of the answers.
pub(super) fn bounded(routes: Router, bytes_max: usize) -> Router {
    routes.layer(middleware::from_fn(move |request, next| answer(request, next, bytes_max)))
}

async fn answer(request: Request, next: Next, bytes_max: usize) -> Response {
    let (parts, body) = request.into_parts();
    // Tests call the router without a connection.
    let in_flight = match body.is_end_stream() {
        true => None,
        false => parts.extensions.get::<Arc<Connection>>().cloned().map(Connection::body),
    };
    let head_bytes = in_flight.as_ref().map_or(0, |body| head_bytes(&parts.headers, body));
    let reading = read_or_give_way(body, bytes_max, head_bytes, in_flight.as_ref());
    let body = match timeout(BODY_WITHIN, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(problem)) => {
            // A connection whose body gave way is given no more memory, so it must not be used again.
            let mut response = problem.into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        Err(_) => {
            let detail = format!("the body was not complete within {} s", BODY_WITHIN.as_secs());
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow").detail(detail).into_response();
        }
    };
    let request = Request::from_parts(parts, Body::from(body));
    match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out").into_response(),
    }
}

/// The memory that a request holds until its body is complete, beside the body and one read buffer.
fn head_bytes(headers: &HeaderMap, body: &BodyInFlight) -> usize {
    let names: usize = headers.keys().map(|name| name.as_str().len()).sum();
    // Hyper collects the trailers behind the last chunk, up to the length of a head.
    let trailers = if headers.contains_key(header::TRANSFER_ENCODING) { HEAD_BYTES_MAX } else { 0 };
    body.head_buffer_bytes() + headers.len() * HEADER_BYTES + names + trailers
}

async fn read_or_give_way(
    body: Body,
    bytes_max: usize,
    head_bytes: usize,
    in_flight: Option<&BodyInFlight>,
) -> Result<Vec<u8>, Problem> {
    let Some(in_flight) = in_flight else { return read(body, bytes_max, |_| Room::Now).await };
    let grow = |more| in_flight.grow(more);
    let reading = async {
        reserve(head_bytes, &grow).await?;
        read(body, bytes_max, grow).await
    };
    let body = tokio::select! {
        biased;
        () = in_flight.refused() => return Err(overloaded()),
        body = reading => body?,
    };
    in_flight.complete();
    Ok(body)
}

async fn read(body: Body, bytes_max: usize, grow: impl Fn(usize) -> Room) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let detail = format!("a body has at most {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").detail(detail)
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let (mut blocks, mut length) = (vec![Vec::new()], 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_request").detail("the body could not be read")
        })?;
        length += chunk.len();
        if length > bytes_max {
            return Err(too_large());
        }
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            rest = append(&mut blocks, rest, &grow).await?;
        }
    }
    match blocks.len() {
        1 => Ok(blocks.remove(0)),
        _ => Ok(blocks.concat()),
    }
}

/// Appends to the last block, or to a new one behind a full one. Returns the bytes that did not fit.
async fn append<'c>(
    blocks: &mut Vec<Vec<u8>>,
    bytes: &'c [u8],
    grow: &impl Fn(usize) -> Room,
) -> Result<&'c [u8], Problem> {
    if blocks.last().is_none_or(|block| block.len() == BLOCK_BYTES) {
        blocks.push(Vec::new());
    }
    let block = blocks.last_mut().expect("one was pushed");
    let taken = bytes.len().min(BLOCK_BYTES - block.len());
    let needed = block.len() + taken;
    if needed > block.capacity() {
        let capacity = needed.max(block.capacity() * 2).min(BLOCK_BYTES);
        reserve(capacity - block.capacity(), grow).await?;
        block.reserve_exact(capacity - block.len());
    }
    block.extend_from_slice(&bytes[..taken]);
    Ok(&bytes[taken..])
}

async fn reserve(bytes: usize, grow: &impl Fn(usize) -> Room) -> Result<(), Problem> {
    match grow(bytes) {
        Room::Now => {}
        Room::NextTurn => yield_now().await,
        Room::Never => return Err(overloaded()),
    }
    Ok(())
}

/// Other requests hold the memory for bodies.
fn overloaded() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded").retry_after(Duration::from_secs(1))
}
