"""The dashboards as tables. `ops/generate.py` writes their JSON.

A panel: title, kind, unit, width of 24, description, and its queries as pairs of expression and legend. `{}` in an expression stands for the
labels that the dashboard's variables select; `[r]` stands for Grafana's interval of a rate.
"""

STAT, LINES, STACK, STATES, TABLE = "stat", "lines", "stack", "states", "table"

# Thresholds: from this value on, orange and red.
SOME = (1, None)
ANY = (None, 1)


def share(of, among, legend, by=None):
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({of}[r])) / sum{grouped} (rate({among}[r]))", legend


def quantiles(metric, labels="", by=""):
    return [
        (f"histogram_quantile({q}, sum by ({by}le) (rate({metric}_bucket{{{labels}}}[r])))", legend)
        for q, legend in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
    ]


def share_of_hour(offset, legend):
    verified, sent = (f"sum(increase(otpost_conversion_{kind}_total{{}}[1h]{offset}))" for kind in ("verified", "sent"))
    return f"{verified} / {sent}", legend


def rate(metric, by, labels=""):
    return f"sum by ({by}) (rate({metric}{{{labels}}}[r]))", "{{" + by.replace(", ", "}} {{") + "}}"


OVERVIEW = [
    ("Now", [
        ("Alerts", STAT, "short", 4, "Alerts of otpost that fire now: docs/runbook.md has an entry for each.",
         [('count(ALERTS{alertname=~"Otpost.*",alertstate="firing"}) or vector(0)', "")], ANY),
        ("Sent", STAT, "reqps", 4, "Messages that the provider accepted, in a second.",
         [('sum(rate(otpost_requests_total{status="sent",replayed="false"}[r]))', "")]),
        ("Failed", STAT, "percentunit", 4, "Share of the requests that were tried and surely not sent.",
         [share('otpost_requests_total{status="failed",replayed="false"}', 'otpost_requests_total{status=~"sent|failed|unknown",replayed="false"}', "")],
         (0.02, 0.1)),
        ("In doubt", STAT, "percentunit", 4, "Share of the requests that ended as unknown: they may have been sent.",
         [share('otpost_requests_total{status="unknown",replayed="false"}', 'otpost_requests_total{status=~"sent|failed|unknown",replayed="false"}', "")],
         (0.002, 0.005)),
        ("Waiting", STAT, "short", 4, "Requests in RabbitMQ that no worker has taken.",
         [('sum(max by (namespace, queue) (otpost_queue_messages{queue=~"sms|email"}))', "")], (100, 1000)),
        ("Workers", STAT, "short", 4, "Workers that give metrics.",
         [('count(otpost_concurrency_limit{channel="sms"}) or vector(0)', "")]),
    ]),
    ("Requests", [
        ("Requests ended", STACK, "reqps", 12, "By status. A repeat that sent nothing is not counted.", [rate("otpost_requests_total", "status", 'replayed="false"')]),
        ("Not sent, by reason", STACK, "reqps", 12, "Requests that ended as rejected, failed or unknown.",
         [rate("otpost_requests_total", "reason", 'status!="sent",replayed="false"')]),
        ("Queue", LINES, "short", 12, "Messages ready in RabbitMQ, as the workers see them every 10 s.",
         [("max by (queue) (otpost_queue_messages{})", "{{queue}}")]),
        ("Time in the queue", LINES, "s", 12, "From the request's time to its first delivery.", quantiles("otpost_request_queue_time_seconds")),
        ("Time in a worker", LINES, "s", 12, "From the delivery to the confirmed result.", quantiles("otpost_request_duration_seconds")),
        ("Requests in progress", LINES, "short", 12, "Deliveries in a handler, of all workers.", [("sum(otpost_requests_in_flight{})", "in progress")]),
    ]),
    ("State", [
        ("Sending paused", STATES, "short", 12, "1 while this closes the send gate of a worker.",
         [("max by (channel, reason) (otpost_sending_paused{})", "{{channel}} {{reason}}")]),
        ("Servers", STATES, "short", 12, "1 while a process has a fault of this kind.",
         [("max by (role) (1 - otpost_broker_connected{})", "RabbitMQ away: {{role}}"), ("max by (role) (otpost_broker_blocked{})", "RabbitMQ blocks: {{role}}"),
          ("max(clamp_max(sum by (instance) (rate(otpost_store_unavailable_total{}[r])), 1) > bool 0)", "Redis unavailable")]),
        ("Delivered", LINES, "percentunit", 12, "Share of the final receipts that say delivered.",
         [share('otpost_delivery_reports_total{status="delivered",result="news"}', 'otpost_delivery_reports_total{result="news"}', "delivered")]),
        ("Checks of codes", STACK, "reqps", 12, "By verdict.", [rate("otpost_verifications_total", "verdict")]),
        ("HTTP", STACK, "reqps", 12, "Answers by status.", [rate("otpost_http_requests_total", "status")]),
        ("Dead letters", LINES, "short", 12, "Messages in the queue of dead letters, and how many this hour.",
         [('max(otpost_queue_messages{queue="dead_letters"})', "in the queue"), ("sum by (reason) (increase(otpost_dead_lettered_total{}[1h])) > 0", "{{reason}}")], SOME),
    ]),
]

PROVIDER = [
    ("Calls", [
        ("Answers", STACK, "reqps", 12, "Calls that hand a message to the provider, by result.", [rate("otpost_provider_request_duration_seconds_count", "provider, result")]),
        ("Time of an answer", LINES, "s", 12, "Of all results. Above PROVIDER_TIMEOUT_SECONDS an answer is lost.",
         quantiles("otpost_provider_request_duration_seconds")),
        ("Refusals by number", STACK, "reqps", 12, "The provider's own number: docs/runbook.md#numbers-of-twilio.", [rate("otpost_provider_refusals_total", "provider, code")]),
        ("Retries", STACK, "reqps", 12, "Sends that are tried again, by the failure.", [rate("otpost_send_retries_total", "reason")]),
    ]),
    ("Gate", [
        ("Circuit breaker", STATES, "short", 12, "Number of workers whose circuit breaker is open.", [("sum by (channel, provider) (otpost_circuit_breaker_open{})", "{{channel}} by {{provider}}")]),
        ("Probes of the account", STACK, "reqps", 12, "While a circuit breaker is open.", [rate("otpost_circuit_breaker_probes_total", "provider, result")]),
        ("Concurrency", LINES, "short", 12, "Messages that may be in flight to the provider, and those that are.",
         [("sum by (channel, provider) (otpost_concurrency_limit{})", "{{channel}} by {{provider}}: limit"),
          ("sum by (channel, provider) (otpost_concurrency_in_use{})", "{{channel}} by {{provider}}: in use")]),
        ("Sends that wait", STACK, "reqps", 12, "By what closed the gate.", [rate("otpost_sends_waiting_total", "reason")]),
        ("Senders cooling down", LINES, "short", 12, "The most of one worker.", [("max by (channel, provider) (otpost_senders_suspended{})", "{{channel}} by {{provider}}")], SOME),
        ("Next provider", STACK, "reqps", 12, "Messages that another provider took over, by the reason. doubt_unanswered: a person may have got two messages.",
         [rate("otpost_provider_failovers_total", "from, to, reason")], SOME),
        ("Senders suspended in an hour", LINES, "short", 12, "By provider.", [("sum by (provider) (increase(otpost_sender_suspensions_total{}[1h]))", "{{provider}}")]),
    ]),
    ("Doubt and delivery", [
        ("In doubt, resolved", STACK, "reqps", 12, "Found by a lookup, reported by a callback, absent and so sent again, or unknown.",
         [rate("otpost_in_doubt_resolutions_total", "result")]),
        ("Sent once more", LINES, "short", 12, "Sends in doubt that were repeated, in an hour: a person may have got two messages.",
         [("sum(increase(otpost_in_doubt_repeated_total{}[1h]))", "repeated")], SOME),
        ("Receipts", STACK, "reqps", 12, "Final ones, by status.", [rate("otpost_delivery_reports_total", "status", 'result="news"')]),
        ("Receipts without news", STACK, "reqps", 12, "Known already, of no request of ours, or never final.",
         [rate("otpost_delivery_reports_total", "result", 'result!="news"')]),
        ("Segments", STACK, "reqps", 12, "SMS segments handed over: what the provider bills.", [rate("otpost_message_segments_total", "provider")]),
        ("Requests by country", STACK, "reqps", 12, "The ten with the most.", [("topk(10, sum by (country) (rate(otpost_requests_by_country_total{}[r])))", "{{country}}")]),
    ]),
]

LIMITS = [
    ("Limits", [
        ("Refused by a limit", STACK, "reqps", 12, "Each request counts for the limit that refused it.", [rate("otpost_limit_refusals_total", "limit")]),
        ("Share refused by a limit", LINES, "percentunit", 12, "Of all requests, also those that the API refused.",
         [("sum(rate(otpost_limit_refusals_total{}[r])) / (sum(rate(otpost_limit_refusals_total{}[r]))"
           ' + sum(rate(otpost_requests_total{reason!~"rate_limited|cooldown",replayed="false"}[r])))', "refused")], (0.1, 0.3)),
        ("All sends in an hour", LINES, "short", 12, "Compare it with SMS_MAX_PER_HOUR.",
         [('sum by (channel) (increase(otpost_requests_total{status="sent",replayed="false"}[1h]))', "{{channel}}")]),
        ("Refused by the limit of all sends", LINES, "short", 12, "In an hour.",
         [('sum by (channel) (increase(otpost_limit_refusals_total{limit="all"}[1h]))', "{{channel}}")], ANY),
        ("Rejected by country", STACK, "reqps", 12, "The ten with the most.",
         [('topk(10, sum by (country) (rate(otpost_requests_by_country_total{status="rejected"}[r])))', "{{country}}")]),
        ("Rejected, by reason", STACK, "reqps", 12, "Before the provider saw them.", [rate("otpost_requests_total", "reason", 'status="rejected",replayed="false"')]),
    ]),
    ("Checks", [
        ("Verdicts", STACK, "reqps", 12, "Checks of typed codes.", [rate("otpost_verifications_total", "verdict")]),
        ("Wrong codes", LINES, "percentunit", 12, "Share of wrong codes and of locked ones.",
         [share('otpost_verifications_total{verdict=~"wrong_code|too_many_attempts"}', "otpost_verifications_total{}", "wrong")], (0.3, 0.5)),
        ("Codes verified, by country", LINES, "percentunit", 12, "Share of the codes sent in an hour. For blocks, prefixes and senders: otpost conversion.",
         [("sum by (channel, country) (increase(otpost_conversion_verified_total{}[1h]))"
           " / sum by (channel, country) (increase(otpost_conversion_sent_total{}[1h]))", "{{channel}} {{country}}")]),
        ("Codes verified, this week and last", LINES, "percentunit", 12, "Share of the codes sent in an hour, and the same a week before.",
         [share_of_hour("", "now"), share_of_hour(" offset 1w", "a week ago")]),
    ]),
    ("Spend", [
        ("Spend of an hour, by country", STACK, "short", 12, "In the currency of the settings. What it was spent on: otpost spend.",
         [("topk(10, sum by (country) (increase(otpost_spend_total{}[1h])))", "{{country}}")]),
        ("Budgets", LINES, "percentunit", 12, "Share that is reserved or committed.",
         [("max by (period) (otpost_spend_budget_ratio{})", "{{period}}")], (0.8, 1)),
    ]),
    ("Callers", [
        ("Tokens refused", STACK, "reqps", 12, "By the check that failed.", [rate("otpost_tokens_refused_total", "reason")]),
        ("Callbacks refused", STACK, "reqps", 12, "forged: the signature does not fit.", [rate("otpost_callbacks_refused_total", "reason")]),
        ("Operators", STACK, "reqps", 12, "Queries and acts of operators over HTTP.", [rate("otpost_operator_requests_total", "action")]),
        ("Audit records", LINES, "short", 12, "Acts that wait for RabbitMQ, and stopping acts without room for their record.",
         [("max(otpost_audit_pending{})", "pending"), ("max(otpost_audit_dropped{})", "dropped")]),
        ("Connections closed by us", STACK, "reqps", 12, "connections and bytes: a bound was reached.", [rate("otpost_http_connections_closed_total", "reason")]),
        ("Client addresses that cannot be read", LINES, "reqps", 12, "A proxy states no address, so its users share one limit.",
         [("sum(rate(otpost_http_forwarded_unreadable_total{}[r]))", "unreadable")]),
        ("Replies", LINES, "reqps", 12, "Copies of results that no queue took, or whose queue is not allowed.",
         [("sum(rate(otpost_replies_failed_total{}[r]))", "failed"), ("sum(rate(otpost_replies_ignored_total{}[r]))", "ignored")]),
    ]),
]

ENGINES = [
    ("Redis", [
        ("Operations", STACK, "ops", 12, "Calls of a step.", [rate("otpost_store_operation_duration_seconds_count", "operation")]),
        ("Slowest of a hundred", LINES, "s", 12, "By step.",
         [("histogram_quantile(0.99, sum by (operation, le) (rate(otpost_store_operation_duration_seconds_bucket{}[r])))", "{{operation}}")]),
        ("Failed calls", STACK, "ops", 12, "By step.", [rate("otpost_store_operation_errors_total", "operation")]),
        ("Unavailable", STACK, "ops", 12, "Calls without a usable answer, by reason: docs/runbook.md#reasons-of-redis.", [rate("otpost_store_unavailable_total", "reason")]),
        ("Warnings", STATES, "short", 12, "Redis works, and this beside it does not.", [("max by (reason) (otpost_store_warnings{})", "{{reason}}")]),
        ("Keys", TABLE, "short", 12, "Fingerprints of the keys in use: one for each name.", [("count by (use, kid, fingerprint) (otpost_key_info{})", "")]),
    ]),
    ("RabbitMQ", [
        ("Ready messages", LINES, "short", 12, "By queue.", [("max by (queue) (otpost_queue_messages{})", "{{queue}}")]),
        ("Consumers", LINES, "short", 12, "By queue.", [("max by (queue) (otpost_queue_consumers{})", "{{queue}}")]),
        ("Connections", LINES, "short", 12, "By role.", [("sum by (role, channel) (otpost_broker_connected{})", "{{role}} {{channel}}")]),
        ("Reconnects in ten minutes", LINES, "short", 12, "By role.", [("sum by (role) (increase(otpost_broker_reconnects_total{}[10m]))", "{{role}}")]),
        ("Blocked", STATES, "short", 12, "1 while RabbitMQ blocks publishers: memory or disk.", [("max by (role) (otpost_broker_blocked{})", "{{role}}")]),
        ("Requeued, not confirmed, unroutable", LINES, "ops", 12, "Deliveries given back, messages not confirmed, results without a queue.",
         [("sum(rate(otpost_deliveries_requeued_total{}[r]))", "requeued"), ("sum(rate(otpost_publish_errors_total{}[r]))", "not confirmed"),
          ("sum(rate(otpost_results_unroutable_total{}[r]))", "unroutable")]),
    ]),
    ("Processes", [
        ("CPU", LINES, "percentunit", 12, "Of one core; a process has one thread.", [("rate(process_cpu_seconds_total{}[r])", "{{instance}}")]),
        ("Memory", LINES, "bytes", 12, "Resident.", [("process_resident_memory_bytes{}", "{{instance}}")], (120 << 20, 160 << 20)),
        ("Open descriptors", LINES, "percentunit", 12, "Share of what the process may open.", [("process_open_fds{} / process_max_fds{}", "{{instance}}")], (0.7, 0.9)),
        ("Age", LINES, "s", 12, "Since the start of a process.", [("time() - process_start_time_seconds{}", "{{instance}}")]),
        ("Versions", TABLE, "short", 12, "Processes of each version.", [("count by (version, commit) (otpost_build_info{})", "")]),
        ("Traces", LINES, "ops", 12, "Exports, and spans that were dropped.",
         [("sum by (result) (rate(otpost_trace_exports_total{}[r]))", "exports: {{result}}"), ("sum(rate(otpost_trace_spans_dropped_total{}[r]))", "spans dropped")]),
    ]),
    ("API", [
        ("Time of an answer", LINES, "s", 12, "95 of a hundred, by route.",
         [("histogram_quantile(0.95, sum by (route, le) (rate(otpost_http_request_duration_seconds_bucket{}[r])))", "{{route}}")]),
        ("Published token keys", LINES, "short", 12, "Usable keys, and fetches in ten minutes by result.",
         [("max(otpost_jwks_keys{})", "keys"), ("sum by (result) (increase(otpost_jwks_fetches_total{}[10m]))", "fetch: {{result}}")]),
    ]),
]

DASHBOARDS = {
    "overview": ("otpost: overview", "Are codes sent, and how fast?", OVERVIEW),
    "provider": ("otpost: provider", "Answers of the provider, and delivery.", PROVIDER),
    "limits": ("otpost: limits", "Refusals, and their reasons.", LIMITS),
    "engines": ("otpost: engines", "Redis, RabbitMQ, processes, API.", ENGINES),
}
