"""The one-host installation: posture of every service, and secrets that stay where they belong."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.settings import Settings
from tests.deploy.rendering import ROOT, SERVICES
from tests.deploy.test_chart_network import CALLS

FOLDER = ROOT / "deploy" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
STORES = ("postgres", "redis")
ONCE = ("provision", *(f"{service}-migrate" for service in SERVICES))
PROGRAMS = (*SERVICES, *(f"{service}-work" for service in SERVICES))


def _service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def filled(environment: dict[str, str]) -> dict[str, str]:
    """Variables as Compose fills them in where .env leaves the defaults."""
    return {k: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", v) for k, v in environment.items()}


def test_the_services_are_the_stores_the_one_shots_and_the_programs() -> None:
    assert sorted(COMPOSE["services"]) == sorted((*STORES, *ONCE, *PROGRAMS))


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_container_is_hardened(name: str) -> None:
    service = _service(name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] not in ("", "0", "root", "0:0")
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    for forbidden in ("privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "env_file"):
        assert forbidden not in service, forbidden
    # Written nowhere but to memory, and Postgres to its volume.
    assert all(mount.startswith("/") for mount in service["tmpfs"])
    mounts = service.get("volumes", [])
    if name == "postgres":
        assert mounts == ["postgres:/var/lib/postgresql"]
    elif name in ("gateway", "gateway-work"):
        assert [m["target"] for m in mounts] == ["/var/run/secrets/tollgate-providers"]
        assert all(m["read_only"] is True for m in mounts)
    else:
        assert mounts == []


@pytest.mark.parametrize("name", [*STORES, *PROGRAMS])
def test_every_lasting_container_is_watched_and_started_again(name: str) -> None:
    service = _service(name)
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    if name in PROGRAMS:
        assert service["healthcheck"]["test"][1:] == [
            "python", "/opt/tollgate/health_check.py", "127.0.0.1:8086",
        ]  # fmt: skip
        assert service["environment"]["TOLLGATE_HEALTH_LISTEN"] == "127.0.0.1:8086"
        drain = int(service["environment"]["TOLLGATE_DRAIN_SECONDS"])
        assert int(service["stop_grace_period"].removesuffix("s")) > drain


def test_only_the_edge_is_published_and_only_on_loopback() -> None:
    published = {name: s["ports"] for name, s in COMPOSE["services"].items() if s.get("ports")}
    assert set(published) == set(SERVICES)
    seen = set()
    for name, ports in published.items():
        inner = []
        for port in ports:
            shape = re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-(\d+)\}:(\d+)", port)
            assert shape, port
            seen.add(shape[1])
            inner.append(int(shape[2]))
        assert inner == ([8443, 8080] if name == "gateway" else [8443])
    assert len(seen) == len(SERVICES) + 1
    assert all("expose" not in s for s in COMPOSE["services"].values())


def test_the_stores_have_no_way_out_and_only_gateway_has_one() -> None:
    networks = COMPOSE["networks"]
    assert networks["stores"] == {"internal": True}
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    assert networks["edge"]["driver_opts"][masquerade] == "false"
    for name, service in COMPOSE["services"].items():
        wanted = {"stores"}
        if name in SERVICES:
            wanted.add("edge")
        if name in ("gateway", "gateway-work"):
            wanted.add("outside")
        assert set(service["networks"]) == wanted, name


def test_each_service_is_provisioned_migrated_and_then_started() -> None:
    done, healthy = "service_completed_successfully", "service_healthy"
    assert _service("provision")["depends_on"] == {"postgres": {"condition": healthy}}
    assert _service("provision")["command"] == list(SERVICES)
    for service in SERVICES:
        migrate = _service(f"{service}-migrate")
        assert migrate["command"] == ["migrate"]
        assert migrate["restart"] == "no"
        assert migrate["depends_on"] == {"provision": {"condition": done}}
        for name, role in ((service, "serve"), (f"{service}-work", "work")):
            program = _service(name)
            assert program["command"] == [role]
            assert program["image"] == migrate["image"]
            assert program["depends_on"] == {
                f"{service}-migrate": {"condition": done},
                "redis": {"condition": healthy},
            }


def test_programs_know_the_peers_they_may_call() -> None:
    for service in SERVICES:
        for name in (service, f"{service}-work"):
            listed = _service(name)["environment"].get("TOLLGATE_PEERS", "")
            peers = dict(pair.split("=") for pair in listed.split(",") if pair)
            wanted = {called for caller, called in CALLS if caller == service}
            assert peers == {called: f"{called}:8443" for called in wanted}


def _secret_names(service: dict[str, Any]) -> set[str]:
    return {s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])}


def test_a_container_sees_its_own_secrets_and_no_others() -> None:
    for service in SERVICES:
        wanted = {f"{service}_database_url", "redis_url", "service_secret"}
        wanted |= {"api_key_pepper"} if service == "identity" else set()
        for name in (service, f"{service}-work"):
            assert _secret_names(_service(name)) == wanted, name
        assert _secret_names(_service(f"{service}-migrate")) == {f"{service}_migrate_database_url"}
    assert _secret_names(_service("postgres")) == {"postgres_password"}
    assert _secret_names(_service("redis")) == {"redis_conf"}


def test_every_secret_is_told_by_the_file_it_is_mounted_as() -> None:
    for name in (*PROGRAMS, *(n for n in ONCE if n != "provision")):
        service = _service(name)
        told = {v for k, v in service["environment"].items() if k.endswith("_FILE")}
        assert told == {secret["target"] for secret in service["secrets"]}, name


def test_no_secret_is_an_environment_literal() -> None:
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|PEPPER|KEY|DATABASE_URL|REDIS_URL", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
            assert "://" not in value, f"{name}: {variable}"


def test_every_variable_is_in_the_example_and_the_reverse() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    example = (FOLDER / ".env.example").read_text()
    assert used == set(re.findall(r"^([A-Z_]+)=", example, flags=re.MULTILINE))


def test_images_of_the_stores_must_be_named_and_are_never_guessed() -> None:
    for store in STORES:
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:\?.*digest.*\}", _service(store)["image"])


def _made(folder: Path) -> str:
    made = subprocess.run(
        ["sh", FOLDER / "secrets.sh", folder], check=True, capture_output=True, text=True
    )
    return made.stdout


def _texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    _made(folder)
    files = _texts(folder)
    # Everything that compose.yaml mounts, plus the password that the Redis files share.
    assert set(files) == set(COMPOSE["secrets"]) | {"redis_password"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in files} == {0o444}
    assert (folder / "providers").is_dir()
    assert _made(folder) == ""
    assert _texts(folder) == files
    passwords = re.findall(r"[0-9a-f]{64}", "".join(files.values()))
    assert len(set(passwords)) == 1 + 2 * len(SERVICES) + 1 + 2


def test_the_programs_settings_take_the_secrets(tmp_path: Path) -> None:
    _made(tmp_path)
    settings = Settings.load(
        {
            f"TOLLGATE_{name.upper()}_FILE": str(tmp_path / source)
            for name, source in (
                ("database_url", "wallet_database_url"),
                ("redis_url", "redis_url"),
                ("service_secret", "service_secret"),
                ("api_key_pepper", "api_key_pepper"),
            )
        }
    )
    assert settings.database_url.reveal().startswith("postgresql://wallet_app:")
    assert settings.redis_url.endswith("@redis:6379/0")
    assert settings.redis_url.split(":")[2][:64] not in repr(settings)
