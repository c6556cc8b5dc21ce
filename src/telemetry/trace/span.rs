//! A recorded span, as it is exported.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::trace_context::TraceContext;

const ATTRIBUTES_MAX: usize = 32;
const LINKS_MAX: usize = 16;
/// The attribute of a span that failed.
pub(super) const ERROR_TYPE: &str = "error.type";

/// The numbers of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Cow<'static, str>),
    Number(i64),
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

pub(super) struct SpanData {
    /// The trace of the span, and its own id.
    pub(super) context: TraceContext,
    pub(super) parent: Option<Parent>,
    pub(super) kind: Kind,
    pub(super) name: Cow<'static, str>,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) links: Vec<TraceContext>,
    pub(super) is_failed: bool,
    started_at: SystemTime,
    began: Instant,
    pub(super) lasted: Duration,
}

#[derive(Clone, Copy)]
pub(super) struct Parent {
    pub(super) span_id: [u8; 8],
    /// Another process recorded it, or this one in another request.
    pub(super) is_remote: bool,
}

impl SpanData {
    pub(super) fn begin(
        context: TraceContext,
        parent: Option<Parent>,
        kind: Kind,
        name: Cow<'static, str>,
    ) -> SpanData {
        SpanData {
            context,
            parent,
            kind,
            name,
            attributes: Vec::new(),
            links: Vec::new(),
            is_failed: false,
            started_at: SystemTime::now(),
            began: Instant::now(),
            lasted: Duration::ZERO,
        }
    }

    /// Replaces an earlier value. Further attributes than the most are left out.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        match self.attributes.iter().position(|(known, _)| *known == name) {
            Some(at) => self.attributes[at].1 = value,
            None if self.attributes.len() < ATTRIBUTES_MAX => self.attributes.push((name, value)),
            None => {}
        }
    }

    pub(super) fn link(&mut self, context: TraceContext) {
        if self.links.len() < LINKS_MAX && !self.links.contains(&context) {
            self.links.push(context);
        }
    }

    pub(super) fn end(&mut self) {
        self.lasted = self.began.elapsed();
    }

    /// The start and the end, in nanoseconds since 1970.
    pub(super) fn times(&self) -> (u64, u64) {
        let start = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        (nanos(start), nanos(start + self.lasted))
    }
}
