"""Renders the manifests: Kustomize by kubectl, the chart by Helm."""

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
PAIRS = {
    "production": ("otpost", [], IMAGE),
    "worker-hpa": ("otpost", [], IMAGE | {"worker": {"scaler": "hpa"}}),
    "development": ("otpost-development", ["values-development.yaml"], {}),
}


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def kustomize(name):
    """The objects of an overlay; `worker-hpa` is production with the other autoscaler."""
    folder = K8S / "overlays" / name
    if name == "worker-hpa":
        folder = with_hpa()
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kubectl kustomize {name}: {done.stderr.strip()}")
    return documents(done.stdout)


def with_hpa():
    """A copy of k8s/ in which production names worker-hpa, and its patch the HorizontalPodAutoscaler."""
    copy = OUTPUT.parent / "worker-hpa"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(K8S, copy)
    file = copy / "overlays" / "production" / "kustomization.yaml"
    text = file.read_text()
    for old, new in [
        ("  - ../../components/worker-keda # or ../../components/worker-hpa", "  - ../../components/worker-hpa"),
        ("{ kind: ScaledObject }", "{ kind: HorizontalPodAutoscaler, name: otpost-worker }"),
        ("/spec/minReplicaCount", "/spec/minReplicas"),
    ]:
        assert text.count(old) == 1, f"production/kustomization.yaml no longer has {old!r}"
        text = text.replace(old, new)
    file.write_text(text)
    return file.parent


def examples():
    return {file.name: documents(file.read_text()) for file in sorted((K8S / "examples").glob("*.yaml"))}


def write(name, objects):
    """Keeps the rendered objects for the tools that read files."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / f"{name}.yaml"
    file.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return file
