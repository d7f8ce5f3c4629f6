"""Makes the table of values in README.md from the comments in values.yaml.

`python deploy/k8s/document.py` rewrites the part of README.md between the two marks; a test
compares them. Standard library only: values.yaml is read as lines, since comments are the point.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
_KEY = re.compile(r"^( *)([A-Za-z0-9_]+):(.*)$")
_SAYS = "# -- "


def described(text: str) -> Iterator[tuple[str, str, str]]:
    """Every value that has a comment: its path, its default as written, what it is."""
    path: list[str] = []
    says = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(_SAYS):
            says = stripped.removeprefix(_SAYS)
            continue
        if stripped.startswith(("#", "-")) or not (key := _KEY.match(line)):
            continue
        indent, name, default = len(key[1]) // 2, key[2], key[3].strip()
        path = [*path[:indent], name]
        if says:
            yield ".".join(path), default, says
            says = ""


def table(text: str) -> str:
    rows = ["| Value | Default | What it is |", "|---|---|---|"]
    for path, default, says in described(text):
        shown = "as metering" if default.startswith("*") else default or "see values.yaml"
        rows.append(f"| `{path}` | `{shown}` | {says} |")
    return "\n".join(rows)


def with_table(readme: str, values: str) -> str:
    """README.md with the table that belongs between its marks."""
    head, rest = readme.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{table(values)}\n{END}{tail}"


def main() -> None:
    readme = FOLDER / "README.md"
    values = (FOLDER / "values.yaml").read_text()
    readme.write_text(with_table(readme.read_text(), values))


if __name__ == "__main__":
    main()
