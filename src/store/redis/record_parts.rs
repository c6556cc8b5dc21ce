//! Packs the parts behind a history or an outcome that only some requests have: its trace, the user, the mark of a caller's code, the
//! network, the scopes that count, and the providers that may have the message.
//!
//! Versions that do not know a part leave it and those behind it unread.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::defence::CountedScopes;
use crate::domain::failover_reason::FailoverReason;
use crate::domain::history::{Attempt, HANDED_TO_MAX, HistoryEvent, RequestHistory};
use crate::domain::keyed_digest::Digest16;
use crate::domain::trace_context::TraceContext;

/// Each begins a part behind a history or an outcome, in this order.
const TRACE: u8 = 1;
const USER: u8 = 2;
/// A mark without a payload.
const CALLERS_CODE: u8 = 3;
const NETWORK: u8 = 4;
/// Earlier versions leave it out.
const COUNTED: u8 = 5;
const PROVIDERS: u8 = 6;

/// Of a request that several providers may have got.
#[derive(Serialize, Deserialize)]
struct PackedProviders<'a> {
    #[serde(borrow)]
    handed_to: Vec<&'a str>,
    /// The number of an attempt, its provider, and why it was that one.
    #[serde(borrow)]
    attempts: Vec<(u32, &'a str, Option<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct PackedTrace<'a> {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
    state: Option<&'a str>,
}

/// Trace, user, the mark of a caller's code, network, the scopes that count and providers, behind everything else: many records have none.
pub(super) fn with_parts(mut packed: Vec<u8>, history: &RequestHistory) -> Vec<u8> {
    if let Some(trace) = &history.trace {
        packed.push(TRACE);
        let trace = PackedTrace {
            trace_id: trace.trace_id,
            span_id: trace.span_id,
            sampled: trace.sampled,
            state: trace.state.as_deref(),
        };
        packed = postcard::to_extend(&trace, packed).expect("it is plain data");
    }
    if let Some(user) = &history.user {
        packed.push(USER);
        packed.extend(user.bytes());
    }
    if history.callers_code {
        packed.push(CALLERS_CODE);
    }
    if let Some(network) = &history.network {
        packed.push(NETWORK);
        packed.extend(network.bytes());
    }
    if let Some(counted) = history.counted {
        packed.extend([COUNTED, counted.stored()]);
    }
    with_providers(packed, history)
}

fn with_providers(mut packed: Vec<u8>, history: &RequestHistory) -> Vec<u8> {
    let mut attempts = Vec::new();
    for entry in &history.entries {
        if let HistoryEvent::Attempted(Attempt { attempt, provider: Some(name), failover, .. }) = &entry.event
        {
            attempts.push((*attempt, name.as_str(), failover.map(FailoverReason::stored)));
        }
    }
    if history.handed_to.is_empty() && attempts.is_empty() {
        return packed;
    }
    packed.push(PROVIDERS);
    let handed_to = history.handed_to.iter().map(String::as_str).collect();
    postcard::to_extend(&PackedProviders { handed_to, attempts }, packed).expect("it is plain data")
}

/// A part that cannot be read is left out, with those behind it.
pub(super) fn read_parts(history: RequestHistory, bytes: &[u8]) -> RequestHistory {
    let (trace, rest) = match bytes.split_first() {
        Some((&TRACE, rest)) => match postcard::take_from_bytes::<PackedTrace<'_>>(rest) {
            Ok((trace, rest)) => (Some(trace), rest),
            Err(_) => return history,
        },
        _ => (None, bytes),
    };
    let trace = trace.map(|PackedTrace { trace_id, span_id, sampled, state }| TraceContext {
        trace_id,
        span_id,
        sampled,
        state: state.map(Arc::from),
    });
    let (user, rest) = read_digest(USER, rest);
    let (callers_code, rest) = match rest.split_first() {
        Some((&CALLERS_CODE, rest)) => (true, rest),
        _ => (false, rest),
    };
    let (network, rest) = read_digest(NETWORK, rest);
    let (counted, rest) = match rest {
        [COUNTED, counted, rest @ ..] => (Some(CountedScopes::from_stored(*counted)), rest),
        _ => (None, rest),
    };
    read_providers(RequestHistory { trace, user, callers_code, network, counted, ..history }, rest)
}

fn read_providers(mut history: RequestHistory, bytes: &[u8]) -> RequestHistory {
    let Some((&PROVIDERS, rest)) = bytes.split_first() else { return history };
    let Ok((providers, _)) = postcard::take_from_bytes::<PackedProviders<'_>>(rest) else { return history };
    let PackedProviders { handed_to, attempts } = providers;
    history.handed_to = handed_to.into_iter().take(HANDED_TO_MAX).map(str::to_owned).collect();
    for entry in &mut history.entries {
        let HistoryEvent::Attempted(attempt) = &mut entry.event else { continue };
        if let Some((_, name, why)) = attempts.iter().find(|(number, ..)| *number == attempt.attempt) {
            attempt.provider = Some((*name).to_owned());
            attempt.failover = why.and_then(FailoverReason::from_stored);
        }
    }
    history
}

fn read_digest(part: u8, bytes: &[u8]) -> (Option<Digest16>, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) if *first == part => match rest.split_first_chunk() {
            Some((digest, rest)) => (Some(Digest16::from_bytes(*digest)), rest),
            None => (None, &[]),
        },
        _ => (None, bytes),
    }
}

/// The bytes by which a script finds the records of a user.
pub(super) fn user_part(user: &Digest16) -> Vec<u8> {
    [&[USER], user.bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMillis;

    fn history() -> RequestHistory {
        let network = Some(Digest16::NONE);
        let mut history = RequestHistory { network, callers_code: true, ..RequestHistory::default() };
        let first = Attempt { provider: Some("twilio".to_owned()), ..Attempt::accepted(1, None, 9) };
        let second = Attempt {
            provider: Some("infobip".to_owned()),
            failover: Some(FailoverReason::DoubtUnanswered),
            ..Attempt::accepted(2, None, 9)
        };
        history.handed_to = vec!["twilio".to_owned(), "infobip".to_owned()];
        history.add(UnixMillis(1), HistoryEvent::Attempted(first));
        history.add(UnixMillis(2), HistoryEvent::Attempted(second));
        history
    }

    /// A history without the parts, as its own packing reads back.
    fn bare(history: &RequestHistory) -> RequestHistory {
        let mut bare = RequestHistory { entries: history.entries.clone(), ..RequestHistory::default() };
        for entry in &mut bare.entries {
            if let HistoryEvent::Attempted(attempt) = &mut entry.event {
                (attempt.provider, attempt.failover) = (None, None);
            }
        }
        bare
    }

    #[test]
    fn the_providers_of_a_request_read_back() {
        let history = history();
        let packed = with_parts(Vec::new(), &history);
        assert_eq!(read_parts(bare(&history), &packed), history);
        assert_eq!(packed[..18], [[CALLERS_CODE, NETWORK].as_slice(), &Digest16::NONE.bytes()].concat());
    }

    /// The older version reads the parts before, and leaves the rest.
    #[test]
    fn without_several_providers_nothing_more_is_stored() {
        let history = bare(&history());
        assert_eq!(with_parts(Vec::new(), &history), [0_u8; 0]);
    }

    #[test]
    fn providers_that_cannot_be_read_are_left_out() {
        let history = history();
        let packed = with_parts(Vec::new(), &history);
        let cut = &packed[..packed.len() - 3];
        let without = RequestHistory { network: history.network, callers_code: true, ..bare(&history) };
        assert_eq!(read_parts(bare(&history), cut), without);
    }
}
