//! The two text formats, and the choice between them by the header `Accept`.
//!
//! The older one, version 0.0.4, has no end mark and no units, and names a counter's family as its samples.

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// `text/plain`, version 0.0.4.
    Text,
}

impl Format {
    /// The format that a client prefers; text, unless it asks for OpenMetrics.
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.into_iter().flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.trim().parse::<f32>().unwrap_or(0.0));
            match kind.as_str() {
                "application/openmetrics-text" => open_metrics = quality.max(open_metrics),
                "text/plain" => text = quality.max(text),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Rewrites what `render` made.
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Format::OpenMetrics => open_metrics,
            Format::Text => as_text(&open_metrics),
        }
    }
}

fn as_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(named) = line.strip_prefix("# HELP ") {
            help = named.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|named| named.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take().filter(|(helped, _)| *helped == name) {
                text.extend(["# HELP ", name, suffix, " ", words, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            continue;
        }
        text.extend([line, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_openmetrics_only_if_it_asks_for_it() {
        // As Prometheus 2 and 3 ask.
        let both = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [both, "application/openmetrics-text", "Application/OpenMetrics-Text; q=1, text/plain"]
        {
            assert_eq!(Format::accepted([accept]), Format::OpenMetrics, "{accept}");
        }
        assert_eq!(Format::accepted([]), Format::Text);
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html, text/plain;q=0.9",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.9",
            "application/openmetrics-text;q=high",
        ] {
            assert_eq!(Format::accepted([accept]), Format::Text, "{accept}");
        }
    }

    #[test]
    fn the_text_format_names_counters_whole_and_has_no_units_and_no_end() {
        let open_metrics = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                            a_seconds_count 1\n# HELP b Things.\n# TYPE b counter\nb_total{x=\"# EOF\"} 2\n# EOF\n";
        let text = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_count 1\n\
                    # HELP b_total Things.\n# TYPE b_total counter\nb_total{x=\"# EOF\"} 2\n";
        assert_eq!(Format::Text.of(open_metrics.to_owned()), text);
        assert_eq!(Format::OpenMetrics.of(open_metrics.to_owned()), open_metrics);
    }
}
