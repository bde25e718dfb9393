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

{{- define "parakeet.ray.selector" -}}
app.kubernetes.io/name: parakeet-service-ray
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "parakeet.ray.pod" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: models
    {{- if .Values.models.enabled }}
    persistentVolumeClaim:
      claimName: {{ .Values.models.existingClaim | default (printf "%s-models" (include "parakeet.name" .)) }}
    {{- else }}
    emptyDir: {}
    {{- end }}
  - name: shared-memory
    emptyDir:
      medium: Memory
      sizeLimit: 1Gi
  - name: scratch
    emptyDir: {}
  - name: home
    emptyDir: {}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "parakeet.ray.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.ray.secretNames }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: models
    mountPath: /models
  - name: shared-memory
    mountPath: /dev/shm
  - name: scratch
    mountPath: /tmp
  - name: home
    mountPath: /home/parakeet
{{- end -}}

{{- define "parakeet.ray.env" -}}
- name: RAY_AUTH_MODE
  value: token
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.ray.tokenSecret }}
      key: CLUSTER_TOKEN
{{- end -}}
