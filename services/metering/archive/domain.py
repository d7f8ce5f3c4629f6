"""What the archive holds of a day, and where."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal
from metering.events.domain.event import AHEAD

FORM = 1  # of the manifest and of the columns
KEEP_DAYS, KEEP_DAYS_MAX = 7, 90  # for which a restored day stays


class ArchiveUnset(Refusal):
    """This installation has no archive."""

    reason = "ARCHIVE_UNSET"
    kind = Kind.PRECONDITION

    def __init__(self) -> None:
        super().__init__("no archive is configured: TOLLGATE_ARCHIVE_LOCATION is empty")


class ArchiveDamaged(Refusal):
    """A file of the archive is not what was written, or is gone."""

    reason = "ARCHIVE_DAMAGED"
    kind = Kind.PRECONDITION

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}", path=path, why=why)


class ArchivedDay(NamedTuple):
    """One tenant's events of one day of receipt."""

    tenant_id: UUID
    day: date
    path: str  # of the file, under the archive's location
    event_count: int
    octets: int
    sha256: bytes
    create_time: datetime
    keep_until: date | None

    def manifest(self) -> str:
        """What stands beside the file: enough to check it without a database."""
        told = {
            "form": FORM,
            "tenant_id": str(self.tenant_id),
            "day": self.day.isoformat(),
            "file": self.path.rpartition("/")[2],
            "events": self.event_count,
            "octets": self.octets,
            "sha256": self.sha256.hex(),
            "create_time": self.create_time.isoformat(),
        }
        return json.dumps(told, indent=2) + "\n"


def path_of(tenant_id: UUID, day: date) -> str:
    """Where a day is kept: named so that query engines see its day and tenant as columns."""
    return f"events/day={day.isoformat()}/tenant={tenant_id}/events.parquet"


def first_key_kept(last_archived: date | None) -> str:
    """The key before which charges are of archived events; empty where nothing was archived."""
    if last_archived is None:
        return ""
    edge = datetime.fromisoformat(f"{last_archived + timedelta(days=1)}T00:00:00+00:00")
    return str(UUID(int=int(edge.timestamp() * 1000) << 80))


def first_kept(last_archived: date | None) -> datetime | None:
    """The instant from which on every event is in the database, whatever was archived: events come
    at most some minutes before their time."""
    if last_archived is None:
        return None
    edge = datetime.fromisoformat(f"{last_archived + timedelta(days=1)}T00:00:00+00:00")
    return edge + AHEAD
