"""Rules of this project that no validator knows."""

import re

from render import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text()
ROWS = re.findall(r"^\| `([A-Z0-9_]+)`( \*\*S\*\*)?", PAGE, re.M)
SETTINGS = {name for name, _ in ROWS}
SECRETS = {name for name, is_secret in ROWS if is_secret}
# The libraries of TLS and HTTP read these.
LIBRARIES = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE"}
# Secret by the page, as a file may hold it, and public.
PUBLIC = {"JWT_PUBLIC_KEY"}
KNOWN = SETTINGS | LIBRARIES | {f"{name}_FILE" for name in SECRETS}


def settings_of(objects):
    maps = [item for item in objects if item["kind"] == "ConfigMap" and "settings" in item["metadata"]["name"]]
    return maps[0]["data"] if maps else {}


def pods(objects):
    return {
        item["metadata"]["name"]: item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"
    }


def environment(pod):
    return {variable["name"]: variable["value"] for variable in pod["containers"][0].get("env", [])}


def mounted(pod):
    """Every file of a pod, with the kind of its volume."""
    folders = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0].get("volumeMounts", [])}
    return {
        f"{folders[volume['name']].rstrip('/')}/{entry['path']}": kind
        for volume in pod.get("volumes", [])
        for kind in ("secret", "configMap")
        for entry in volume.get(kind, {}).get("items", [])
        if volume["name"] in folders
    }


def is_public(variable):
    """Roots are no secret."""
    return variable.endswith("_CA_FILE")


def folders(pod):
    """Where whole maps and Secrets are mounted: their files are not known here."""
    volumes = pod.get("volumes", [])
    listed = {volume["name"] for volume in volumes for kind in ("secret", "configMap") if "items" in volume.get(kind, {})}
    mounts = pod["containers"][0].get("volumeMounts", [])
    return tuple(f"{mount['mountPath'].rstrip('/')}/" for mount in mounts if mount["name"] not in listed)


def settings_are_known(objects):
    names = set(settings_of(objects)).union(*(environment(pod) for pod in pods(objects).values()))
    yield from (f"{name} is no setting of docs/settings.md" for name in sorted(names - KNOWN))


def secrets_are_files(objects):
    """More people read maps and the environment of pods than Secrets."""
    for name, pod in pods(objects).items():
        for variable in sorted((settings_of(objects) | environment(pod)).keys() & SECRETS - PUBLIC):
            yield f"{name}: the secret {variable} is no file"


def secret_files_are_mounted(objects):
    """A file that is named and not mounted stops the start; one that is mounted and not named is more than a pod needs."""
    for name, pod in pods(objects).items():
        variables = settings_of(objects) | environment(pod)
        named = {value: variable for variable, value in variables.items() if variable.endswith("_FILE") and value}
        named = {file: variable for file, variable in named.items() if not file.startswith(folders(pod))}
        files = mounted(pod)
        for file in sorted(named.keys() ^ files.keys()):
            yield f"{name}: {file} is {'named, not mounted' if file in named else 'mounted, not named'}"
        for file in sorted(named.keys() & files.keys()):
            if files[file] != "secret" and not is_public(named[file]):
                yield f"{name}: {file} is a secret in a ConfigMap"


DRAIN = ("SHUTDOWN_GRACE_SECONDS", "PROVIDER_TIMEOUT_SECONDS")


def default(setting):
    return re.search(rf"^\| `{setting}` \| `([^`]*)`", PAGE, re.M)[1]


def a_drain_ends_before_the_kill(objects):
    for name, pod in pods(objects).items():
        settings = settings_of(objects) | environment(pod)
        drain, answer = (int(settings.get(setting, default(setting))) for setting in DRAIN)
        if answer >= drain:
            yield f"{name}: one answer of the provider may take {answer} s, the drain only {drain} s"
        hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = pod["terminationGracePeriodSeconds"]
        if hook + drain + 5 > grace:
            yield f"{name}: preStop {hook} s and drain {drain} s leave no 5 s of the grace of {grace} s"


def unready_pods_can_be_evicted(objects):
    budgets = [item for item in objects if item["kind"] == "PodDisruptionBudget"]
    if len(budgets) != len(pods(objects)):
        yield "not every Deployment has a PodDisruptionBudget"
    for item in budgets:
        if item["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{item['metadata']['name']}: an outage of the provider would block node drains"


def one_autoscaler_each(objects):
    """Two of them for one Deployment stop each other."""
    scalers = [item for item in objects if item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    targets = [item["spec"]["scaleTargetRef"]["name"] for item in scalers]
    for name in sorted(set(targets)):
        if targets.count(name) > 1:
            yield f"{name} has {targets.count(name)} autoscalers"


def keda_asks_in_this_namespace(objects):
    for item in (item for item in objects if item["kind"] == "ScaledObject"):
        url, namespace = item["spec"]["triggers"][0]["metadata"]["url"], item["metadata"]["namespace"]
        if f".{namespace}.svc:" not in url:
            yield f"KEDA asks {url}, and the API is in {namespace}"


def scale_asks_for_what_may_run(objects):
    """Less, and the autoscaler never reaches its greatest number."""
    asked = int(settings_of(objects).get("SCALE_MAX", default("SCALE_MAX")))
    for item in (item for item in objects if item["kind"] == "ScaledObject"):
        most = item["spec"]["maxReplicaCount"]
        if most != asked:
            yield f"SCALE_MAX is {asked}, and maxReplicaCount of {item['metadata']['name']} {most}"


def egress_is_restricted(objects):
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    outgoing = [rule for policy in policies if "Egress" in policy["policyTypes"] for rule in policy["egress"]]
    if not outgoing or not all(rule.get("ports") for rule in outgoing):
        yield "no NetworkPolicy restricts outgoing connections, or one has a rule without ports"


def incoming_is_from_somewhere(objects):
    """The API server refuses an empty list of namespaces, after other objects were applied."""
    for item in (item for item in objects if item["kind"] == "NetworkPolicy"):
        for rule in item["spec"].get("ingress", []):
            for peer in rule.get("from") or [{}]:
                expressions = peer.get("namespaceSelector", {}).get("matchExpressions", [{}])
                if "ipBlock" not in peer and not all(expression.get("values") for expression in expressions):
                    yield f"{item['metadata']['name']} names no namespace that may connect"


def addresses_agree_with_ports(objects):
    """Probes and Services ask the ports of the containers."""
    for name, pod in pods(objects).items():
        settings = settings_of(objects) | environment(pod)
        for port in pod["containers"][0]["ports"]:
            setting = f"{port['name'].upper()}_ADDR"
            if not settings.get(setting, "").endswith(f":{port['containerPort']}"):
                yield f"{name}: {setting} is {settings.get(setting)}, and the port of the container {port['containerPort']}"


def workers_do_not_surge(objects):
    """/scale counts a surplus as present, and the autoscaler would keep it."""
    for item in (item for item in objects if item["kind"] == "Deployment"):
        update = item["spec"]["strategy"]["rollingUpdate"]
        if item["metadata"]["name"] == "otpost-worker" and update.get("maxSurge") != 0:
            yield f"otpost-worker: a rollout may start {update.get('maxSurge')} more workers than are asked for"


def images_are_pinned(objects):
    for name, pod in pods(objects).items():
        image = pod["containers"][0]["image"]
        if not re.search(r"@sha256:[0-9a-f]{64}$", image):
            yield f"{name}: {image} has no digest"


ALWAYS = [
    settings_are_known,
    secret_files_are_mounted,
    a_drain_ends_before_the_kill,
    unready_pods_can_be_evicted,
    one_autoscaler_each,
    keda_asks_in_this_namespace,
    scale_asks_for_what_may_run,
    egress_is_restricted,
    incoming_is_from_somewhere,
    addresses_agree_with_ports,
    workers_do_not_surge,
]
IN_PRODUCTION = [images_are_pinned, secrets_are_files]


def breaches(objects, is_production):
    for rule in ALWAYS + (IN_PRODUCTION if is_production else []):
        yield from rule(objects)
