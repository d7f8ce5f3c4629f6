"""Posture: what must hold for every pod and every container, N of N, whatever made it."""

from __future__ import annotations

import re

import pytest

from tests.deploy.rendering import (
    KUBERNETES,
    LONG_RUNNING,
    MODES,
    Document,
    PodTemplate,
    by_kind,
    containers,
    mode_values,
    overlay,
    pod_templates,
    render,
)

SECRET_WORDS = re.compile(r"(?i)secret|password|passwd|pepper|token|sealing|database_url|redis_url")


def _pods(mode: str, **how: object) -> list[PodTemplate]:
    pods = list(pod_templates(render(mode_values(mode), **how)))
    # Two roles, a migration and a check for each of five services: the walk misses none.
    assert len(pods) == 20, [p.owner for p in pods]
    return pods


@pytest.fixture(params=MODES)
def pods(request: pytest.FixtureRequest) -> list[PodTemplate]:
    return _pods(request.param)


@pytest.fixture(params=MODES)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(mode_values(request.param))


def test_every_container_meets_the_restricted_standard(pods: list[PodTemplate]) -> None:
    for pod in pods:
        outer = pod.spec["securityContext"]
        assert outer["runAsNonRoot"] is True, pod.owner
        assert outer["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        assert outer.get("runAsUser", 65532) == 65532, pod.owner
        for forbidden in (
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "hostUsers",
            "shareProcessNamespace",
        ):
            assert not pod.spec.get(forbidden), f"{pod.owner}: {forbidden}"
        for container in containers(pod):
            where = f"{pod.owner}/{container['name']}"
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["readOnlyRootFilesystem"] is True, where
            assert security["runAsNonRoot"] is True, where
            assert security["capabilities"] == {"drop": ["ALL"]}, where
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert not security.get("privileged"), where
            assert all("hostPort" not in port for port in container.get("ports", [])), where
        for volume in pod.spec["volumes"]:
            kinds = set(volume) - {"name"}
            assert kinds <= {"emptyDir", "projected", "configMap", "secret"}, (
                f"{pod.owner}: {kinds}"
            )


def test_every_container_can_write_to_tmp_and_nowhere_else(pods: list[PodTemplate]) -> None:
    for pod in pods:
        volumes = {v["name"]: v for v in pod.spec["volumes"]}
        for container in containers(pod):
            for mount in container["volumeMounts"]:
                writable = "emptyDir" in volumes[mount["name"]]
                assert writable == (mount["mountPath"] == "/tmp"), pod.owner
                assert writable or mount["readOnly"] is True, pod.owner


def test_no_pod_and_no_account_has_a_token(
    pods: list[PodTemplate], documents: list[Document]
) -> None:
    for pod in pods:
        assert pod.spec["automountServiceAccountToken"] is False, pod.owner
    accounts = by_kind(documents, "ServiceAccount")
    assert len(accounts) == 10
    for name, account in accounts.items():
        assert account["automountServiceAccountToken"] is False, name


def test_no_pod_is_given_service_links(pods: list[PodTemplate]) -> None:
    """Kubernetes would inject TOLLGATE_…_SERVICE_HOST, and a program refuses unknown settings."""
    for pod in pods:
        assert pod.spec["enableServiceLinks"] is False, pod.owner


def test_every_container_reserves_what_it_may_use(pods: list[PodTemplate]) -> None:
    for pod in pods:
        for container in containers(pod):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, pod.owner
            assert resources["limits"]["memory"] == resources["requests"]["memory"], pod.owner


def test_cpu_is_limited_only_where_asked_for() -> None:
    limited = {
        pod.owner
        for pod in _pods("vpc")
        for container in containers(pod)
        if "cpu" in container["resources"]["limits"]
    }
    assert limited == {"Deployment/t-tollgate-wallet-serve"}


def test_every_program_is_probed_by_grpc_on_its_health_port(pods: list[PodTemplate]) -> None:
    probed = 0
    for pod in pods:
        if pod.kind not in LONG_RUNNING:
            continue
        container = pod.spec["containers"][0]
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        for probe, asks in (
            ("startupProbe", "startup"),
            ("livenessProbe", "live"),
            ("readinessProbe", "ready"),
        ):
            assert container[probe]["grpc"] == {"port": ports["health"], "service": asks}, pod.owner
        probed += 1
    assert probed == 10


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_program_has_time_to_drain(kubernetes: str) -> None:
    slept = 0
    for pod in _pods("minimal", kubernetes=kubernetes):
        if pod.kind not in LONG_RUNNING:
            continue
        stop = pod.spec["containers"][0]["lifecycle"]["preStop"]
        if kubernetes == "1.27":
            command = stop["exec"]["command"]
            assert command[:2] == ["python", "-c"], "a distroless image has no shell"
            assert "time.sleep(5)" in command[2]
        else:
            assert stop == {"sleep": {"seconds": 5}}
        assert pod.spec["terminationGracePeriodSeconds"] == 40
        slept += 1
    assert slept == 10


def test_no_image_is_called_latest(pods: list[PodTemplate]) -> None:
    for pod in pods:
        for container in containers(pod):
            image = container["image"].rpartition("/")[2]
            assert re.search(r":[^@:]+$|@sha256:[0-9a-f]{64}$", image), pod.owner
            assert ":latest" not in image, pod.owner


def test_no_secret_is_written_into_any_object(documents: list[Document]) -> None:
    """No variable, ConfigMap or annotation holds one, and no Secret is made."""
    assert by_kind(documents, "Secret") == {}
    for name, config in by_kind(documents, "ConfigMap").items():
        for key, value in config["data"].items():
            assert not SECRET_WORDS.search(key), f"{name}: {key}"
            assert "@" not in value, f"{name}: {key} may carry a password"
    for pod in pod_templates(documents):
        for container in containers(pod):
            for variable in container.get("env", []):
                literal = variable.get("value", "")
                if SECRET_WORDS.search(variable["name"]):
                    assert variable["name"].endswith("_FILE"), f"{pod.owner}: {variable['name']}"
                    assert literal.startswith("/var/run/secrets/tollgate/"), pod.owner
        for key in pod.annotations:
            assert not SECRET_WORDS.search(key), pod.owner


def test_own_containers_are_seen_by_the_walk() -> None:
    """The posture walk reaches what an operator adds; what he adds badly would be found."""
    rows = {"services": {"wallet": {"extraContainers": [{"name": "own", "image": "r/x:1"}]}}}
    pods = pod_templates(render(overlay(mode_values("minimal"), rows)))
    seen = [p.owner for p in pods if any("securityContext" not in c for c in containers(p))]
    assert seen == ["Deployment/t-tollgate-wallet-serve", "Deployment/t-tollgate-wallet-work"]


def test_platform_assigned_ids_leave_the_rest_of_the_posture(pods: list[PodTemplate]) -> None:
    for pod in _pods("airgap"):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod.spec["securityContext"])
    for pod in _pods("minimal"):
        assert pod.spec["securityContext"]["runAsUser"] == 65532
