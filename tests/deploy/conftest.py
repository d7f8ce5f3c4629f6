"""What several tests of the installation share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.embedded import EmbeddedPostgres


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server beside the run's own: roles belong to a whole server, and get passwords here."""
    folder = Path(tempfile.mkdtemp(prefix="tollgate-own-"))
    try:
        with EmbeddedPostgres(folder) as postgres:
            yield postgres
    finally:
        shutil.rmtree(folder)
