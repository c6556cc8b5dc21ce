"""Rules of this project that no validator knows."""

import re

from render import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text()
SETTINGS = set(re.findall(r"^\| `([A-Z0-9_]+)`", PAGE, re.M))


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


def settings_are_known(objects):
    names = set(settings_of(objects)).union(*(environment(pod) for pod in pods(objects).values()))
    for name in sorted(names):
        if name not in SETTINGS and name.removesuffix("_FILE") not in SETTINGS:
            yield f"{name} is no setting of docs/settings.md"


def secret_files_are_mounted(objects):
    """A file that is named and not mounted stops the start; one that is mounted and not named is more than a pod needs."""
    for name, pod in pods(objects).items():
        variables = settings_of(objects) | environment(pod)
        named = {value: variable for variable, value in variables.items() if variable.endswith("_FILE") and value}
        files = mounted(pod)
        for file in sorted(named.keys() ^ files.keys()):
            yield f"{name}: {file} is {'named, not mounted' if file in named else 'mounted, not named'}"
        for file in sorted(named.keys() & files.keys()):
            if files[file] != "secret" and not is_public(named[file]):
                yield f"{name}: {file} is a secret in a ConfigMap"


def a_drain_ends_before_the_kill(objects):
    settings = settings_of(objects)
    drain, answer = int(settings["SHUTDOWN_GRACE_SECONDS"]), int(settings["PROVIDER_TIMEOUT_SECONDS"])
    if answer >= drain:
        yield f"one answer of the provider may take {answer} s, the drain only {drain} s"
    for name, pod in pods(objects).items():
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


def egress_is_restricted(objects):
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    if not any("Egress" in policy["policyTypes"] and policy["egress"] for policy in policies):
        yield "no NetworkPolicy restricts outgoing connections"


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
    egress_is_restricted,
]
IN_PRODUCTION = [images_are_pinned]


def breaches(objects, is_production):
    for rule in ALWAYS + (IN_PRODUCTION if is_production else []):
        yield from rule(objects)
