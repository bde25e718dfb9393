{{- define "parakeet.name" -}}
{{- printf "%s-%s" .Release.Name "parakeet" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "parakeet.selector" -}}
app.kubernetes.io/name: parakeet-service
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "parakeet.labels" -}}
{{ include "parakeet.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
