"""Boards as Kubernetes ConfigMaps, as the sidecar of Grafana's Helm chart collects them: by the label."""

from textwrap import indent

HEAD = """\
# Written by `scripts/generate`: change the code, not this file. The sidecar of Grafana's chart looks for the label,
# and puts the board into the folder where its folderAnnotation is grafana_folder.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {uid}
  labels:
    app.kubernetes.io/part-of: trainwatt
    grafana_dashboard: "1"
  annotations:
    grafana_folder: trainwatt
data:
  {uid}.json: |
"""


def configmap(uid: str, board: str) -> str:
    """YAML of a ConfigMap that holds one board, whose JSON is `board`: one has room for 1 MiB."""
    return HEAD.format(uid=uid) + indent(board, "    ")
