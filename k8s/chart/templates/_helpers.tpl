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

{{/* The settings. `/scale` asks for as many workers as the autoscaler may start. */}}
{{- define "otpost.settings" -}}
{{- if and (ne .Values.worker.scaler "none") (not .Values.settings.SCALE_MAX) }}
SCALE_MAX: {{ .Values.worker.maxReplicas | int | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The pod of a component: a dictionary of root and component. */}}
{{- define "otpost.pod" -}}
{{- $values := .root.Values -}}
{{- $own := get $values .component -}}
{{- $grace := coalesce (get ($own.env | default dict) "SHUTDOWN_GRACE_SECONDS") $values.settings.SHUTDOWN_GRACE_SECONDS "25" -}}
metadata:
  labels:
    {{- include "otpost.labels" .component | nindent 4 }}
  annotations:
    checksum/settings: {{ include "otpost.settings" .root | trim | sha256sum }}
    {{- range $name, $value := $own.podAnnotations }}
    {{ $name }}: {{ $value | quote }}
    {{- end }}
spec:
  serviceAccountName: otpost
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add 15 $grace }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
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
      {{- if or $values.secret.name $own.env }}
      env:
        {{- range ternary $own.files list (ne $values.secret.name "") }}
        - { name: {{ . }}_FILE, value: /run/secrets/otpost/{{ . }} }
        {{- end }}
        {{- range $name, $value := $own.env }}
        - { name: {{ $name }}, value: {{ $value | quote }} }
        {{- end }}
      {{- end }}
      {{- if or $values.secret.name $own.mounts }}
      volumeMounts:
        {{- if $values.secret.name }}
        - name: secrets
          mountPath: /run/secrets/otpost
          readOnly: true
        {{- end }}
        {{- range $at, $mount := $own.mounts }}
        - name: mount-{{ $at }}
          mountPath: {{ $mount.path | quote }}
          readOnly: true
        {{- end }}
      {{- end }}
      startupProbe:
        httpGet: { path: /livez, port: ops }
        periodSeconds: 1
        failureThreshold: 150
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
  {{- if or $values.secret.name $own.mounts }}
  volumes:
    {{- with $values.secret.name }}
    - name: secrets
      secret:
        secretName: {{ . | quote }}
        defaultMode: 0440
        items:
          {{- range $own.files }}
          - { key: {{ . }}, path: {{ . }} }
          {{- end }}
    {{- end }}
    {{- range $at, $mount := $own.mounts }}
    - name: mount-{{ $at }}
      {{- if $mount.secret }}
      secret:
        secretName: {{ $mount.secret | quote }}
        defaultMode: 0440
      {{- else }}
      configMap:
        name: {{ $mount.configMap | quote }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* Refuses values of a component that the schema cannot compare with each other. */}}
{{- define "otpost.checks" -}}
{{- $own := get .root.Values .component -}}
{{- if gt (int $own.minReplicas) (int $own.maxReplicas) -}}
{{- fail (printf "%s.minReplicas is %v, and maxReplicas %v: the least is not above the most" .component $own.minReplicas $own.maxReplicas) -}}
{{- end -}}
{{- $paths := list -}}
{{- range $own.mounts -}}
{{- $path := trimSuffix "/" .path -}}
{{- if has $path $paths -}}
{{- fail (printf "%s.mounts has the path %s twice: each mount has its own" $.component $path) -}}
{{- end -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- end }}

{{/* The Deployment and the PodDisruptionBudget of a component, from the same dictionary. */}}
{{- define "otpost.deployment" -}}
{{- include "otpost.checks" . -}}
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
      {{- if eq .component "worker" }}
      maxSurge: 0
      maxUnavailable: 25%
      {{- else }}
      maxSurge: 25%
      maxUnavailable: 0
      {{- end }}
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
