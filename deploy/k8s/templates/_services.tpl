{{/* What is fixed about each service: whom it calls, and what it alone has. Same keys in every row.
     A change here changes the network policies and the addresses that programs are given. */}}
{{- define "tollgate.architecture" -}}
metering:  {calls: [wallet, invoicing, identity], providers: false, pepper: false}
wallet:    {calls: [identity], providers: false, pepper: false}
invoicing: {calls: [wallet, gateway, metering, identity], providers: false, pepper: false}
gateway:   {calls: [identity], providers: true, pepper: false}
identity:  {calls: [], providers: false, pepper: true}
{{- end -}}

{{/* Settings of a service that are no secrets: dict root, service, row, facts. */}}
{{- define "tollgate.settings" -}}
{{- $root := .root -}}
TOLLGATE_LISTEN: "0.0.0.0:8443"
TOLLGATE_HEALTH_LISTEN: "0.0.0.0:8086"
TOLLGATE_METRICS_LISTEN: "0.0.0.0:9464"
{{- if .facts.providers }}
TOLLGATE_NOTIFICATIONS_LISTEN: "0.0.0.0:8080"
{{- if ne $root.Values.edge.kind "none" }}
TOLLGATE_NOTIFICATIONS_URL: {{ printf "https://%s" $root.Values.edge.host | quote }}
{{- end }}
{{- with $root.Values.proxy.url }}
TOLLGATE_PROVIDER_PROXY: {{ . | quote }}
{{- end }}
{{- if $root.Values.caBundle.configMapName }}
TOLLGATE_PROVIDER_CA_FILE: /etc/tollgate/ca/ca.crt
{{- end }}
{{- end }}
TOLLGATE_EXPOSE: "true"
{{- $peers := list }}
{{- range .facts.calls }}
{{- $peers = append $peers (printf "%s=%s-%s-headless.%s.svc:8443" . (include "tollgate.fullname" $root) . $root.Release.Namespace) }}
{{- end }}
{{- with $peers }}
TOLLGATE_PEERS: {{ join "," . | quote }}
{{- end }}
TOLLGATE_POOL_MODE: {{ $root.Values.postgres.poolMode | quote }}
TOLLGATE_POOL_SIZE: {{ .row.poolSize | quote }}
TOLLGATE_LANES: {{ .row.lanes | quote }}
TOLLGATE_DRAIN_SECONDS: {{ $root.Values.drain.drainSeconds | quote }}
{{- with $root.Values.telemetry.otlpEndpoint }}
TOLLGATE_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{ include "tollgate.sharedSettings" . }}
{{- end -}}

{{/* Settings that the migration Job has too. */}}
{{- define "tollgate.sharedSettings" -}}
{{- $root := .root -}}
TOLLGATE_LOG_LEVEL: {{ $root.Values.telemetry.logLevel | quote }}
PGSSLMODE: {{ $root.Values.postgres.sslMode | quote }}
{{- if $root.Values.caBundle.configMapName }}
PGSSLROOTCERT: /etc/tollgate/ca/ca.crt
SSL_CERT_FILE: /etc/tollgate/ca/ca.crt
{{- else }}
PGSSLROOTCERT: /etc/ssl/certs/ca-certificates.crt
{{- end }}
{{- end -}}

{{/* Secrets of a running service, as a list of {file, secret, key}. */}}
{{- define "tollgate.secrets" -}}
- {file: database_url, secret: {{ include "tollgate.databaseSecretName" . }}, key: {{ .row.databaseSecret.key }}}
- {file: redis_url, secret: {{ .root.Values.redis.secret.name }}, key: {{ .root.Values.redis.secret.key }}}
- {file: service_secret, secret: {{ .root.Values.serviceSecret.name }}, key: {{ .root.Values.serviceSecret.key }}}
{{- if .facts.pepper }}
- {file: api_key_pepper, secret: {{ .root.Values.apiKeyPepper.name }}, key: {{ .root.Values.apiKeyPepper.key }}}
{{- end }}
{{- end -}}

{{/* Secrets of a migration Job: the owner of the schema, and nothing else. */}}
{{- define "tollgate.migrateSecrets" -}}
- {file: migrate_database_url, secret: {{ include "tollgate.migrateSecretName" . }}, key: {{ .row.migrateSecret.key }}}
{{- end -}}
