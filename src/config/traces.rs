//! Reads the settings of traces: the standard variables of OpenTelemetry, as far as they concern the export of traces by
//! OTLP over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use super::collector::Traces;
use super::reader::Reader;
use super::validators::{is_loopback, parts};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const TRACES_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const HTTP_PROTOBUF: &str = "http/protobuf";
const GRPC: &str = "grpc";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE_NAME: &str = "service.name";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

impl Reader<'_> {
    /// `None` without an endpoint, where they are disabled, over gRPC, or for a command.
    pub(super) fn traces(&mut self) -> Option<Traces> {
        let (errors, notices) = (self.errors.len(), self.notices.len());
        let disabled = self.boolean("OTEL_SDK_DISABLED", false) || !self.exports_traces();
        let url = self.collector();
        let (headers_name, headers) = self.collector_headers();
        let protocol = self.collector_protocol();
        let timeout = self.collector_timeout();
        let (ca_setting, ca_file) = self.collector_certificate();
        let resource = self.resource();
        let (follows_publisher, ratio) = self.sampler();
        let joins_publisher = self.choice("TRACES_PUBLISHER", "link", &["link", "parent"]) == "parent";
        let has_endpoint = self.is_given(ENDPOINT) || self.is_given(TRACES_ENDPOINT);
        if disabled || !has_endpoint || !self.needs("TRACES") {
            // Deployments set these variables for all their programs.
            self.errors.truncate(errors);
            self.notices.truncate(notices);
            return None;
        }
        if protocol == GRPC {
            self.errors.truncate(errors);
            return None;
        }
        let url = url?;
        let ca_file = self.certificate_for(&url, ca_setting, ca_file);
        let is_plain = url.strip_prefix("http://").is_some_and(|rest| !is_loopback(rest));
        if is_plain && !headers.is_empty() {
            let plain =
                "is sent over plain HTTP, where the network can read it: begin the endpoint with https";
            self.notices.push(format!("{headers_name} {plain}"));
        }
        Some(Traces {
            url,
            headers,
            timeout,
            ca_file,
            ca_setting,
            resource,
            follows_publisher,
            ratio,
            joins_publisher,
        })
    }

    /// A value that is not known is ignored with a notice, as the specification asks: other programs may know it.
    fn known_choice(&mut self, name: &'static str, default: &str, known: &[&str]) -> String {
        let text = self.text(name, default);
        if known.contains(&text.as_str()) {
            return text;
        }
        let known = known.join(", ");
        self.notices.push(format!("{name} is ignored, and is {default}: it must be one of {known}"));
        default.to_owned()
    }

    /// A list may name exporters of other programs beside ours.
    fn exports_traces(&mut self) -> bool {
        const NAME: &str = "OTEL_TRACES_EXPORTER";
        let names_ours = self.raw.get(NAME).is_some_and(|text| parts(text).any(|part| part == "otlp"));
        if names_ours {
            self.text(NAME, "otlp");
            return true;
        }
        self.known_choice(NAME, "otlp", &["otlp", "none"]) == "otlp"
    }

    fn collector_protocol(&mut self) -> String {
        let known = [HTTP_PROTOBUF, GRPC];
        let general = self.known_choice(PROTOCOL, HTTP_PROTOBUF, &known);
        let protocol = self.known_choice(TRACES_PROTOCOL, &general, &known);
        if protocol == GRPC {
            let name = if self.is_given(TRACES_PROTOCOL) { TRACES_PROTOCOL } else { PROTOCOL };
            self.notices.push(format!(
                "{name} is {GRPC}, so traces are off: otpost exports by {HTTP_PROTOBUF} alone"
            ));
        }
        protocol
    }

    fn collector_timeout(&mut self) -> Duration {
        let general = self.number("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000, 100, 60_000);
        Duration::from_millis(self.number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", general, 100, 60_000))
    }

    /// The file, and the variable that names it.
    fn collector_certificate(&mut self) -> (&'static str, Option<PathBuf>) {
        let general = self.text(CERTIFICATE, "");
        let path = self.text(TRACES_CERTIFICATE, &general);
        let name = if self.is_given(TRACES_CERTIFICATE) { TRACES_CERTIFICATE } else { CERTIFICATE };
        (name, Some(path).filter(|path| !path.is_empty()).map(PathBuf::from))
    }

    /// The URL for traces as it is, or the base URL with the path of traces.
    fn collector(&mut self) -> Option<String> {
        let base =
            self.collector_url(ENDPOINT).map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        self.collector_url(TRACES_ENDPOINT).or(base)
    }

    fn collector_url(&mut self, name: &'static str) -> Option<String> {
        let text = Some(self.text(name, "")).filter(|text| !text.is_empty())?;
        let is_bare = |url: &Url| {
            url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && is_bare(&url) => Some(text),
            _ => {
                let rule = "must begin with http:// or https:// and have no user, query or fragment; credentials \
                            belong in OTEL_EXPORTER_OTLP_HEADERS";
                self.error(name, rule);
                None
            }
        }
    }

    /// The headers, and the variable that has them: that of traces, or else the general one.
    fn collector_headers(&mut self) -> (&'static str, Vec<(String, SecretString)>) {
        let general = self.headers_of(HEADERS);
        match self.headers_of(TRACES_HEADERS) {
            Some(headers) => (TRACES_HEADERS, headers),
            None => (HEADERS, general.unwrap_or_default()),
        }
    }

    fn headers_of(&mut self, name: &'static str) -> Option<Vec<(String, SecretString)>> {
        let text = self.secret(name)?;
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let header = |part| {
            let (name, value) = pair(part)?;
            let is_value = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            (is_name(&name) && is_value).then(|| (name, SecretString::from(value)))
        };
        let headers: Option<Vec<_>> = parts(&text).map(header).collect();
        if headers.is_none() {
            let rule = "must be a comma list of name=value, percent-encoded, of ASCII characters";
            self.error(name, rule);
        }
        headers
    }

    fn certificate_for(&mut self, url: &str, name: &str, file: Option<PathBuf>) -> Option<PathBuf> {
        if file.is_some() && url.starts_with("http://") {
            self.error(name, "has no effect without TLS: begin the endpoint with https, or unset it");
            return None;
        }
        file
    }

    /// `OTEL_SERVICE_NAME` comes before a name among the attributes.
    fn resource(&mut self) -> Vec<(String, String)> {
        let name = self.text("OTEL_SERVICE_NAME", "");
        let text = self.text(RESOURCE, "");
        let attributes: Option<Vec<_>> = parts(&text).map(pair).collect();
        if attributes.is_none() {
            self.error(RESOURCE, "must be a comma list of name=value, percent-encoded");
        }
        let mut attributes = attributes.unwrap_or_default();
        if !name.is_empty() {
            attributes.retain(|(known, _)| known != SERVICE_NAME);
            attributes.push((SERVICE_NAME.to_owned(), name));
        } else if attributes.iter().all(|(known, _)| known != SERVICE_NAME) {
            attributes.push((SERVICE_NAME.to_owned(), "otpost".to_owned()));
        }
        attributes.push(("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        attributes
    }

    fn sampler(&mut self) -> (bool, f64) {
        const DEFAULT: f64 = 0.01;
        let name = self.known_choice(SAMPLER, "parentbased_traceidratio", &SAMPLERS);
        let text = self.text(SAMPLER_ARG, "0.01");
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        let takes_ratio = name.ends_with("traceidratio");
        if ratio.is_none() && takes_ratio {
            self.notices
                .push(format!("{SAMPLER_ARG} is ignored, and is {DEFAULT}: it must be a number from 0 to 1"));
        }
        let ratio = match name.strip_prefix("parentbased_").unwrap_or(&name) {
            "always_on" => 1.0,
            "always_off" => 0.0,
            _ => ratio.unwrap_or(DEFAULT),
        };
        (name.starts_with("parentbased_"), ratio)
    }
}

/// `name=value`, percent-decoded.
fn pair(part: &str) -> Option<(String, String)> {
    let (name, value) = part.split_once('=')?;
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
    Some((decoded(name)?, decoded(value)?)).filter(|(name, _)| !name.is_empty())
}
