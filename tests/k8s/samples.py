"""Bad samples: each changes one thing in what is valid, and names a word of the problem that a check must find."""

import copy

from compare import compare
from rules import breaches
from schemas import by_schema, problems


def unseen(objects, compose):
    """The samples that pass unnoticed."""
    for change, word in OBJECTS:
        changed = copy.deepcopy(objects)
        change(Changed(changed))
        found = [problem for item in changed for problem in problems(item)]
        found += breaches(changed, True)
        if not any(word in problem for problem in found):
            yield f"a bad sample passes: {change.__name__} should show {word!r}, found {found}"
        if not compare(objects, changed):
            yield f"the comparison with Helm does not notice {change.__name__}"
    for change, word in FILES:
        changed = copy.deepcopy(compose)
        change(changed["services"])
        if not any(word in problem for problem in by_schema("compose", changed)):
            yield f"a bad sample passes: {change.__name__} should show {word!r}"


class Changed:
    """Finds the parts of the objects that samples change."""

    def __init__(self, objects):
        self.objects = objects

    def spec(self, kind, name):
        return next(item for item in self.objects if (item["kind"], item["metadata"]["name"]) == (kind, name))["spec"]

    def pod(self, name):
        return self.spec("Deployment", name)["template"]["spec"]

    def settings(self):
        return next(item for item in self.objects if item["kind"] == "ConfigMap")["data"]


def unknown_field(found):
    found.pod("otpost-worker")["terminationGraceSeconds"] = 40


def wrong_type(found):
    found.spec("HorizontalPodAutoscaler", "otpost-http")["maxReplicas"] = "ten"


def unknown_metric_type(found):
    found.spec("ScaledObject", "otpost-worker")["triggers"][0]["metricType"] = "Average"


def no_workers(found):
    found.spec("ScaledObject", "otpost-worker")["minReplicaCount"] = 0


def path_without_slash(found):
    found.spec("PodMonitor", "otpost")["podMetricsEndpoints"][0]["path"] = "metrics"


def severity_unknown(found):
    found.spec("PrometheusRule", "otpost")["groups"][0]["rules"][0]["labels"]["severity"] = "page"


def misspelt_setting(found):
    found.settings()["SMS_MAX_PER_HOURS"] = "1"


def secret_not_mounted(found):
    found.pod("otpost-http")["volumes"][0]["secret"]["items"].pop()


def secret_too_many(found):
    items = found.pod("otpost-worker")["volumes"][0]["secret"]["items"]
    items.append({"key": "JWT_PUBLIC_KEY", "path": "JWT_PUBLIC_KEY"})


def secret_in_a_config_map(found):
    pod = found.pod("otpost-worker")
    items = [{"key": "SMTP_URL", "path": "SMTP_URL"}]
    pod["volumes"].append({"name": "public", "configMap": {"name": "otpost-public", "items": items}})
    container = pod["containers"][0]
    container["volumeMounts"].append({"name": "public", "mountPath": "/run/public"})
    container["env"].append({"name": "SMTP_URL_FILE", "value": "/run/public/SMTP_URL"})


def grace_too_short(found):
    found.pod("otpost-http")["terminationGracePeriodSeconds"] = 30


def answer_outlasts_drain(found):
    found.settings()["PROVIDER_TIMEOUT_SECONDS"] = "25"


def drain_of_one_outlasts_grace(found):
    found.pod("otpost-worker")["containers"][0]["env"].append({"name": "SHUTDOWN_GRACE_SECONDS", "value": "120"})


def secret_as_setting(found):
    found.settings()["TWILIO_AUTH_TOKEN"] = "0123"


def scaler_stops_short(found):
    found.spec("ScaledObject", "otpost-worker")["maxReplicaCount"] = 50


def eviction_blocked(found):
    del found.spec("PodDisruptionBudget", "otpost-worker")["unhealthyPodEvictionPolicy"]


def two_autoscalers(found):
    found.spec("HorizontalPodAutoscaler", "otpost-http")["scaleTargetRef"]["name"] = "otpost-worker"


def scaler_elsewhere(found):
    url = "http://otpost-http-ops.other.svc:9090/scale"
    found.spec("ScaledObject", "otpost-worker")["triggers"][0]["metadata"]["url"] = url


def egress_open(found):
    found.spec("NetworkPolicy", "otpost-egress")["policyTypes"] = ["Ingress"]


def egress_open_at_every_port(found):
    found.spec("NetworkPolicy", "otpost-egress")["egress"][1]["ports"] = None


def nobody_may_connect(found):
    peer = found.spec("NetworkPolicy", "otpost-http")["ingress"][0]["from"][0]
    peer["namespaceSelector"]["matchExpressions"][0]["values"] = []


def probes_ask_elsewhere(found):
    found.settings()["OPS_ADDR"] = "0.0.0.0:9091"


def workers_surge(found):
    found.spec("Deployment", "otpost-worker")["strategy"]["rollingUpdate"]["maxSurge"] = "25%"


def image_by_tag(found):
    found.pod("otpost-worker")["containers"][0]["image"] = "registry.example.co/otpost:latest"


OBJECTS = [
    (unknown_field, "terminationGraceSeconds"),
    (wrong_type, "'ten'"),
    (unknown_metric_type, "'Average'"),
    (no_workers, "minimum"),
    (path_without_slash, "'metrics'"),
    (severity_unknown, "'page'"),
    (misspelt_setting, "SMS_MAX_PER_HOURS"),
    (secret_not_mounted, "named, not mounted"),
    (secret_in_a_config_map, "is a secret in a ConfigMap"),
    (secret_too_many, "mounted, not named"),
    (grace_too_short, "leave no 5 s"),
    (answer_outlasts_drain, "one answer of the provider"),
    (drain_of_one_outlasts_grace, "leave no 5 s"),
    (secret_as_setting, "is no file"),
    (scaler_stops_short, "SCALE_MAX is 20"),
    (eviction_blocked, "block node drains"),
    (two_autoscalers, "2 autoscalers"),
    (scaler_elsewhere, "KEDA asks"),
    (egress_open, "outgoing connections"),
    (egress_open_at_every_port, "without ports"),
    (nobody_may_connect, "names no namespace"),
    (probes_ask_elsewhere, "OPS_ADDR is 0.0.0.0:9091"),
    (workers_surge, "25% more workers"),
    (image_by_tag, "no digest"),
]


def open_port(services):
    services["redis"]["ports"] = ["6379:6379"]


def folder_of_this_machine(services):
    services["prometheus"]["volumes"].append("/etc:/host-etc")


def unknown_key(services):
    services["worker"]["restarts"] = "always"


def unknown_condition(services):
    services["http"]["depends_on"]["redis"]["condition"] = "healthy"


FILES = [(open_port, "6379:6379"), (folder_of_this_machine, "/host-etc"), (unknown_key, "restarts"), (unknown_condition, "'healthy'")]
