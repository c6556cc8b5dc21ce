"""Values of the chart: some that operators choose, and wrong ones that it refuses, with a word of the refusal."""

import json
import textwrap

import helm
from render import IMAGE
from rules import KNOWN, PUBLIC, SECRETS, SETTINGS, breaches
from schemas import problems

SCHEMA = helm.CHART / "values.schema.json"
FILES = ["AMQP_URL", "REDIS_URL", "OTP_SECRET_KEYS", "OTP_RECIPIENT_KEY"]
WORKER = [*FILES, "TWILIO_AUTH_TOKEN"]

GOOD = {
    "e-mail": {
        "settings": {"EMAIL_OTP_ENABLED": "true", "EMAIL_FROM": "codes@shop.example", "EMAIL_PROVIDER": "smtp"},
        "worker": {"files": [*WORKER, "SMTP_URL"]},
        "networkPolicy": {"serverPorts": [5671, 6379, 465]},
    },
    "published keys": {
        "settings": {"JWT_JWKS_URL": "https://issuer.example/jwks", "JWT_ISSUER": "https://issuer.example"},
        "http": {"files": WORKER},
    },
    "API key": {
        "worker": {"files": [*WORKER, "TWILIO_API_KEY_SECRET"], "env": {"TWILIO_API_KEY_SID": f"SK{32 * '0'}"}}
    },
    "texts": {
        "worker": {
            "env": {"TEMPLATES_DIR": "/etc/otpost/texts"},
            "mounts": [{"path": "/etc/otpost/texts", "configMap": "otpost-texts-1"}],
        }
    },
    "renewed certificates": {
        role: {
            "env": {
                "AMQP_CA_FILE": "/etc/otpost/amqp/ca.crt",
                "AMQP_CLIENT_CERT_FILE": "/etc/otpost/amqp/tls.crt",
                "AMQP_CLIENT_KEY_FILE": "/etc/otpost/amqp/tls.key",
            },
            "mounts": [{"path": "/etc/otpost/amqp", "secret": "otpost-amqp"}],
        }
        for role in ("worker", "http")
    },
    "fixed authority": {"worker": {"files": [*WORKER, "AMQP_CA"]}},
    "more workers": {"worker": {"maxReplicas": 50}},
    "by hand": {"worker": {"scaler": "none"}, "http": {"scaler": "none"}, "podMonitor": {"enabled": False}},
    "defaults of the drain": {"settings": {"SHUTDOWN_GRACE_SECONDS": None, "PROVIDER_TIMEOUT_SECONDS": None}},
    "a longer drain of one role": {"worker": {"env": {"SHUTDOWN_GRACE_SECONDS": "120"}}},
    "API behind a load balancer": {"networkPolicy": {"ingressNamespaces": [], "ingressBlocks": ["192.0.2.0/24", "2001:db8::/32"]}},
    "nodes of their own": {
        role: {
            "podAnnotations": {"backup.example/skip": "true"},
            "nodeSelector": {"pool": "otp"},
            "tolerations": [{"key": "pool", "operator": "Equal", "value": "otp", "effect": "NoSchedule"}],
            "priorityClassName": "critical",
        }
        for role in ("worker", "http")
    },
    "names that look like numbers": {"secret": {"name": "007"}, "image": IMAGE["image"] | {"pullSecrets": ["42"]}},
}

BAD = {
    "misspelt value": ({"worker": {"minReplica": 3}}, "minReplica"),
    "misspelt setting": ({"settings": {"SMS_MAX_PER_HOURS": "1"}}, "SMS_MAX_PER_HOURS"),
    "number without quotes": ({"settings": {"SMS_MAX_PER_HOUR": 1}}, "SMS_MAX_PER_HOUR"),
    "secret in the map": ({"settings": {"TWILIO_AUTH_TOKEN": "0123"}}, "TWILIO_AUTH_TOKEN"),
    "secret in the environment": ({"http": {"env": {"JWT_SECRET": "0123"}}}, "JWT_SECRET"),
    "misspelt file": ({"worker": {"files": ["AMQP_URI"]}}, "worker/files"),
    "file twice": ({"worker": {"files": ["AMQP_URL", "AMQP_URL"]}}, "worker/files"),
    "misspelt resources": ({"http": {"resources": {"limit": {}}}}, "limit"),
    "nobody may connect": ({"networkPolicy": {"ingressNamespaces": []}}, "ingressNamespaces"),
    "nobody may measure": ({"networkPolicy": {"operatorNamespaces": []}}, "operatorNamespaces"),
    "every port": ({"networkPolicy": {"serverPorts": []}}, "serverPorts"),
    "mount of nothing": ({"worker": {"mounts": [{"path": "/etc/otpost"}]}}, "mounts"),
    "mount twice": (
        {"worker": {"mounts": [{"path": "/etc/a", "configMap": "a"}, {"path": "/etc/a/", "secret": "b"}]}},
        "/etc/a twice",
    ),
    "mount over the Secret": ({"http": {"mounts": [{"path": "/run/secrets/otpost", "secret": "a"}]}}, "mounts"),
    "mount over its parent": ({"http": {"mounts": [{"path": "/run/secrets/", "secret": "a"}]}}, "mounts"),
    "least above the most": ({"worker": {"minReplicas": 30}}, "minReplicas is 30"),
    "other port of probes": ({"settings": {"OPS_ADDR": "0.0.0.0:9091"}}, "OPS_ADDR"),
    "other port of the API": ({"http": {"env": {"HTTP_ADDR": "0.0.0.0:80"}}}, "HTTP_ADDR"),
    "port that is a number": ({"settings": {"OPS_ADDR": 9090}}, "OPS_ADDR"),
    "grace with a unit": ({"settings": {"SHUTDOWN_GRACE_SECONDS": "30s"}}, "SHUTDOWN_GRACE_SECONDS"),
    "no DNS": ({"networkPolicy": {"dns": {"namespaces": []}}}, "dns/namespaces"),
    "block without length": ({"networkPolicy": {"ingressBlocks": ["192.0.2.1"]}}, "ingressBlocks"),
    "short digest": ({"image": {"digest": "sha256:0123"}}, "digest"),
}


def faults(tool):
    yield from names()
    yield from siblings(json.loads(SCHEMA.read_text()))
    without = tool.template("otpost", [], IMAGE | {"networkPolicy": {"enabled": False}})
    yield from (f"networkPolicy.enabled=false: {item['metadata']['name']}" for item in without if item["kind"] == "NetworkPolicy")
    for name, values in GOOD.items():
        try:
            objects = tool.template("otpost", [], IMAGE | values)
        except helm.HelmError as error:
            yield f"{name}: {error}"
            continue
        yield from (f"{name}: {problem}" for item in objects for problem in problems(item))
        yield from (f"{name}: {breach}" for breach in breaches(objects, True))
    for name, (values, word) in BAD.items():
        try:
            tool.template("otpost", [], IMAGE | values)
            yield f"{name}: it is rendered"
        except helm.HelmError as error:
            if word not in str(error):
                yield f"{name}: {error}"


def siblings(schema):
    """Helm 3 before 3.18 takes no notice of what stands beside a $ref."""
    if isinstance(schema, dict):
        if "$ref" in schema and len(schema) > 1:
            yield f"values.schema.json: {', '.join(schema)} stand side by side"
        schema = list(schema.values())
    if isinstance(schema, list):
        yield from (fault for part in schema for fault in siblings(part))


def expected():
    """The names that the schema of the values has, by docs/settings.md."""
    files = SECRETS | {name.removesuffix("_FILE") for name in SETTINGS if name.endswith("_FILE")}
    return {"settings": KNOWN, "files": files, "public": SECRETS - PUBLIC}


def names():
    kinds = json.loads(SCHEMA.read_text())["$defs"]
    found = {
        "settings": kinds["settings"]["enum"],
        "files": kinds["files"]["items"]["enum"],
        "public": kinds["public"]["properties"],
    }
    for kind, names in expected().items():
        for name in sorted(names ^ set(found[kind])):
            verb = "lacks" if name in names else "has"
            yield f"values.schema.json: $defs/{kind} {verb} {name}; `target/k8s/venv/bin/python tests/k8s/values.py` writes them anew"


def write():
    text = SCHEMA.read_text()
    for kind, names in expected().items():
        start = text.index(f'"{kind}": {{\n      "description"')
        opening, closing = ("{", "}") if kind == "public" else ("[", "]")
        word = "properties" if kind == "public" else "enum"
        start = text.index(f'"{word}": {opening}\n', start) + len(f'"{word}": {opening}\n')
        end = text.index(f"\n{' ' * (8 if kind == 'files' else 6)}{closing}\n", start)
        indent = " " * (10 if kind == "files" else 8)
        if kind == "public":
            lines = ",\n".join(f'{indent}"{name}": {{ "type": "null" }}' for name in sorted(names))
        else:
            words = " ".join(f'"{name}",' for name in sorted(names)).rstrip(",")
            lines = textwrap.fill(words, 118, initial_indent=indent, subsequent_indent=indent)
        text = text[:start] + lines + text[end:]
    SCHEMA.write_text(text)


if __name__ == "__main__":
    write()
