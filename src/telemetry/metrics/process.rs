//! Metrics of the process, under the names that every program uses. Linux has them in `/proc`; elsewhere there are none.

use std::fmt;
use std::fs::{read_dir, read_to_string};
use std::sync::LazyLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Linux counts times of processes in hundredths of a second for all programs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put =
            |name: &str, help: &str, unit: Option<&Unit>, metric: Option<&dyn EncodeMetric>| match metric {
                Some(metric) => {
                    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
                }
                None => Ok(()),
            };
        let stat = read_to_string("/proc/self/stat").ok();
        let cpu = stat.as_deref().and_then(cpu_seconds).map(ConstCounter::new);
        let memory = read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes);
        let (memory, open) = (memory.map(ConstGauge::new), open_descriptors().map(ConstGauge::new));
        let max = read_to_string("/proc/self/limits").ok().as_deref().and_then(descriptors_max);
        let (max, started) = (max.map(ConstGauge::new), STARTED.map(ConstGauge::new));
        put("process_cpu", "CPU time used.", Some(&Unit::Seconds), cpu.as_ref().map(as_metric))?;
        put("process_resident_memory", "Memory in use.", Some(&Unit::Bytes), memory.as_ref().map(as_metric))?;
        put("process_open_fds", "Open file descriptors.", None, open.as_ref().map(as_metric))?;
        put("process_max_fds", "File descriptors that may be open.", None, max.as_ref().map(as_metric))?;
        put(
            "process_start_time",
            "Start of the process (Unix time).",
            Some(&Unit::Seconds),
            started.as_ref().map(as_metric),
        )
    }
}

fn as_metric(metric: &impl EncodeMetric) -> &dyn EncodeMetric {
    metric
}

/// The words of `/proc/self/stat` after the name of the program, which may hold spaces: the first is the third of the file.
fn stat_words(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().collect())
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    let words = stat_words(stat)?;
    let ticks = |nth: usize| words.get(nth - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
}

/// Read once: a value that changes would look like a restart.
static STARTED: LazyLock<Option<f64>> = LazyLock::new(|| {
    let ticks = stat_words(&read_to_string("/proc/self/stat").ok()?)?.get(22 - 3)?.parse::<f64>().ok()?;
    let system = read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(booted + ticks / TICKS_PER_SECOND)
});

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn open_descriptors() -> Option<i64> {
    // The reading itself has one open.
    i64::try_from(read_dir("/proc/self/fd").ok()?.count()).ok()?.checked_sub(1)
}

/// The soft limit; none if it is unlimited.
fn descriptors_max(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_behind_the_name_of_the_program() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 1234 4096 8 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_words(stat).expect("it has a name")[22 - 3], "1234");
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        let limits =
            "Max processes  10  10  processes\nMax open files            1024                 4096   files\n";
        assert_eq!(descriptors_max(limits), Some(1024));
    }
}
