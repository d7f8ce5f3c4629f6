{{/* The names, labels and images that every template shares. */}}

{{- define "tollgate.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 30 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 30 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* Which pods are meant: dict root, service, role (role may be empty: all roles). */}}
{{- define "tollgate.selector" -}}
app.kubernetes.io/name: tollgate
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .service }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .role }}
tollgate/role: {{ . }}
{{- end }}
{{- end -}}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of an object: dict root, own (a map, may be absent). */}}
{{- define "tollgate.annotations" -}}
{{- $all := merge (deepCopy (default dict .own)) .root.Values.commonAnnotations -}}
{{- with $all }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Image of a service: dict root, service, row. The digest wins over the tag. */}}
{{- define "tollgate.image" -}}
{{- $image := .row.image -}}
{{- $registry := default $image.registry .root.Values.global.imageRegistry -}}
{{- $repository := default (printf "tollgate/%s" .service) $image.repository -}}
{{- $where := printf "%s/%s" $registry $repository -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $where $image.digest }}
{{- else -}}
{{ printf "%s:%s" $where (default .root.Chart.AppVersion $image.tag) }}
{{- end -}}
{{- end -}}

{{- define "tollgate.pullSecrets" -}}
{{- with concat .root.Values.global.imagePullSecrets .row.image.pullSecrets | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tollgate.kubeVersion" -}}
{{ .Values.capabilities.override.kubeVersion | default .Capabilities.KubeVersion.Version }}
{{- end -}}

{{- define "tollgate.databaseSecretName" -}}
{{ default (printf "tollgate-%s-database" .service) .row.databaseSecret.name }}
{{- end -}}

{{- define "tollgate.migrateSecretName" -}}
{{ default (printf "tollgate-%s-migrate" .service) .row.migrateSecret.name }}
{{- end -}}
