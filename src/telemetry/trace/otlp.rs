//! Writes spans as an `ExportTraceServiceRequest` of OTLP 1, in protobuf's wire format.
//!
//! Field numbers: `opentelemetry/proto/trace/v1/trace.proto`, `common.proto` and `resource.proto`.

use super::span::{SpanData, Value};
use crate::domain::trace_context::TraceContext;

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";
const SCOPE: &str = "otpost";
const STATUS_ERROR: u64 = 2;
/// Flags of a span or a link beside those of its context.
const KNOWS_IF_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

pub(super) fn request(resource: &[(String, String)], spans: &[SpanData]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| {
            for (name, value) in resource {
                message.message(1, |attribute| {
                    attribute.text(1, name);
                    attribute.message(2, |any| any.text(1, value));
                });
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.text(1, SCOPE);
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            spans.iter().for_each(|span| scope_spans.message(2, |message| write_span(message, span)));
            scope_spans.text(3, SCHEMA_URL);
        });
        resource_spans.text(3, SCHEMA_URL);
    });
    request.0
}

fn write_span(message: &mut Message, span: &SpanData) {
    let (start, end) = span.times();
    message.bytes(1, &span.context.trace_id);
    message.bytes(2, &span.context.span_id);
    if let Some(state) = &span.context.state {
        message.text(3, state);
    }
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.span_id);
    }
    message.text(5, &span.name);
    message.number(6, span.kind as u64);
    message.fixed64(7, start);
    message.fixed64(8, end);
    for (name, value) in &span.attributes {
        message.message(9, |attribute| {
            attribute.text(1, name);
            attribute.message(2, |any| match value {
                Value::Text(text) => any.text(1, text),
                Value::Flag(flag) => any.number(2, u64::from(*flag)),
                // Two's complement, as protobuf has negative numbers.
                Value::Number(number) => any.number(3, number.cast_unsigned()),
            });
        });
    }
    for link in &span.links {
        message.message(13, |message| {
            message.bytes(1, &link.trace_id);
            message.bytes(2, &link.span_id);
            if let Some(state) = &link.state {
                message.text(3, state);
            }
            message.fixed32(6, flags(link, true));
        });
    }
    if span.is_failed {
        message.message(15, |status| status.number(3, STATUS_ERROR));
    }
    message.fixed32(16, flags(&span.context, span.parent.is_some_and(|parent| parent.is_remote)));
}

/// `is_remote` tells of the parent of a span, and of the target of a link.
fn flags(context: &TraceContext, is_remote: bool) -> u32 {
    u32::from(context.sampled) | KNOWS_IF_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

/// The spans that the collector refused, by the `ExportTraceServiceResponse` of a success. What cannot be read is taken for none.
pub(super) fn spans_rejected(response: &[u8]) -> u64 {
    let partial_success = field(response, 1).and_then(|value| value.bytes());
    partial_success.and_then(|message| field(message, 1)?.number()).unwrap_or(0)
}

enum Read<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed number.
    Other,
}

impl<'a> Read<'a> {
    fn number(self) -> Option<u64> {
        if let Read::Number(number) = self { Some(number) } else { None }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        if let Read::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// The first field of this number.
fn field(mut message: &[u8], wanted: u64) -> Option<Read<'_>> {
    loop {
        let tag = read_varint(&mut message)?;
        let value = match tag & 7 {
            0 => Read::Number(read_varint(&mut message)?),
            1 => message.split_off(..8).map(|_| Read::Other)?,
            2 => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                Read::Bytes(message.split_off(..length)?)
            }
            5 => message.split_off(..4).map(|_| Read::Other)?,
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(value);
        }
    }
}

fn read_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn number(&mut self, field: u32, value: u64) {
        self.tag(field, 0);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rejected_spans_of_a_partial_success_are_read() {
        let mut response = Message::default();
        response.fixed32(9, 7);
        response.message(1, |partial| {
            partial.text(2, "too old");
            partial.number(1, 300);
        });
        assert_eq!(spans_rejected(&response.0), 300);
        for end in 0..response.0.len() {
            assert_eq!(spans_rejected(&response.0[..end]), 0, "cut after {end} bytes");
        }
        for odd in [&[][..], b"{}", &[0xff; 64], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(spans_rejected(odd), 0);
        }
    }
}
