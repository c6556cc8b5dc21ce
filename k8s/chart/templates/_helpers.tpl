{{/* Labels of everything; with a component also the labels by which pods are selected. */}}
{{- define "otpost.labels" -}}
app.kubernetes.io/name: otpost
{{- with . }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* The image: by digest, or by tag where it was loaded by hand. */}}
{{- define "otpost.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else if .tag -}}
{{ .repository }}:{{ .tag }}
{{- else -}}
{{ required "image.digest is not set: the digest that docker push prints, sha256:…" "" }}
{{- end -}}
{{- end }}

{{/* The pod of a component, up to its preStop hook: a dictionary of root, component, ports, probe and env. */}}
{{- define "otpost.pod" -}}
{{- $values := .root.Values -}}
{{- $own := get $values .component -}}
metadata:
  labels:
    {{- include "otpost.labels" .component | nindent 4 }}
  annotations:
    checksum/settings: {{ $values.settings | toJson | sha256sum }}
spec:
  serviceAccountName: otpost
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 40
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
          {{- include "otpost.labels" $.component | nindent 10 }}
    {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "otpost.image" $values.image }}
      args: [{{ .component }}]
      ports:
        {{- if eq .component "http" }}
        - { name: http, containerPort: 8080 }
        {{- end }}
        - { name: ops, containerPort: 9090 }
      envFrom:
        - configMapRef:
            name: otpost-settings
      {{- with $own.env }}
      env:
        {{- range $name, $value := . }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      {{- end }}
      {{- if $values.secret.name }}
      volumeMounts:
        - name: secrets
          mountPath: /run/secrets/otpost
          readOnly: true
      {{- end }}
      startupProbe:
        httpGet: { path: /livez, port: ops }
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: ops }
        periodSeconds: 10
        timeoutSeconds: 3
      readinessProbe:
        httpGet: { path: /readyz, port: ops }
        periodSeconds: 5
        timeoutSeconds: 3
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- if eq .component "http" }}
      lifecycle:
        preStop:
          sleep: { seconds: 5 }
      {{- end }}
  {{- if $values.secret.name }}
  volumes:
    - name: secrets
      secret:
        secretName: {{ $values.secret.name }}
        defaultMode: 0440
        items:
          {{- range $own.files }}
          - { key: {{ . }}, path: {{ . }} }
          {{- end }}
  {{- end }}
{{- end }}

{{/* The Deployment and the PodDisruptionBudget of a component. */}}
{{- define "otpost.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: otpost-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "otpost.labels" .component | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "otpost.labels" .component | nindent 6 }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 25%
      maxUnavailable: 0
  template:
    {{- include "otpost.pod" . | nindent 4 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: otpost-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "otpost.labels" "" | nindent 4 }}
spec:
  maxUnavailable: 25%
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "otpost.labels" .component | nindent 6 }}
{{- end }}

{{/* How fast the number of workers may change. */}}
{{- define "otpost.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - { type: Percent, value: 100, periodSeconds: 15 }
    - { type: Pods, value: 4, periodSeconds: 15 }
  selectPolicy: Max
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - { type: Percent, value: 50, periodSeconds: 60 }
{{- end }}

{{/* Connections from some namespaces. */}}
{{- define "otpost.namespaces" -}}
- namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{ toJson . }}
{{- end }}
