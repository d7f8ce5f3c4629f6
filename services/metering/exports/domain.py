"""Forms of an exported file."""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """What a file is."""

    CSV = "csv"
    PARQUET = "parquet"
