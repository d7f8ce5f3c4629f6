"""The service `probe`: what the tests of the chassis stand on."""

from __future__ import annotations

from tests.support.databases import FreshDatabase

PACKAGES = {
    "probe": "tests.support.probe_migrations",
    "reader": "tests.support.reader_migrations",
}


async def probe_database(fresh_database: object) -> FreshDatabase:
    """A clean database of `probe`, and of `reader`, which consumes its messages."""
    assert callable(fresh_database)
    made = await fresh_database("probe", "reader", packages=PACKAGES)
    assert isinstance(made, FreshDatabase)
    return made
