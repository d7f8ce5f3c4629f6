"""Every TOLLGATE_ variable that a container is given is a setting of the program in it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.service import ServiceDefinition
from chassis.settings import SettingsError
from tests.deploy.rendering import (
    MODES,
    SERVICES,
    environment,
    mode_values,
    pod_templates,
    render,
)
from tests.deploy.test_compose import COMPOSE, filled

MOUNT = "/var/run/secrets/tollgate"
SECRETS = {
    "database_url": "postgresql://x_app:secret@db:5432/tollgate",
    "migrate_database_url": "postgresql://x_migrate:secret@db:5432/tollgate",
    "redis_url": "rediss://:secret@redis:6379/0",
    "service_secret": "s" * 64,
    "api_key_pepper": "1:" + "p" * 64,
}


def _definition(service: str) -> ServiceDefinition:
    definition: ServiceDefinition = importlib.import_module(f"{service}.app").SERVICE
    return definition


def _containers() -> Iterator[tuple[str, str, dict[str, str]]]:
    """(where, service, variables) of every container that runs a service's program."""
    for mode in MODES:
        documents = render(mode_values(mode))
        for pod in pod_templates(documents):
            service = pod.labels["app.kubernetes.io/component"]
            yield f"{mode}: {pod.owner}", service, environment(documents, pod)
    for name, container in COMPOSE["services"].items():
        service = name.removesuffix("-work").removesuffix("-migrate")
        if service in SERVICES:
            variables = filled(container["environment"])
            yield f"compose: {name}", service, variables


CONTAINERS = list(_containers())


def test_every_container_is_looked_at() -> None:
    assert len(CONTAINERS) == len(MODES) * 20 + 15


@pytest.mark.parametrize("service", SERVICES)
def test_a_program_takes_all_that_its_containers_say(service: str, tmp_path: Path) -> None:
    """Its own parser reads them: an unknown name, or a value it cannot use, is refused there."""
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
    config = _definition(service).config
    looked = 0
    for where, owner, variables in CONTAINERS:
        if owner != service:
            continue
        environ = {k: v.replace(MOUNT, str(tmp_path)) for k, v in variables.items()}
        try:
            settings = config.load(environ, service=service)
        except SettingsError as error:
            raise AssertionError(f"{where}: {error}") from None
        looked += 1
        if "TOLLGATE_LISTEN" in variables:
            assert settings.listen == "0.0.0.0:8443", where
            assert settings.database_url.reveal() == SECRETS["database_url"], where
            assert settings.redis_url == SECRETS["redis_url"], where
            assert settings.drain_seconds == 20, where
        else:
            wanted = SECRETS["migrate_database_url"]
            assert settings.migrate_database_url.reveal() == wanted, where
    assert looked == len(MODES) * 4 + 3


@pytest.mark.parametrize("service", SERVICES)
def test_a_misspelt_setting_would_be_found(service: str) -> None:
    with pytest.raises(SettingsError, match="TOLLGATE_LISTENS is not a setting"):
        _definition(service).config.load({"TOLLGATE_LISTENS": "x"}, service=service)
