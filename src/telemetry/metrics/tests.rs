//! Compares the metrics with `docs/metrics.md`, and bounds their number.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::channel::Channel;
use crate::domain::outcome::Status;
use crate::domain::reached_limit::ReachedLimit;

/// The type and the label names of a metric.
type Listed = BTreeMap<String, (String, BTreeSet<String>)>;

fn add_http(metrics: &Metrics, routes: usize) {
    let measured = routes.saturating_sub(words::CONSTANT_ROUTES.len()).max(1);
    for n in 0..routes {
        let route = format!("/{n}");
        let statuses = if n < measured { &[200, 401, 422, 429, 503][..] } else { &[200, 405] };
        if n < measured {
            let label = RouteLabel { route: route.clone() };
            observe(&metrics.http_request_duration.get_or_create(&label), Duration::ZERO);
        }
        for &status in statuses {
            create(&metrics.http_requests, &HttpLabels { route: route.clone(), status });
        }
    }
}

/// A process that has met everything, with these providers and HTTP routes.
fn worst_case(providers: &[&'static str], routes: usize) -> Metrics {
    let metrics = Metrics::new();
    for channel in Channel::ALL.map(Channel::as_str) {
        let label = ChannelLabel { channel };
        for (status, reasons) in words::REASONS {
            let status = status.as_str();
            for &reason in reasons {
                for replayed in ["true", "false"] {
                    create(&metrics.requests, &RequestLabels { channel, status, reason, replayed });
                }
            }
            observe(
                &metrics.request_duration.get_or_create(&ChannelStatus { channel, status }),
                Duration::ZERO,
            );
        }
        observe(&metrics.request_queue_time.get_or_create(&label), Duration::ZERO);
        for gauge in [&metrics.concurrency_limit, &metrics.concurrency_in_use, &metrics.prefetch] {
            create(gauge, &label);
        }
    }
    for n in 0..=countries::COUNTRIES_MAX {
        let letter = |n: usize| b'A' + u8::try_from(n).expect("a letter");
        let code = countries::Country::Code([letter(n / 26), letter(n % 26)]);
        for country in [code, countries::Country::Other, countries::Country::Unknown] {
            for status in
                [Status::Sent, Status::Rejected, Status::Failed, Status::Unknown].map(Status::as_str)
            {
                if n < countries::COUNTRIES_MAX {
                    create(&metrics.requests_by_country, &CountryLabels { country, status });
                }
            }
        }
    }
    for &provider in providers {
        metrics.create_series_of_provider(provider);
        for result in words::ANSWERS {
            let labels = ProviderResult { provider, result };
            observe(&metrics.provider_request_duration.get_or_create(&labels), Duration::ZERO);
        }
    }
    for operation in words::OPERATIONS {
        let label = OperationLabel { operation };
        observe(&metrics.store_operation_duration.get_or_create(&label), Duration::ZERO);
    }
    for role in words::ROLES {
        let channels = if role == "requests" { &["sms", "email"][..] } else { &[""] };
        for &channel in channels {
            let label = RoleLabel { role, channel };
            create(&metrics.broker_connected, &label);
            create(&metrics.broker_connections_lost, &label);
            create(&metrics.broker_reconnects, &label);
        }
        create(&metrics.broker_blocked, &BlockedLabel { role });
    }
    add_http(&metrics, routes);
    for r#use in ["code", "recipient"] {
        let (kid, fingerprint) = ("k1".to_owned(), "0123456789abcdef".to_owned());
        create(&metrics.key_info, &KeyLabels { r#use, kid, fingerprint });
        create(&metrics.key_mismatch, &KeyUseLabel { r#use });
    }
    for queue in words::QUEUES {
        queues::queue_read(queue, 1, 1);
    }
    metrics
}

fn samples(rendered: &str) -> impl Iterator<Item = &str> {
    rendered.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn a_process_has_at_most_1500_series() {
    // The paths of the API, three webhooks, and `(none)`.
    let paths = include_str!("../../http/router.rs").matches(".route(\"").count() + 4;
    let fresh = samples(&Metrics::new().render()).count();
    let worst = samples(&worst_case(&["twilio", "sendgrid"], paths).render()).count();
    assert!(fresh < worst && worst <= 1_500, "{fresh} at the start, {worst} in the worst case");
}

#[test]
fn what_can_alert_exists_at_zero_from_the_start() {
    let metrics = Metrics::new();
    metrics.create_series_of_provider("twilio");
    let rendered = metrics.render();
    for series in [
        "otpost_requests_total{channel=\"sms\",status=\"failed\",reason=\"provider_misconfigured\",replayed=\"false\"}",
        "otpost_dead_lettered_total{reason=\"crash\"}",
        "otpost_handler_panics_total",
        "otpost_sending_paused{channel=\"email\",reason=\"kill_switch\"}",
        "otpost_circuit_breaker_open{channel=\"sms\"}",
        "otpost_provider_refusals_total{provider=\"twilio\",code=\"20003\"}",
        "otpost_delivery_reports_total{status=\"undelivered\",result=\"news\"}",
        "otpost_delivery_report_codes_total{code=\"30003\"}",
        "otpost_limit_refusals_total{channel=\"sms\",limit=\"all\"}",
        "otpost_verifications_total{verdict=\"key_unavailable\"}",
        "otpost_store_operation_errors_total{operation=\"admit\"}",
        "otpost_store_unavailable_total{reason=\"out_of_memory\"}",
        "otpost_in_doubt_resolutions_total{result=\"unknown\"}",
    ] {
        assert!(samples(&rendered).any(|line| line.strip_prefix(series) == Some(" 0")), "{series}");
    }
    assert!(rendered.contains("otpost_build_info{version=\"") && rendered.ends_with("# EOF\n"));
}

/// Every sample as metric, label and value.
fn values(text: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut values: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (name, labels) in samples(text).filter_map(|line| line.split_once('{')) {
        let labels = labels.rsplit_once('}').expect("it ends").0;
        for (label, value) in labels.split("\",").filter_map(|pair| pair.split_once("=\"")) {
            let name =
                ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            let value = value.trim_end_matches('"').to_owned();
            values.entry((name.to_owned(), label.to_owned())).or_default().insert(value);
        }
    }
    values.retain(|(_, label), _| label != "le");
    values
}

fn rendered_metrics(text: &str) -> Listed {
    let mut listed = Listed::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        listed.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
    }
    for (name, label) in values(text).into_keys() {
        listed.get_mut(&name).expect("a metric with a type").1.insert(label);
    }
    listed
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    std::fs::read_to_string(path).expect("a file of text")
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the nth table.
fn rows(page: &str, table: usize) -> Vec<Vec<String>> {
    let section = page.split("\n## ").nth(table).expect("a section");
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn the_documentation_lists_every_metric_and_no_other() {
    let text = Format::Text.of(worst_case(&words::PROVIDERS, 1).render());
    let documented: Listed = rows(&page(), 0)
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), (row[1].clone(), quoted(&row[2]))))
        .collect();
    let of_linux = |name: &String| !name.starts_with("process_") || cfg!(target_os = "linux");
    let documented: Listed = documented.into_iter().filter(|(name, _)| of_linux(name)).collect();
    assert_eq!(rendered_metrics(&text), documented);
}

#[test]
fn the_documentation_lists_the_values_of_every_label() {
    let rendered = values(&Format::Text.of(worst_case(&words::PROVIDERS, 1).render()));
    let mut documented = BTreeSet::new();
    for row in rows(&page(), 1) {
        for label in quoted(&row[0]) {
            for metric in quoted(&row[1]) {
                let key = (format!("otpost_{metric}"), label.clone());
                let in_code = rendered.get(&key).unwrap_or_else(|| panic!("{key:?} is in no metric"));
                // Other values are described.
                if row[2].starts_with('`') || label == "code" && metric == "provider_refusals_total" {
                    assert_eq!(&quoted(&row[2]), in_code, "{key:?}");
                }
                assert!(documented.insert(key), "twice: {metric}, {label}");
            }
        }
    }
    assert_eq!(rendered.into_keys().collect::<BTreeSet<_>>(), documented);
}

#[test]
fn every_limit_has_a_series() {
    let rendered = Metrics::new().render();
    assert_eq!(
        rendered.matches("otpost_limit_refusals_total{channel=\"sms\"").count(),
        ReachedLimit::ALL.len()
    );
}

#[test]
fn the_process_has_its_own_metrics() {
    let text = Format::Text.of(Metrics::new().render());
    if cfg!(target_os = "linux") {
        let value = |name: &str| {
            let line = samples(&text).find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse::<f64>().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}

/// The literals of the steps in the sources of the store.
#[test]
fn every_operation_of_the_store_has_a_series() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/redis");
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let sources: String = files
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| std::fs::read_to_string(path).expect("a file of text"))
        .collect();
    let calls = sources.split("self.run(").chain(sources.split("self.run_unwatched(")).skip(1);
    let named: BTreeSet<&str> = calls
        .filter_map(|call| call.trim_start().strip_prefix('"')?.split_once('"'))
        .map(|(operation, _)| operation)
        .collect();
    let listed = BTreeSet::from(words::OPERATIONS);
    assert!(named.len() > 20, "{named:?}");
    assert_eq!(named.difference(&listed).copied().collect::<Vec<_>>(), [""; 0]);
    let is_used = |operation: &&str| sources.contains(&format!("\"{operation}\""));
    assert_eq!(listed.into_iter().filter(|operation| !is_used(operation)).collect::<Vec<_>>(), [""; 0]);
}
