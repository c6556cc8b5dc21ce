"""Renders the manifests: Kustomize by kubectl, the chart by Helm."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OUTPUT = ROOT / "target" / "k8s" / "rendered"

# The overlay and the values of the chart that render the same objects.
DIGEST = "sha256:" + 64 * "0"
IMAGE = {"image": {"repository": "registry.example.co/otpost", "digest": DIGEST}}
CHOICES = {
    "image": IMAGE["image"] | {"pullSecrets": ["registry"]},
    "settings": {"SHUTDOWN_GRACE_SECONDS": "45"},
    "worker": {"maxReplicas": 50},
    "networkPolicy": {
        "ingressBlocks": ["192.0.2.0/24"],
        "dns": {"namespaces": ["openshift-dns"], "ports": [5353]},
        "serverPorts": [5671, 5672, 6379, 26379, 4318],
    },
}
PAIRS = {
    "production": ("otpost", [], IMAGE),
    "worker-hpa": ("otpost", [], IMAGE | {"worker": {"scaler": "hpa"}}),
    "choices": ("otpost", [], CHOICES),
    "development": ("otpost-development", ["values-development.yaml"], {}),
}


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def kustomize(name):
    """The objects of an overlay; `worker-hpa` is production with the other autoscaler, `choices` with every patch that it offers."""
    folder = K8S / "overlays" / name
    if name == "worker-hpa":
        folder = changed(name, with_hpa)
    if name == "choices":
        folder = changed(name, with_choices)
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kubectl kustomize {name}: {done.stderr.strip()}")
    return documents(done.stdout)


def changed(name, change):
    """A copy of k8s/ with another overlay `production`."""
    copy = OUTPUT.parent / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(K8S, copy)
    production = copy / "overlays" / "production"
    change(production)
    return production


def with_hpa(production):
    file = production / "kustomization.yaml"
    text = file.read_text()
    assert text.count("/worker-keda") == 1, "production/kustomization.yaml no longer names worker-keda once"
    file.write_text(text.replace("/worker-keda", "/worker-hpa"))


def with_choices(production):
    """The patches that are comments, and the settings that go with them."""
    file = production / "kustomization.yaml"
    text, patches = re.subn(r"^  # (- target|  )", r"  \1", file.read_text(), flags=re.M)
    assert patches, "production/kustomization.yaml offers no patch"
    file.write_text(text)
    settings = production / "settings.env"
    text = settings.read_text().replace("SCALE_MAX=20\n", "SCALE_MAX=50\n")
    settings.write_text(f"{text}SHUTDOWN_GRACE_SECONDS=45\n")


def examples():
    return {file.name: documents(file.read_text()) for file in sorted((K8S / "examples").glob("*.yaml"))}


def write(name, objects):
    """Keeps the rendered objects for the tools that read files."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / f"{name}.yaml"
    file.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return file
