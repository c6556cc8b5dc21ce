//! Logs the warnings of the store: a line a minute while one lasts, and a line when it is over. One that comes back at once lasts.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreWarning;
use crate::telemetry::events;

const LINE_EVERY: Duration = Duration::from_secs(60);
const OVER_AFTER: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(super) struct WarningLog(Mutex<Vec<Lasting>>);

struct Lasting {
    reason: &'static str,
    since: Instant,
    written_at: Instant,
    last_noted: Instant,
}

impl WarningLog {
    pub(super) fn note(&self, warnings: &[StoreWarning]) {
        let mut lasting = self.0.lock().expect("nothing panics while it holds the lock");
        let now = Instant::now();
        for warning in warnings {
            let reason = warning.as_str();
            let Some(line) = lasting.iter_mut().find(|lasting| lasting.reason == reason) else {
                lasting.push(Lasting { reason, since: now, written_at: now, last_noted: now });
                events::store_warning(reason, warning, warning.value(), 0);
                continue;
            };
            line.last_noted = now;
            if warning.is_repeated() && now - line.written_at >= LINE_EVERY {
                line.written_at = now;
                events::store_warning(reason, warning, warning.value(), (now - line.since).as_secs());
            } else {
                events::store_warning_value(reason, warning.value());
            }
        }
        lasting.retain(|line| {
            let lasts = now - line.last_noted < OVER_AFTER;
            if !lasts {
                events::store_warning_over(line.reason, (line.last_noted - line.since).as_secs());
            }
            lasts
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &WarningLog) -> Vec<(&'static str, Instant)> {
        let lasting = log.0.lock().expect("nothing panics while it holds the lock");
        lasting.iter().map(|line| (line.reason, line.written_at)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_warning_has_a_line_a_minute_unless_it_is_meant_so() {
        let (log, began) = (WarningLog::default(), Instant::now());
        let minute = |minutes: u64| began + LINE_EVERY * u32::try_from(minutes).expect("few");
        let both = [StoreWarning::SentinelsSilent, StoreWarning::ClusterNode];
        for _ in 0..=240 {
            log.note(&both);
            tokio::time::advance(Duration::from_millis(250)).await;
        }
        assert_eq!(lines(&log), [("sentinels_silent", minute(1)), ("cluster_node", began)]);
        for _ in 0..4 {
            log.note(&both[1..]);
            tokio::time::advance(Duration::from_secs(3)).await;
            log.note(&both);
        }
        assert_eq!(lines(&log)[0].0, "sentinels_silent", "one that comes and goes lasts");
        log.note(&both[1..]);
        tokio::time::advance(OVER_AFTER).await;
        log.note(&both[1..]);
        assert_eq!(lines(&log), [("cluster_node", began)], "over");
        log.note(&both);
        assert_eq!(lines(&log)[1], ("sentinels_silent", Instant::now()), "it begins anew");
    }
}
