"""Renders the chart in process, and finds every pod template and container in what came out."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

# The validator parses megabytes of schemas on every call; the same files serve all calls.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "k8s"
MODES = ("minimal", "vpc", "airgap")
KUBERNETES = ("1.27", "1.30", "1.32", "1.34", "1.37")
SERVICES = ("metering", "wallet", "invoicing", "gateway", "identity")
LONG_RUNNING = ("Deployment", "StatefulSet")

Document = dict[str, Any]


@dataclass(frozen=True)
class PodTemplate:
    """A pod as some object of the chart would make it."""

    owner: str  # kind/name, to name the offender
    kind: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Document


@cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def mode_values(mode: str) -> Document:
    loaded: Document = yaml.safe_load((CHART / "ci" / f"{mode}.yaml").read_text())
    return loaded


def overlay(values: Document, *changes: Document) -> Document:
    """`values` with nested keys replaced, as several -f files would."""
    result = copy.deepcopy(values)
    for change in changes:
        for key, value in change.items():
            inner = result.get(key)
            if isinstance(value, dict) and isinstance(inner, dict):
                result[key] = overlay(inner, value)
            else:
                result[key] = copy.deepcopy(value)
    return result


def render_files(
    values: Document, *, kubernetes: str = "1.30", upgrade: bool = False
) -> dict[str, str]:
    asked = overlay(values, {"capabilities": {"override": {"kubeVersion": kubernetes}}})
    files: dict[str, str] = chart().render(
        asked,
        name="t",
        namespace="billing",
        is_install=not upgrade,
        is_upgrade=upgrade,
        revision=2 if upgrade else 1,
    )
    return files


def render(values: Document, **how: Any) -> list[Document]:
    return [
        document
        for name, text in render_files(values, **how).items()
        if not name.endswith((".txt", ".tpl"))
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
        if document
    ]


def validate(document: Document, kubernetes: str) -> None:
    """Raise where a release of Kubernetes would not know a field or not take a value."""
    _validate_text(json.dumps(document, sort_keys=True), kubernetes)


@cache  # most objects are the same in several modes and on upgrade
def _validate_text(text: str, kubernetes: str) -> None:
    kubernetes_validate.validate(json.loads(text), kubernetes, strict=True)


def by_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def pod_templates(documents: list[Document]) -> Iterator[PodTemplate]:
    for document in documents:
        kind = document["kind"]
        match kind:
            case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
                pod = document["spec"]["template"]
            case "CronJob":
                pod = document["spec"]["jobTemplate"]["spec"]["template"]
            case "Pod":
                pod = document
            case _:
                continue
        metadata = pod["metadata"]
        yield PodTemplate(
            owner=f"{kind}/{document['metadata']['name']}",
            kind=kind,
            labels=metadata["labels"],
            annotations=metadata.get("annotations") or {},
            spec=pod["spec"],
        )


def containers(pod: PodTemplate) -> list[Document]:
    return [*pod.spec.get("initContainers", []), *pod.spec["containers"]]


def environment(documents: list[Document], pod: PodTemplate) -> dict[str, str]:
    """Literal variables of a pod's first container, its ConfigMap included."""
    maps = by_kind(documents, "ConfigMap")
    container = pod.spec["containers"][0]
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]["data"]
    variables |= {v["name"]: v["value"] for v in container.get("env", []) if "value" in v}
    return variables
