//! The rate of one sender, in messages a second, shared by all active workers.

use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// This worker's share of every sender's rate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RateShare {
    /// The worker has nothing to send, or the store has not counted it yet.
    Idle,
    /// The other workers learn of this one within a heartbeat, so it sends nothing before its own next heartbeat.
    Joining,
    /// One of this many equal shares.
    OneOf(u32),
}

impl RateShare {
    /// After a heartbeat of this worker, which counted it or not.
    pub(super) fn next(self, was_counted: bool, active_workers: u32) -> RateShare {
        match self {
            _ if !was_counted || active_workers == 0 => RateShare::Idle,
            RateShare::Idle => RateShare::Joining,
            RateShare::Joining | RateShare::OneOf(_) => RateShare::OneOf(active_workers),
        }
    }
}

/// Limits one sender to this worker's share.
pub(super) struct SenderRateLimiter {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    clock: TokioClock,
    /// Nothing is sent before this moment.
    ready_at: Instant,
    last_sent: Option<Instant>,
}

impl SenderRateLimiter {
    pub(super) fn new(rate: f64, clock: TokioClock) -> SenderRateLimiter {
        SenderRateLimiter::starting(rate, 1, clock, None)
    }

    pub(super) fn shared_by(&self, workers: u32, rate: f64) -> SenderRateLimiter {
        SenderRateLimiter::starting(rate, workers, self.clock.clone(), Some(self))
    }

    /// A worker that sent within the last period continues from its last message. One that waits keeps its `ready_at`
    /// within the new period. Any other starts at a random moment, so that workers that start together are spread.
    fn starting(
        rate: f64,
        workers: u32,
        clock: TokioClock,
        before: Option<&SenderRateLimiter>,
    ) -> SenderRateLimiter {
        let period = Duration::from_secs_f64(f64::from(workers) / rate);
        let now = Instant::now();
        let ready_at = match before {
            Some(SenderRateLimiter { last_sent: Some(last), .. }) if *last + period > now => *last + period,
            Some(SenderRateLimiter { ready_at, .. }) if *ready_at > now && *ready_at < now + period => {
                *ready_at
            }
            _ => now + period.mul_f64(fastrand::f64()),
        };
        let quota = Quota::with_period(period).expect("a rate is above zero");
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        SenderRateLimiter { limiter, clock, ready_at, last_sent: before.and_then(|before| before.last_sent) }
    }

    /// Counts one message, or returns the wait until one may be sent.
    pub(super) fn try_send(&mut self) -> Result<(), Duration> {
        let now = Instant::now();
        if self.ready_at > now {
            return Err(self.ready_at - now);
        }
        self.limiter.check().map_err(|not_until| not_until.wait_time_from(self.clock.now()))?;
        self.last_sent = Some(now);
        Ok(())
    }
}

/// A test that pauses tokio's time also pauses the rate.
#[derive(Clone, Debug)]
pub(super) struct TokioClock(pub(super) Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}
