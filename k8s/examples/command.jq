# Makes a Job that runs one command of otpost with the image, the settings and the secrets of the workers, also while no pod
# runs:
#
#   kubectl get --namespace otpost deploy/otpost-worker --output json \
#     | jq --from-file k8s/examples/command.jq --args -- status \
#     | kubectl create --filename -
#   kubectl logs --namespace otpost --follow job/NAME        # that `create` printed
#
# The network policies apply to its pod; Prometheus, the autoscaler and the budget of the workers do not count it.
.metadata.namespace as $namespace
| .spec.template
| .spec.containers[0] |= (del(.ports, .lifecycle, .startupProbe, .livenessProbe, .readinessProbe)
    | .name = "command" | .args = $ARGS.positional)
| {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { generateName: "otpost-command-", namespace: $namespace, labels: { "app.kubernetes.io/name": "otpost" } },
    spec: {
      backoffLimit: 0,
      ttlSecondsAfterFinished: 86400,
      template: {
        metadata: { labels: { "app.kubernetes.io/name": "otpost", "app.kubernetes.io/component": "command" } },
        spec: (.spec | del(.topologySpreadConstraints) | .restartPolicy = "Never")
      }
    }
  }
