//! Logs the warnings of the store: a line a minute while one lasts, and a line when it is over.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreWarning;
use crate::telemetry::events;

const LINE_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct WarningLog(Mutex<Vec<Lasting>>);

struct Lasting {
    reason: &'static str,
    since: Instant,
    written_at: Instant,
}

impl WarningLog {
    pub(super) fn note(&self, warnings: &[StoreWarning]) {
        let mut lasting = self.0.lock().expect("nothing panics while it holds the lock");
        let now = Instant::now();
        for warning in warnings {
            let reason = warning.as_str();
            let since = match lasting.iter_mut().find(|lasting| lasting.reason == reason) {
                None => {
                    lasting.push(Lasting { reason, since: now, written_at: now });
                    now
                }
                Some(line) if warning.is_repeated() && now - line.written_at >= LINE_EVERY => {
                    line.written_at = now;
                    line.since
                }
                Some(_) => {
                    events::store_warning_value(reason, warning.value());
                    continue;
                }
            };
            events::store_warning(reason, warning, warning.value(), (now - since).as_secs());
        }
        lasting.retain(|line| {
            let lasts = warnings.iter().any(|warning| warning.as_str() == line.reason);
            if !lasts {
                events::store_warning_over(line.reason, (now - line.since).as_secs());
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
        log.note(&both[1..]);
        assert_eq!(lines(&log), [("cluster_node", began)], "over");
        log.note(&both);
        assert_eq!(lines(&log)[1], ("sentinels_silent", Instant::now()), "it begins anew");
    }
}
