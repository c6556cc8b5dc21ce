//! The messages whose price the provider is to be asked for.
//!
//! They wait in memory. A process that ends forgets its own: they are a sample.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use crate::domain::amount::Amount;
use crate::domain::routes::ProviderIndex;

const ONE_IN: u32 = 100;
/// A message of more is left out.
const WAITING_MAX: usize = 1_000;

/// The messages to ask for, the next one first.
#[derive(Default)]
pub struct PriceSamples(Mutex<VecDeque<Sample>>);

pub(super) struct Sample {
    pub(super) provider: ProviderIndex,
    pub(super) message_id: String,
    pub(super) expected: Amount,
    pub(super) due: Instant,
    pub(super) is_second_time: bool,
}

impl PriceSamples {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }

    pub(super) fn add(&self, sample: Sample) {
        let mut waiting = self.lock();
        if waiting.len() < WAITING_MAX {
            let place = waiting.partition_point(|other| other.due <= sample.due);
            waiting.insert(place, sample);
        }
    }

    pub(super) fn next_due(&self) -> Option<Sample> {
        let mut waiting = self.lock();
        let is_due = waiting.front().is_some_and(|sample| sample.due <= Instant::now());
        if is_due { waiting.pop_front() } else { None }
    }
}

/// One message in a hundred, whatever process asks.
pub(super) fn is_sampled(message_id: &str) -> bool {
    let hash = message_id.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    hash.is_multiple_of(ONE_IN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_message_in_a_hundred_is_sampled() {
        let ids =
            (0..20_000_u32).map(|number| format!("SM{:032x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15));
        let sampled = ids.filter(|id| is_sampled(id)).count();
        assert!((120..=280).contains(&sampled), "{sampled} of 20000");
    }

    #[tokio::test(start_paused = true)]
    async fn samples_come_in_the_order_in_which_they_are_due_and_are_bounded() {
        let samples = PriceSamples::default();
        let sample = |id: u64, seconds: u64| Sample {
            provider: ProviderIndex::ONLY,
            message_id: id.to_string(),
            expected: Amount::ZERO,
            due: Instant::now() + Duration::from_secs(seconds),
            is_second_time: false,
        };
        for (id, seconds) in [(1, 30), (2, 10), (3, 20)] {
            samples.add(sample(id, seconds));
        }
        assert!(samples.next_due().is_none());
        tokio::time::advance(Duration::from_secs(20)).await;
        let due: Vec<String> =
            std::iter::from_fn(|| samples.next_due()).map(|sample| sample.message_id).collect();
        assert_eq!(due, ["2", "3"]);
        for id in 0..1_500 {
            samples.add(sample(id, 60));
        }
        assert_eq!(samples.lock().len(), WAITING_MAX);
    }
}
