"""Validates objects: those of Kubernetes by its own schemas, strictly; custom resources by the small schemas beside this."""

import json
import warnings
from pathlib import Path

import jsonschema

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

# The least that is supported, one between, the newest.
VERSIONS = ["1.30", "1.34", "1.37"]
FOLDER = Path(__file__).parent / "schemas"
CUSTOM = {
    "keda.sh/v1alpha1 ScaledObject": "scaled-object",
    "monitoring.coreos.com/v1 PodMonitor": "pod-monitor",
    "monitoring.coreos.com/v1 PrometheusRule": "prometheus-rule",
    "rabbitmq.com/v1beta1 RabbitmqCluster": "rabbitmq-cluster",
    "rabbitmq.com/v1beta1 User": "rabbitmq-user",
    "rabbitmq.com/v1beta1 Permission": "rabbitmq-permission",
    "redis.redis.opstreelabs.in/v1beta2 RedisCluster": "redis-cluster",
}


def by_schema(name, value):
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return [f"{'/'.join(str(part) for part in fault.absolute_path)}: {fault.message}" for fault in found]


def problems(item):
    """Everything that is wrong with one object."""
    kind = f"{item['apiVersion']} {item['kind']}"
    name = f"{item['kind']} {item['metadata']['name']}"
    if kind in CUSTOM:
        return [f"{name}: {problem}" for problem in by_schema(CUSTOM[kind], item)]
    return [f"{name}: {problem}" for version in VERSIONS for problem in by_kubernetes(item, version)]


def by_kubernetes(item, version):
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"Kubernetes {version}: {'/'.join(str(part) for part in error.path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"Kubernetes {version} has no such kind, and tests/k8s/schemas has no schema of it"
