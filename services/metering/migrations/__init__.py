"""Metering's schema, forward only; each version's SQL stands beside it in sql/."""

from __future__ import annotations

from importlib import resources


def statements(file: str) -> list[str]:
    """The statements of one file in sql/, parted by lines that read `--;`."""
    folder = resources.files("metering.migrations").joinpath("sql", file)
    source = folder.read_text(encoding="utf-8")
    return [part.strip() for part in source.split("\n--;\n") if part.strip()]
