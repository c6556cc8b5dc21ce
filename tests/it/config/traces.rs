//! Settings of traces.

use std::time::Duration;

use otpost::config::{Role, Traces};
use secrecy::ExposeSecret as _;

use super::{Pairs, expect, expect_faults, production, with};

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

fn traces(more: &[(&str, &str)]) -> Option<Traces> {
    expect(Role::Worker, &with(with(production(), &[ENDPOINT]), more)).traces
}

#[test]
fn traces_are_off_without_an_endpoint_where_they_are_disabled_and_for_commands() {
    assert!(expect(Role::Worker, &production()).traces.is_none());
    assert!(traces(&[("OTEL_SDK_DISABLED", "true")]).is_none());
    assert!(traces(&[("OTEL_TRACES_EXPORTER", "none")]).is_none());
    let of_others = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_SAMPLER", "xray")];
    let settings = expect(Role::Worker, &with(production(), &of_others));
    assert!(settings.traces.is_none() && settings.notices.is_empty(), "{:?}", settings.notices);
    assert!(expect(Role::Store, &with(production(), &[ENDPOINT])).traces.is_none());
}

#[test]
fn an_endpoint_alone_has_the_defaults() {
    let traces = traces(&[]).expect("on");
    assert_eq!(traces.url, "http://collector:4318/v1/traces");
    assert_eq!((traces.follows_publisher, traces.ratio, traces.joins_publisher), (true, 0.01, false));
    assert_eq!((traces.timeout, traces.headers.len()), (Duration::from_secs(10), 0));
    assert_eq!(traces.resource[0], ("service.name".to_owned(), "otpost".to_owned()));
}

#[test]
fn the_endpoint_of_traces_is_taken_as_it_is() {
    let url = |more: &[(&str, &str)]| traces(more).expect("on").url;
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in");
    assert_eq!(url(&[own]), "https://traces.example/in");
    assert_eq!(url(&[own, ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), "https://traces.example/in");
    let with_path = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://example/otlp/");
    assert_eq!(url(&[with_path]), "https://example/otlp/v1/traces");
}

#[test]
fn a_variable_of_traces_comes_before_the_general_one() {
    let general = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=general"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let own = [
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=own"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ];
    assert!(traces(&general).is_none(), "gRPC");
    let traces = traces(&[&general[..], &own[..]].concat()).expect("on");
    let headers: Vec<_> =
        traces.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(headers, [("x-key", "own")]);
    assert_eq!(traces.timeout, Duration::from_secs(3));
    let certificates = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/general.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere/own.pem"),
    ];
    let settings = with(with(production(), &general[..1]), &certificates);
    expect_faults(Role::Worker, &settings, &["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"]);
}

/// As OpenTelemetry asks: a variable that all programs of a platform share stops none of them.
#[test]
fn a_word_that_is_not_known_is_ignored_with_a_notice() {
    for (name, value) in [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
    ] {
        let settings = expect(Role::Worker, &with(with(production(), &[ENDPOINT]), &[(name, value)]));
        let traces = settings.traces.expect("on");
        assert_eq!((traces.follows_publisher, traces.ratio), (true, 0.01), "{name}");
        let [notice] = &settings.notices[..] else { panic!("{name}: {:?}", settings.notices) };
        assert!(
            notice.starts_with(&format!("{name} is ignored, and is ")) && !notice.contains(value),
            "{notice}"
        );
    }
}

#[test]
fn over_grpc_traces_are_off_with_a_notice() {
    for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
        let settings = expect(Role::Worker, &with(with(production(), &[ENDPOINT]), &[(name, "grpc")]));
        assert!(settings.traces.is_none());
        let [notice] = &settings.notices[..] else { panic!("{:?}", settings.notices) };
        assert!(notice.starts_with(&format!("{name} is grpc, so traces are off")), "{notice}");
    }
}

#[test]
fn an_exporter_among_those_of_other_programs_is_enough() {
    assert!(traces(&[("OTEL_TRACES_EXPORTER", "console, otlp")]).is_some());
}

#[test]
fn samplers_have_the_names_of_the_specification() {
    for (name, argument, expected) in [
        ("always_on", "", (false, 1.0)),
        ("always_off", "", (false, 0.0)),
        ("traceidratio", "0.5", (false, 0.5)),
        ("parentbased_always_on", "", (true, 1.0)),
        ("parentbased_always_off", "nonsense", (true, 0.0)),
        ("parentbased_traceidratio", "1", (true, 1.0)),
    ] {
        let traces = traces(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
        let traces = traces.expect("on");
        assert_eq!((traces.follows_publisher, traces.ratio), expected, "{name}");
    }
}

#[test]
fn headers_and_attributes_are_lists_of_decoded_pairs() {
    let traces = traces(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2, x-scope=a=b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,host.name=a%2Cb"),
        ("OTEL_SERVICE_NAME", "codes"),
    ]);
    let traces = traces.expect("on");
    let headers: Vec<_> =
        traces.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(headers, [("authorization", "Bearer hunter2"), ("x-scope", "a=b")]);
    let has = |name: &str, value: &str| traces.resource.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("service.name", "codes") && has("host.name", "a,b") && !has("service.name", "other"));
}

#[test]
fn every_other_value_is_a_fault_that_shows_no_value() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://hunter2@collector"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector/?key=hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_RESOURCE_ATTRIBUTES", "hunter2"),
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("TRACES_PUBLISHER", "both"),
    ] {
        let settings: Pairs<'_> = with(with(production(), &[ENDPOINT]), &[(name, value)]);
        let text = expect_faults(Role::Worker, &settings, &[name]);
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_secret_over_plain_http_and_a_misspelt_variable_cause_notices() {
    let notices =
        |more: &[(&str, &str)]| expect(Role::Worker, &with(with(production(), &[ENDPOINT]), more)).notices;
    let plain = notices(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2")]);
    assert!(plain[0].starts_with("OTEL_EXPORTER_OTLP_HEADERS is sent over plain HTTP"), "{plain:?}");
    assert!(notices(&[("OTEL_METRICS_EXPORTER", "none")]).is_empty());
    let misspelt = notices(&[("OTEL_TRACES_SAMPLER_ARGS", "1")]);
    assert!(misspelt[0].starts_with("OTEL_TRACES_SAMPLER_ARGS is set, but is no setting"), "{misspelt:?}");
}
