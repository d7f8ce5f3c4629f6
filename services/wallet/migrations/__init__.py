"""The wallet's schema, forward only; each version's SQL stands beside it in sql/."""

from __future__ import annotations

from importlib import resources


def statements(file: str) -> list[str]:
    """The statements of one file in sql/, parted by lines that read `--;`."""
    source = resources.files("wallet.migrations").joinpath("sql", file).read_text(encoding="utf-8")
    return [part.strip() for part in source.split("\n--;\n") if part.strip()]
