"""What an asset is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class AssetKind(IntEnum):
    CURRENCY = 1
    UNIT = 2


@dataclass(frozen=True, slots=True)
class Asset:
    """A unit of value; `scale` is the count of decimal places of one atom."""

    code: str
    scale: int
    kind: AssetKind
    create_time: datetime
