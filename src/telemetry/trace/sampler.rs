//! Decides which traces are recorded: `OTEL_TRACES_SAMPLER` in OpenTelemetry's words.

use crate::domain::trace_context::TraceContext;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// A publisher's decision holds.
    pub follows_publisher: bool,
    /// The share of all other traces, from 0 to 1.
    pub ratio: f64,
}

impl Sampler {
    pub(super) fn samples(&self, publisher: Option<&TraceContext>, trace_id: [u8; 16]) -> bool {
        match publisher {
            Some(publisher) if self.follows_publisher => publisher.sampled,
            _ => self.samples_id(trace_id),
        }
    }

    /// All processes with one ratio decide alike about one trace. Callers of the public API choose their trace ids, so of their
    /// traces a random id decides.
    pub(super) fn samples_id(&self, trace_id: [u8; 16]) -> bool {
        const ALL: f64 = (1_u64 << 63) as f64;
        let random = u128::from_be_bytes(trace_id) as u64 >> 1;
        (random as f64) < self.ratio * ALL || self.ratio >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(low: u64) -> [u8; 16] {
        (u128::from(u64::MAX) << 64 | u128::from(low)).to_be_bytes()
    }

    #[test]
    fn a_share_of_the_trace_ids_is_sampled() {
        let sampler = |ratio| Sampler { follows_publisher: true, ratio };
        for (ratio, low, expected) in [
            (0.0, 0, false),
            (1.0, u64::MAX, true),
            (0.01, 0, true),
            (0.01, u64::MAX / 101, true),
            (0.01, u64::MAX / 99, false),
        ] {
            assert_eq!(sampler(ratio).samples(None, id(low)), expected, "{ratio} {low}");
        }
    }

    #[test]
    fn the_publisher_decides_where_the_sampler_follows_it() {
        let publisher = |sampled| TraceContext { trace_id: id(0), span_id: [1; 8], sampled, state: None };
        let follows = Sampler { follows_publisher: true, ratio: 0.5 };
        assert!(follows.samples(Some(&publisher(true)), id(u64::MAX)));
        assert!(!follows.samples(Some(&publisher(false)), id(0)));
        let own = Sampler { follows_publisher: false, ratio: 0.5 };
        assert!(!own.samples(Some(&publisher(true)), id(u64::MAX)));
        assert!(own.samples(Some(&publisher(false)), id(0)));
    }
}
