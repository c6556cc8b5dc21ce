"""The objects and files that the pages and the manifests' comments name, in commands above all."""

import re

from render import K8S, PAIRS, ROOT, kustomize

KINDS = {
    "deploy": "Deployment",
    "hpa": "HorizontalPodAutoscaler",
    "scaledobject": "ScaledObject",
    "svc": "Service",
    "networkpolicy": "NetworkPolicy",
}
# An object of earlier versions, which the page of Kubernetes says to delete.
EARLIER = {("NetworkPolicy", "otpost-worker")}


def texts():
    files = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *K8S.rglob("*")]
    return {file.relative_to(ROOT): file.read_text() for file in files if file.is_file()}


def misnamed(pages, objects):
    """What the pages name and is not there."""
    known = {(item["kind"], item["metadata"]["name"]) for item in objects} | EARLIER
    for page, text in pages.items():
        for short, name in sorted(set(re.findall(rf"\b({'|'.join(KINDS)})/(otpost[a-z0-9-]*)", text))):
            if (KINDS[short], name) not in known:
                yield f"{page}: {short}/{name} is no object of the overlays"
        for path in sorted(set(re.findall(r"(?<![\w/.])(?:k8s|packaging|tests/k8s)/[\w./-]*\w(?![\w*@])", text))):
            if not (ROOT / path).exists():
                yield f"{page}: {path} does not exist"


def problems():
    objects = [item for name in PAIRS for item in kustomize(name)]
    wrong = {"a page": "kubectl rollout status deploy/otpost-workers --filename k8s/base/http.yml"}
    if len(list(misnamed(wrong, objects))) != 2:
        yield "a page with a wrong object and a wrong file passes"
    yield from misnamed(texts(), objects)
