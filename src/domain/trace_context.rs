//! The W3C trace context: the trace of a message or call, and the span that sent it.

use std::fmt::Write as _;
use std::sync::Arc;

/// Version, trace id, span id and flags.
const TRACEPARENT_LEN: usize = 55;
const STATE_BYTES_MAX: usize = 512;
const SAMPLED: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// The sender records its spans of the trace.
    pub sampled: bool,
    /// The `tracestate`, as it came.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// A `tracestate` that breaks its rules counts as absent. A later version may append to the `traceparent`.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<TraceContext> {
        let (head, rest) = traceparent.split_at_checked(TRACEPARENT_LEN)?;
        let mut fields = head.split('-');
        let [version] = bytes(fields.next()?)?;
        let (trace_id, span_id) = (bytes(fields.next()?)?, bytes(fields.next()?)?);
        let [flags] = bytes(fields.next()?)?;
        let has_valid_end = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_valid = has_valid_end && fields.next().is_none() && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then(|| TraceContext {
            trace_id,
            span_id,
            sampled: flags & SAMPLED != 0,
            state: tracestate.filter(|state| is_state(state)).map(Arc::from),
        })
    }

    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(TRACEPARENT_LEN);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }

    pub fn trace_id_hex(&self) -> String {
        let mut text = String::with_capacity(2 * self.trace_id.len());
        push_hex(&mut text, &self.trace_id);
        text
    }

    /// The context that a caller of the public API sends: it decides neither on our recording nor on our headers.
    pub fn untrusted(self) -> TraceContext {
        TraceContext { sampled: false, state: None, ..self }
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower_case = digits.bytes().all(|byte| !byte.is_ascii_uppercase());
    (is_lower_case && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(bytes)
}

fn is_state(state: &str) -> bool {
    let is_allowed = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    state.len() <= STATE_BYTES_MAX && state.contains('=') && state.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_and_written_alike() {
        let context = TraceContext::parse(TRACE, Some("vendor=a,other=b")).expect("valid");
        assert_eq!((context.traceparent().as_str(), context.sampled), (TRACE, true));
        assert_eq!(context.trace_id_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.state.as_deref(), Some("vendor=a,other=b"));
        let untrusted = context.untrusted();
        assert_eq!((untrusted.traceparent(), untrusted.state), (TRACE.replace("-01", "-00"), None));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = TRACE.replacen("00", "cc", 1) + "-more";
        assert_eq!(TraceContext::parse(&later, None).map(|it| it.traceparent()).as_deref(), Some(TRACE));
    }

    #[test]
    fn anything_else_is_no_context() {
        let zeros = |len: usize| "0".repeat(len);
        for wrong in [
            String::new(),
            "00-abc".to_owned(),
            TRACE.to_uppercase(),
            format!("{TRACE}-more"),
            TRACE.replacen("00", "ff", 1),
            TRACE.replacen("00", "cc", 1) + "more",
            TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros(32)),
            TRACE.replace("00f067aa0ba902b7", &zeros(16)),
            TRACE.replace('-', "_"),
            TRACE.replace("4bf9", "4bé"),
        ] {
            assert_eq!(TraceContext::parse(&wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_that_breaks_its_rules_is_left_out() {
        for wrong in ["", "vendor", "a=\n", &format!("a={}", "b".repeat(STATE_BYTES_MAX))] {
            assert_eq!(TraceContext::parse(TRACE, Some(wrong)).expect("valid").state, None, "{wrong}");
        }
    }
}
