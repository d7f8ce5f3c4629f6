"""Makes the roles and schemas of services in an empty database, or finds that they are made.

`python provision.py FOLDER SERVICE…`: FOLDER holds `superuser_url`, and for each service
`<service>_database_url` and `<service>_migrate_database_url`. The login roles get the passwords
that those DSNs carry, so that there is one place where a password is written. It runs once before
the first migration and changes nothing when it runs again, unless a password did.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from chassis.migrations import MigrationRefused, provision


def credentials(folder: Path, service: str) -> dict[str, str]:
    """Role → password, as the two DSNs of a service state them."""
    found: dict[str, str] = {}
    for name, role in (
        (f"{service}_database_url", f"{service}_app"),
        (f"{service}_migrate_database_url", f"{service}_migrate"),
    ):
        parts = urlsplit((folder / name).read_text().strip())
        if unquote(parts.username or "") != role:
            sys.exit(f"provision: {name} must name the role {role}")
        if not parts.password:
            sys.exit(f"provision: {name} carries no password")
        found[role] = unquote(parts.password)
    return found


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: provision.py FOLDER SERVICE…")
    folder, services = Path(sys.argv[1]), sys.argv[2:]
    passwords: dict[str, str] = {}
    try:
        superuser = (folder / "superuser_url").read_text().strip()
        for service in services:
            passwords |= credentials(folder, service)
        asyncio.run(provision(superuser, services, passwords))
    except (OSError, asyncpg.PostgresError, MigrationRefused) as error:
        sys.exit(f"provision: {error}")
    print(f"provisioned {', '.join(services)}")


if __name__ == "__main__":
    main()
