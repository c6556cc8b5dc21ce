"""Compares the objects that Kustomize and Helm render."""

import copy
import re


def key(item):
    return f"{item['kind']} {item['metadata']['name']}"


def comparable(objects):
    """Without the differences that are meant: Kustomize names the map of settings by its content, where the chart keeps the
    name and annotates the pods with a digest; and the chart leaves the namespace to the operator."""
    found = {}
    for item in copy.deepcopy(objects):
        if item["kind"] == "Namespace":
            continue
        metadata = item["metadata"]
        metadata["name"] = re.sub(r"^(otpost-settings)-[0-9a-z]{10}$", r"\1", metadata["name"])
        if item["kind"] == "Deployment":
            template = item["spec"]["template"]
            template["metadata"].pop("annotations", None)
            for source in template["spec"]["containers"][0]["envFrom"]:
                source["configMapRef"]["name"] = "otpost-settings"
        assert key(item) not in found, f"{key(item)} twice"
        found[key(item)] = item
    return found


def differences(left, right, path=""):
    """The paths at which two values differ, with both values."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted(left.keys() | right.keys()):
            yield from differences(left.get(name), right.get(name), f"{path}/{name}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for at, pair in enumerate(zip(left, right)):
            yield from differences(*pair, f"{path}/{at}")
    elif left != right:
        yield f"{path}: Kustomize has {left!r}, Helm {right!r}"


def compare(kustomized, helmed):
    return list(differences(comparable(kustomized), comparable(helmed)))
