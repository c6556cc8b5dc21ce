//! Dead letters as operators see them: no body, only a masked excerpt.

use serde::Serialize;

use super::entry::Entry;
use crate::domain::dead_letter::masked_excerpt;
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, optional_rfc3339};

#[derive(Serialize)]
pub struct DeadLetterRow<'a> {
    pub id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    pub at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// `broker` or `otpost`.
    pub by: &'static str,
    pub reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_count: Option<u64>,
    pub bytes: usize,
    /// Its properties are no valid AMQP.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
}

/// Shown in place of the error of a dead letter that has none.
const UNREADABLE: &str = "its properties are no valid AMQP";

pub fn row(entry: &Entry, now: UnixMillis) -> DeadLetterRow<'_> {
    let dead_letter = &entry.dead_letter;
    DeadLetterRow {
        id: &entry.id,
        at: dead_letter.at,
        age_seconds: dead_letter.at.map(|at| now.since(at).as_secs()),
        by: if dead_letter.by_broker { "broker" } else { "otpost" },
        reason: &dead_letter.reason,
        error: dead_letter.error.as_deref().or(dead_letter.unreadable.then_some(UNREADABLE)),
        queue: dead_letter.queue.as_deref(),
        request_id: entry.request.as_ref().map(RequestId::as_str),
        status: dead_letter.status.as_deref(),
        delivery_count: dead_letter.delivery_count,
        bytes: entry.body.as_ref().map_or(dead_letter.body.len(), |body| body.bytes),
        unreadable: dead_letter.unreadable,
    }
}

#[derive(Serialize)]
pub struct DeadLetterDetails<'a> {
    #[serde(flatten)]
    pub row: DeadLetterRow<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_rfc3339")]
    pub requested_at: Option<UnixMillis>,
    /// Times that it was read and returned to the queue.
    pub looks: u64,
    pub sealed: bool,
    pub code_removed: bool,
    pub excerpt: String,
}

pub fn details(entry: &Entry, now: UnixMillis) -> DeadLetterDetails<'_> {
    let (dead_letter, body) = (&entry.dead_letter, entry.body.as_ref());
    // An excerpt is masked again, because any publisher may have written it. Masking twice changes nothing.
    let excerpt = body.map_or(dead_letter.body.as_slice(), |body| body.excerpt.as_bytes());
    DeadLetterDetails {
        row: row(entry, now),
        message_id: dead_letter.message_id.as_deref(),
        correlation_id: dead_letter.properties.correlation_id.as_deref(),
        traceparent: dead_letter.properties.traceparent.as_deref(),
        requested_at: dead_letter.requested_at,
        looks: dead_letter.reads,
        sealed: body.is_some_and(|body| body.sealed.is_some()),
        code_removed: body.is_some_and(|body| body.code_removed),
        excerpt: masked_excerpt(excerpt),
    }
}
