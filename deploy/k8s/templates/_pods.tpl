{{/* The parts of a pod. Every container of the chart, in Deployments, Jobs and tests, is made here. */}}

{{- define "tollgate.podSecurity" -}}
runAsNonRoot: true
{{- if .Values.podSecurity.fixedIds }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tollgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Memory may not exceed what was reserved; CPU may, unless a limit is asked for. */}}
{{- define "tollgate.resources" -}}
requests:
  cpu: {{ .cpu | quote }}
  memory: {{ .memory | quote }}
limits:
  {{- with .cpuLimit }}
  cpu: {{ . | quote }}
  {{- end }}
  memory: {{ .memory | quote }}
{{- end -}}

{{/* Where the secrets' files are: one variable per file. Argument: the list of secrets. */}}
{{- define "tollgate.secretVariables" -}}
{{- range . }}
- name: TOLLGATE_{{ upper .file }}_FILE
  value: /var/run/secrets/tollgate/{{ .file }}
{{- end }}
{{- end -}}

{{- define "tollgate.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .secrets }}
- name: secrets
  mountPath: /var/run/secrets/tollgate
  readOnly: true
{{- end }}
{{- if .providerSecret }}
- name: providers
  mountPath: /var/run/secrets/tollgate-providers
  readOnly: true
{{- end }}
{{- if .root.Values.caBundle.configMapName }}
- name: ca
  mountPath: /etc/tollgate/ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "tollgate.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .secret }}
          items:
            - key: {{ .key }}
              path: {{ .file }}
      {{- end }}
{{- end }}
{{- with .providerSecret }}
- name: providers
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- if .root.Values.caBundle.configMapName }}
- name: ca
  configMap:
    name: {{ .root.Values.caBundle.configMapName }}
    items:
      - key: {{ .root.Values.caBundle.key }}
        path: ca.crt
{{- end }}
{{- end -}}

{{/* Where a pod may run: the same for every role of a row. */}}
{{- define "tollgate.placement" -}}
{{- with .row.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .row.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .row.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .row.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .row.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tollgate.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ ternary "DoNotSchedule" "ScheduleAnyway" (ge (int .root.Values.topology.zones) 3) }}
    labelSelector:
      matchLabels:
        {{- include "tollgate.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tollgate.selector" . | nindent 8 }}
{{- end -}}

{{/* The image may be distroless, so that below 1.30 Python is what can wait. */}}
{{- define "tollgate.preStop" -}}
preStop:
  {{- if semverCompare ">=1.30.0-0" (include "tollgate.kubeVersion" .) }}
  sleep:
    seconds: {{ .Values.drain.preStopSeconds }}
  {{- else }}
  exec:
    command: ["python", "-c", "import time; time.sleep({{ .Values.drain.preStopSeconds }})"]
  {{- end }}
{{- end -}}

{{- define "tollgate.probes" -}}
startupProbe:
  grpc: {port: 8086, service: startup}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  grpc: {port: 8086, service: live}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  grpc: {port: 8086, service: ready}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Deployment's pod: dict root, service, row, facts, role. */}}
{{- define "tollgate.pod" -}}
{{- $root := .root -}}
{{- $secrets := list -}}
{{- $providerSecret := "" -}}
{{- if not $root.Values.diagnosticMode -}}
{{- $secrets = fromYamlArray (include "tollgate.secrets" .) -}}
{{- $providerSecret = ternary $root.Values.providers.secretName "" .facts.providers -}}
{{- end -}}
{{- $parts := dict "root" $root "secrets" $secrets "providerSecret" $providerSecret -}}
metadata:
  labels:
    {{- include "tollgate.labels" . | nindent 4 }}
    {{- with .row.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/settings: {{ include "tollgate.settings" . | sha256sum }}
    {{- with merge (deepCopy .row.podAnnotations) $root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tollgate.fullname" $root }}-{{ .service }}
  automountServiceAccountToken: false
  # Kubernetes would add TOLLGATE_… variables of its own, and programs refuse unknown ones.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $root.Values.drain.gracePeriodSeconds }}
  securityContext:
    {{- include "tollgate.podSecurity" $root | nindent 4 }}
  {{- include "tollgate.pullSecrets" . | nindent 2 }}
  {{- include "tollgate.placement" . | nindent 2 }}
  {{- include "tollgate.spread" . | nindent 2 }}
  containers:
    - name: {{ .service }}
      image: {{ include "tollgate.image" . | quote }}
      imagePullPolicy: {{ .row.image.pullPolicy }}
      {{- if $root.Values.diagnosticMode }}
      command:
        - python
        - -c
        - "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"
      {{- else }}
      args: [{{ .role }}]
      {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "tollgate.fullname" $root }}-{{ .service }}
      {{- if or $secrets .row.extraEnv }}
      env:
        {{- include "tollgate.secretVariables" $secrets | nindent 8 }}
        {{- with .row.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        {{- if eq .role "serve" }}
        - {name: grpc, containerPort: 8443}
        {{- if .facts.providers }}
        - {name: notifications, containerPort: 8080}
        {{- end }}
        {{- end }}
        - {name: health, containerPort: 8086}
        - {name: metrics, containerPort: 9464}
      {{- if not $root.Values.diagnosticMode }}
      {{- include "tollgate.probes" $root | nindent 6 }}
      lifecycle:
        {{- include "tollgate.preStop" $root | nindent 8 }}
      {{- end }}
      resources:
        {{- include "tollgate.resources" (index .row .role).resources | nindent 8 }}
      securityContext:
        {{- include "tollgate.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "tollgate.mounts" $parts | nindent 8 }}
        {{- with .row.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .row.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "tollgate.volumes" $parts | nindent 4 }}
    {{- with .row.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
