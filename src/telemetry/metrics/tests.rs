//! Compares the metrics with `docs/metrics.md`, and bounds their number.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::channel::Channel;
use crate::domain::failover_reason::FailoverReason;
use crate::domain::outcome::Status;
use crate::domain::reached_limit::ReachedLimit;

/// The type and the label names of a metric.
type Listed = BTreeMap<String, (String, BTreeSet<String>)>;

fn add_http(metrics: &Metrics, routes: usize) {
    let measured = routes.saturating_sub(words::CONSTANT_ROUTES.len()).max(1);
    for n in 0..routes {
        let route = format!("/{n}");
        if n < measured {
            let label = RouteLabel { route: route.clone() };
            observe(&metrics.http_request_duration.get_or_create(&label), Duration::ZERO);
        }
        for status in (100..600).map(words::http_status) {
            create(&metrics.http_requests, &HttpLabels { route: route.clone(), status });
        }
    }
}

/// Of the countries that have series.
fn create_conversion(metrics: &Metrics) {
    for family in [&metrics.conversion_sent, &metrics.conversion_verified] {
        let letter = |n: usize| b'A' + u8::try_from(n).expect("a letter");
        let codes = (0..countries::COUNTRIES_MAX).map(|n| [letter(n / 26), letter(n % 26)]);
        let countries = codes.map(countries::Country::Code);
        for country in countries.chain([countries::Country::Other, countries::Country::Unknown]) {
            create(family, &ChannelCountry { channel: "sms", country });
        }
        create(family, &ChannelCountry { channel: "email", country: countries::Country::Unknown });
    }
}

fn create_providers(metrics: &Metrics, providers: &[&'static str]) {
    for &provider in providers {
        let channel = if matches!(provider, "sendgrid" | "smtp") { Channel::Email } else { Channel::Sms };
        metrics.create_series_of_provider(channel, provider);
        for gauge in [&metrics.concurrency_limit, &metrics.concurrency_in_use] {
            create(gauge, &ChannelProvider { channel: channel.as_str(), provider });
        }
        let to = providers[0];
        for reason in FailoverReason::ALL.map(FailoverReason::as_str) {
            create(&metrics.senders.failovers, &FailoverLabels { from: provider, to, reason });
        }
        for result in words::ANSWERS {
            let labels = ProviderResult { provider, result };
            observe(&metrics.provider_request_duration.get_or_create(&labels), Duration::ZERO);
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
        create(&metrics.prefetch, &label);
        create(&metrics.sends_per_hour_max, &label);
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
    create_conversion(&metrics);
    create_providers(&metrics, providers);
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
fn a_worker_has_at_most_1500_series_and_a_process_that_is_both_2200() {
    // The paths of the API, three webhooks, and `(none)`, also for the console's paths.
    let routes = include_str!("../../http/router.rs").split(".route(").skip(1).map(str::trim_start);
    let is_measured = |route: &&str| !route.starts_with("\"/api/v1/ops/");
    let paths = routes.filter(is_measured).count() + 4;
    let fresh = samples(&Metrics::new().render()).count();
    let providers = ["twilio", "sendgrid"];
    let [worker, both] = [0, paths].map(|paths| samples(&worst_case(&providers, paths).render()).count());
    assert!(
        fresh < worker && worker <= 1_500 && both <= 2_200,
        "{fresh} at the start; in the worst case {worker} of a worker, {both} of both"
    );
}

/// A process of both roles that has just started.
fn at_the_start() -> Metrics {
    let metrics = Metrics::new();
    words::PROVIDERS.into_iter().for_each(|provider| {
        metrics.create_series_of_provider(Channel::Sms, provider);
    });
    metrics.create_series_of_route("/livez");
    metrics
}

fn alert_rules() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/prometheus/rules.yml");
    std::fs::read_to_string(path).expect("a file of text")
}

/// The series whose growth an alert reads, each with its matchers of one value.
fn growing_series(rules: &str) -> BTreeSet<(String, Vec<String>)> {
    let calls = rules.split("increase(").chain(rules.split("rate(")).skip(1);
    let series = calls.filter_map(|call| call.strip_prefix("otpost_").and_then(|call| call.split_once('[')));
    let read = |series: &str| {
        let (name, matchers) = series.split_once('{').unwrap_or((series, ""));
        let exact = matchers
            .trim_end_matches('}')
            .split("\",")
            .filter(|matcher| matcher.contains("=\"") && !matcher.contains("!="));
        let exact = exact.map(|matcher| format!("{}\"", matcher.trim_end_matches('"'))).collect();
        (format!("otpost_{name}"), exact)
    };
    series.map(|(series, _)| read(series)).collect()
}

#[test]
fn what_an_alert_reads_exists_at_zero_from_the_start() {
    // Their growth from nothing is none, and rightly so: a histogram that steps of the store fill at once, and connections
    // that were opened once.
    let later = ["otpost_store_operation_duration_seconds_bucket", "otpost_broker_reconnects_total"];
    let rendered = Format::Text.of(at_the_start().render());
    let read = growing_series(&alert_rules());
    assert!(read.len() > 30, "{read:?}");
    for (name, matchers) in read.iter().filter(|(name, _)| !later.contains(&name.as_str())) {
        let is_it = |line: &str| {
            let rest = line.strip_prefix(name.as_str()).filter(|rest| rest.starts_with(['{', ' ']));
            rest.is_some_and(|rest| {
                // Of a counter of amounts the zero has a decimal.
                let is_zero = rest.ends_with(" 0") || rest.ends_with(" 0.0");
                is_zero && matchers.iter().all(|matcher| rest.contains(matcher))
            })
        };
        assert!(samples(&rendered).any(is_it), "{name} {matchers:?}");
    }
}

/// An alert that compares with more than its last bucket never fires.
#[test]
fn the_tests_of_alerts_know_the_buckets() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/prometheus/rules_test.yml");
    let tests = std::fs::read_to_string(path).expect("a file of text");
    let rendered = Format::Text.of(worst_case(&words::PROVIDERS, 1).render());
    let buckets = |text: &str| -> BTreeSet<(String, String)> {
        let series = text.split("otpost_").skip(1).filter_map(|part| part.split_once("_bucket{"));
        series
            .filter(|(name, _)| {
                name.chars().all(|character| character.is_ascii_lowercase() || character == '_')
            })
            .filter_map(|(name, labels)| {
                let (le, _) = labels.split_once("le=\"")?.1.split_once('"')?;
                Some((name.to_owned(), le.trim_end_matches(".0").to_owned()))
            })
            .collect()
    };
    let (known, used) = (buckets(&rendered), buckets(&tests));
    assert!(used.len() > 6, "{used:?}");
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

/// A quantile is never above the largest bound, and a guess between two bounds.
#[test]
fn an_alert_on_a_quantile_begins_at_a_bound_below_the_largest() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/prometheus/rules.yml");
    let rules = std::fs::read_to_string(path).expect("a file of text");
    let rendered = worst_case(&["twilio"], 1).render();
    let quantiles = rules.lines().filter(|line| line.contains("histogram_quantile("));
    let mut count = 0;
    for line in quantiles {
        let (_, series) = line.split_once("rate(").expect("a rate");
        let (series, _) = series.split_once('[').expect("a range");
        let (_, threshold) = line.rsplit_once("> ").expect("a threshold");
        let threshold: f64 = threshold.parse().expect("a number");
        let of_series = samples(&rendered).filter(|line| line.starts_with(&format!("{series}{{")));
        let bound = |line: &str| line.split_once("le=\"")?.1.split_once('"')?.0.parse::<f64>().ok();
        let bounds: Vec<f64> = of_series.filter_map(bound).filter(|bound| bound.is_finite()).collect();
        assert!(bounds.contains(&threshold), "{line}: {threshold} is no bound of {bounds:?}");
        assert!(bounds.iter().any(|bound| *bound > threshold), "{line}: it can never fire");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn what_can_alert_exists_at_zero_from_the_start() {
    let metrics = Metrics::new();
    metrics.create_series_of_provider(Channel::Sms, "twilio");
    let rendered = metrics.render();
    for series in [
        "otpost_requests_total{channel=\"sms\",status=\"failed\",reason=\"provider_misconfigured\",replayed=\"false\"}",
        "otpost_dead_lettered_total{reason=\"crash\"}",
        "otpost_handler_panics_total",
        "otpost_sending_paused{channel=\"email\",reason=\"kill_switch\"}",
        "otpost_circuit_breaker_open{channel=\"sms\",provider=\"twilio\",reason=\"provider_misconfigured\"}",
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
