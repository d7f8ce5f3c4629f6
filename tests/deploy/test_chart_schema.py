"""The chart takes what it documents, refuses everything else, and says how to mend it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.deploy.rendering import (
    CHART,
    KUBERNETES,
    MODES,
    SERVICES,
    chart,
    mode_values,
    overlay,
    render,
    validate,
)

# Kinds whose schemas are the API extensions' own, not Kubernetes'.
EXTENSIONS = {"PodMonitor", "HTTPRoute"}
PEER = {"ipBlock": {"cidr": "10.0.0.0/24"}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("upgrade", [False, True], ids=["install", "upgrade"])
def test_every_object_is_valid_for_every_release(mode: str, kubernetes: str, upgrade: bool) -> None:
    documents = render(mode_values(mode), kubernetes=kubernetes, upgrade=upgrade)
    validated = 0
    for document in documents:
        if document["kind"] in EXTENSIONS:
            continue
        validate(document, kubernetes)
        validated += 1
    assert validated >= 70


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_strict_lint_finds_nothing(mode: str, kubernetes: str) -> None:
    report = helm_python.lint(CHART, mode_values(mode), strict=True, kube_version=kubernetes)
    assert report["errors"] == []
    # Severity 1 is advice: the chart has no icon, since an icon is an address on the internet.
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("mode", MODES)
def test_names_are_unique_and_all_belong_to_the_release(mode: str) -> None:
    documents = render(mode_values(mode))
    names = [(d["kind"], d["metadata"]["name"]) for d in documents]
    assert len(names) == len(set(names))
    for document in documents:
        assert document["metadata"]["name"].startswith("t-tollgate")
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "t"
        assert len(document["metadata"]["name"]) <= 63


def _objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from _objects(value, f"{path}/{key}")


def test_the_schema_is_closed_at_every_level() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    objects = list(_objects(schema))
    assert len(objects) > 40
    for path, node in objects:
        opaque = node.get("$comment") == "a Kubernetes object, checked by the API server"
        rest = node.get("additionalProperties")
        assert opaque or rest is False or rest == {"type": "string"}, path


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))


def _nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


ALL_PATHS = [p for p in _leaves(chart().values) if p[:1] != ("services",) or p[1:2] != ("wallet",)]


def test_every_value_refuses_a_wrong_type() -> None:
    """No value, in any place, is so loosely typed that a list of a list passes for it."""
    for path in ALL_PATHS:
        with pytest.raises(helm_python.HelmValuesError) as refused:
            chart().validate_schema(_nested(path, [["wrong"]]))
        assert path[-1] in str(refused.value)


def test_every_level_refuses_an_unknown_key() -> None:
    maps_of_texts = {"labels", "annotations", "nodeSelector", "podLabels", "podAnnotations",
                     "commonLabels", "commonAnnotations"}  # fmt: skip
    values = chart().values
    levels = {p[:-1] for p in ALL_PATHS}
    assert len(levels) > 30
    for level in levels:
        if level and level[-1] in maps_of_texts:
            continue
        with pytest.raises(helm_python.HelmValuesError, match="unheardOf"):
            chart().validate_schema(_nested((*level, "unheardOf"), "x"))
    assert set(values["services"]) == set(SERVICES)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a required name is missing", {"redis": {"secret": {"name": None}}},
     "missing property 'name'"),
    ("an unknown TLS mode", {"postgres": {"sslMode": "no-verify"}}, "sslMode"),
    ("an unknown pool mode", {"postgres": {"poolMode": "session"}}, "poolMode"),
    ("a short digest", {"services": {"wallet": {"image": {"digest": "sha256:12"}}}}, "digest"),
    ("a registry with a path", {"global": {"imageRegistry": "mirror/x"}}, "imageRegistry"),
    ("a proxy with a password", {"proxy": {"url": "http://u:p@proxy:3128"}}, "proxy/url"),
    ("an address that is no CIDR", {"postgres": {"egress": {"to": [{"ipBlock": {"cidr": "db"}}]}}},
     "cidr"),
    ("a peer that is anybody", {"redis": {"egress": {"to": [{}]}}}, "redis/egress/to"),
    ("a peer with a misspelt selector", {"networkPolicy": {"edge": [{"podSelectors": {}}]}},
     "podSelectors"),
    ("no DNS", {"networkPolicy": {"dns": []}}, "dns"),
    ("no pods", {"services": {"wallet": {"serve": {"replicas": 0}}}}, "replicas"),
    ("scaling from one pod", {"services": {"wallet": {"serve": {"autoscaling":
     {"minReplicas": 1}}}}}, "minReplicas"),
    ("a third way in", {"edge": {"kind": "nodePort"}}, "edge/kind"),
    ("a variable with two sources", {"services": {"wallet": {"extraEnv":
     [{"name": "A", "value": "1", "valueFrom": {}}]}}}, "extraEnv"),
    ("memory without a unit one can read", {"migrations": {"resources": {"memory": "lots"}}},
     "memory"),
    ("a service that does not exist", {"services": {"portal": {}}}, "portal"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "word"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_the_schema_refuses(values: dict[str, Any], word: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        chart().validate_schema(overlay(mode_values("minimal"), values))
    assert word in str(refused.value)


ACCEPTED: list[dict[str, Any]] = [
    {"postgres": {"sslMode": "require", "poolMode": "transaction"}},
    {"services": {"wallet": {"image": {"digest": "sha256:" + "a" * 64}}}},
    {"proxy": {"url": "http://proxy.internal:3128", "egress": {"to": [PEER]}}},
    {"services": {"gateway": {"extraEnv": [{"name": "A_NAME", "value": "1"}]}}},
    {"services": {"gateway": {"extraEnv": [{"name": "A_PASSWORD", "valueFrom": {
        "secretKeyRef": {"name": "own", "key": "password"}}}]}}},
    {"services": {"identity": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]}}}}}},
    {"services": {"identity": {"extraVolumes": [{"name": "own", "emptyDir": {}}],
                               "extraVolumeMounts": [{"name": "own", "mountPath": "/own"}]}}},
    {"extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}}]},
    {"diagnosticMode": True},
    {"networkPolicy": {"enabled": False}, "postgres": {"egress": {"to": []}}},
    {"migrations": {"enabled": False}},
]  # fmt: skip


@pytest.mark.parametrize("values", ACCEPTED, ids=[str(n) for n in range(len(ACCEPTED))])
def test_the_chart_accepts(values: dict[str, Any]) -> None:
    for document in render(overlay(mode_values("minimal"), values), kubernetes="1.32"):
        validate(document, "1.32")


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"drain": {"gracePeriodSeconds": 25}}, "set it above preStopSeconds + drainSeconds (25)"),
    ({"postgres": {"egress": {"to": []}}}, "name its addresses in postgres.egress.to"),
    ({"redis": {"egress": {"to": []}}}, "name its addresses in redis.egress.to"),
    ({"telemetry": {"otlpEndpoint": "http://c:4317"}}, "name the collector in telemetry.egress.to"),
    ({"proxy": {"url": "http://proxy:3128"}}, "name the proxy in proxy.egress.to"),
    ({"edge": {"kind": "ingress", "host": "n.example.com", "tlsSecretName": "tls"}},
     "name the ingress pods in networkPolicy.edge"),
    ({"edge": {"kind": "ingress", "tlsSecretName": "tls"}, "networkPolicy": {"edge": [PEER]}},
     "set edge.host"),
    ({"edge": {"kind": "ingress", "host": "n.example.com"}, "networkPolicy": {"edge": [PEER]}},
     "name an existing TLS Secret in edge.tlsSecretName"),
    ({"edge": {"kind": "httpRoute", "host": "n.example.com"}, "networkPolicy": {"edge": [PEER]}},
     "set edge.gateway.name"),
    ({"global": {"imageRegistry": ""}},
     "set global.imageRegistry or services.wallet.image.registry"),
    ({"services": {"wallet": {"image": {"tag": "latest"}}}}, "name a release, or a digest"),
    ({"services": {"wallet": {"databaseSecret": {"name": "x"}, "migrateSecret": {"name": "x"}}}},
     "name different Secrets or keys in databaseSecret and migrateSecret"),
    ({"services": {"wallet": {"serve": {"autoscaling": {"enabled": True, "minReplicas": 9}}}}},
     "raise maxReplicas"),
    ({"services": {"gateway": {"extraEnv": [{"name": "TOLLGATE_SERVICE_SECRET", "value": "x"}]}}},
     "set TOLLGATE_SERVICE_SECRET_FILE to a mounted file"),
    ({"commonLabels": {"tollgate/role": "serve"}}, "commonLabels sets tollgate/role"),
    ({"services": {"wallet": {"podLabels": {"app.kubernetes.io/component": "x"}}}},
     "services.wallet.podLabels sets app.kubernetes.io/component"),
    ({"services": {"gateway": {"extraEnv": [{"name": "TOLLGATE_LISTEN", "value": "x"}]}}},
     "use the value made for it"),
    ({"services": {"wallet": {"extraEnv": [{"name": "TOLLGATE_FAILPOINTS", "value": "/tmp/x"}]}}},
     "it is for tests on loopback"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "fix"), CONTRADICTIONS, ids=[c[1] for c in CONTRADICTIONS])
def test_a_contradiction_fails_and_says_the_fix(values: dict[str, Any], fix: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as failed:
        render(overlay(mode_values("minimal"), values))
    assert fix in str(failed.value)


def test_all_contradictions_are_told_at_once() -> None:
    values = overlay(mode_values("minimal"), CONTRADICTIONS[1][0], CONTRADICTIONS[2][0])
    with pytest.raises(helm_python.HelmRenderError) as failed:
        render(values)
    assert "postgres.egress.to" in str(failed.value)
    assert "redis.egress.to" in str(failed.value)


@pytest.mark.parametrize("mode", MODES)
def test_the_install_engine_takes_every_mode(mode: str) -> None:
    """As `helm install` would: hooks are kept apart, guards come before what they guard."""
    with helm_python.Config(storage_driver="memory") as engine:
        release = engine.install(
            chart(), "t", mode_values(mode), namespace="billing", dry_run="client"
        )
    kinds = [d["kind"] for d in yaml.safe_load_all(release["manifest"]) if d]
    assert "Job" not in kinds
    assert "Pod" not in kinds
    assert kinds.count("Deployment") == 10
    last_policy = max(n for n, kind in enumerate(kinds) if kind == "NetworkPolicy")
    assert last_policy < kinds.index("Deployment")
    assert "helm test t" in release["notes"]


def test_the_chart_packages_and_renders_from_its_package() -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(helm_python.package(CHART, destination=folder))
        with helm_python.Chart.load(archive) as packaged:
            assert packaged.version == chart().version
            files = {f["name"] for f in packaged.files}
            assert {"images.txt", "README.md"} <= files
            assert not any(name.startswith("ci/") for name in files)
            again = packaged.render(mode_values("minimal"), name="t", namespace="billing")
    assert again == chart().render(mode_values("minimal"), name="t", namespace="billing")
