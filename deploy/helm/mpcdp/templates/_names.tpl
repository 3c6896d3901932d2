{{- define "mpcdp.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}

{{- define "mpcdp.selector" -}}
app.kubernetes.io/name: mpcdp
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "mpcdp.labels" -}}
{{ include "mpcdp.selector" . }}
app.kubernetes.io/component: {{ .Values.role }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* A Job cannot be changed: another task, config or attempt is another Job, and takes the old one's place. */ -}}
{{- define "mpcdp.session" -}}
{{ include "mpcdp.name" . }}-{{ printf "%s\n%s\n%v" .Values.task .Values.config .Values.attempt | sha256sum | trunc 10 }}
{{- end -}}

{{- /* Asks with a little less time than the probe has, so that it is mpcdp that says what was wrong. */ -}}
{{- define "mpcdp.probe" -}}
["mpcdp", "health", "--config", "/etc/mpcdp/{{ .Values.role }}.toml", "--seconds", "10"]
{{- end -}}
