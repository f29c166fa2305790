{{- define "ncps.labels" -}}
app.kubernetes.io/name: ncps
{{- end }}

{{- define "ncps.edge" -}}
app.kubernetes.io/component: edge
{{ include "ncps.labels" . }}
{{- end }}

{{- define "ncps.control" -}}
app.kubernetes.io/component: control
{{ include "ncps.labels" . }}
{{- end }}

{{- /* Pods are renewed when the configuration changes. */ -}}
{{- define "ncps.annotations" -}}
checksum/config: {{ toYaml .Values.config | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What all pods have in common: who they run as, and where. With tolerations of its own: (dict "root" $
"tolerations" ...). */ -}}
{{- define "ncps.pod" -}}
serviceAccountName: ncps
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .root.Values.tolerations (.tolerations | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- /* The same of containers: what they may write, how they are probed. There is no preStop hook: with shutdown.delay
the program itself goes on while load balancers notice. The kernel takes the connection of livenessProbe, also while all of
--max-connections are busy: a request would wait in its queue then, and the pod be killed with all its downloads. */ -}}
{{- define "ncps.container" -}}
name: ncps
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
startupProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: 2
  failureThreshold: 150
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  tcpSocket:
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- define "ncps.env" -}}
- name: RUNTIME_DIRECTORY
  value: /run/ncps
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ncps.mounts" -}}
- name: config
  mountPath: /etc/ncps/config
  readOnly: true
- name: data
  mountPath: /var/lib/ncps
- name: run
  mountPath: /run/ncps
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ncps.volumes" -}}
- name: config
  configMap:
    name: ncps
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A volume for the data that outlives the pod: (dict "root" $ "size" ...). */ -}}
{{- define "ncps.claim" -}}
volumeClaimTemplates:
  - metadata:
      name: data
      labels:
        {{- include "ncps.labels" .root | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .root.Values.storage.className }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size }}
{{- end }}

{{- /* How edges find control and prove themselves: (dict "root" $ "secret" ...). */ -}}
{{- define "ncps.credentials" -}}
- name: ca
  secret:
    secretName: {{ .root.Values.secrets.controlTls }}
    defaultMode: 0440
    items:
      - key: ca.crt
        path: ca.crt
- name: token
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end }}

{{- define "ncps.credentialMounts" -}}
- name: ca
  mountPath: /etc/ncps/ca
  readOnly: true
- name: token
  mountPath: /etc/ncps/token
  readOnly: true
{{- end }}

{{- define "ncps.podName" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
