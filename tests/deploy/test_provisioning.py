"""What Compose starts first makes the roles that the services then log in as, and no stronger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from chassis.embedded import EmbeddedPostgres
from tests.deploy.rendering import ROOT, SERVICES

PROVISION = ROOT / "deploy" / "docker" / "provision.py"
SECRETS = ROOT / "deploy" / "compose" / "secrets.sh"


@pytest.fixture
def secrets(tmp_path: Path, own_postgres: EmbeddedPostgres) -> Path:
    folder = tmp_path / "secrets"
    subprocess.run(["sh", SECRETS, folder], check=True, capture_output=True)
    (folder / "superuser_url").chmod(0o600)
    (folder / "superuser_url").write_text(own_postgres.dsn)
    return folder


def _provision(folder: Path, *services: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROVISION, folder, *services], capture_output=True, text=True, check=False
    )


async def test_every_role_is_made_ordinary_and_with_its_own_password(
    secrets: Path, own_postgres: EmbeddedPostgres
) -> None:
    for _ in range(2):  # a second run finds everything made
        ran = _provision(secrets, *SERVICES)
        assert ran.returncode == 0, ran.stderr
    connection = await asyncpg.connect(own_postgres.dsn)
    try:
        roles = await connection.fetch(
            "SELECT rolname, rolcanlogin, rolpassword, rolsuper OR rolcreaterole OR rolcreatedb"
            " OR rolreplication OR rolbypassrls AS mighty FROM pg_authid"
            " WHERE rolname ~ '_(app|migrate)$'"
        )
        owners = await connection.fetch(
            "SELECT nspname, nspowner::regrole::text AS owner FROM pg_namespace"
            " WHERE nspname = ANY($1)",
            list(SERVICES),
        )
    finally:
        await connection.close()
    assert len(roles) == 2 * len(SERVICES)
    assert all(role["rolcanlogin"] and not role["mighty"] for role in roles)
    assert len({role["rolpassword"] for role in roles}) == len(roles)
    assert {r["nspname"]: r["owner"] for r in owners} == {s: f"{s}_migrate" for s in SERVICES}


def test_a_dsn_of_another_role_is_refused(secrets: Path) -> None:
    dsn = secrets / "wallet_database_url"
    dsn.chmod(0o600)
    dsn.write_text((secrets / "wallet_migrate_database_url").read_text())
    ran = _provision(secrets, "wallet")
    assert ran.returncode == 1
    assert ran.stderr == "provision: wallet_database_url must name the role wallet_app\n"


def test_a_database_that_is_away_is_one_sentence(secrets: Path) -> None:
    (secrets / "superuser_url").write_text("postgresql://postgres@127.0.0.1:1/tollgate")
    ran = _provision(secrets, "wallet")
    assert ran.returncode == 1
    assert ran.stderr.startswith("provision: ")
    assert "Traceback" not in ran.stderr
