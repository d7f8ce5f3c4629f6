"""A file of CloudEvents is replayed by the mapping that the service has for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.errors import InvalidValue
from tollgate_cli.replay.mapping import load
from tollgate_cli.replay.reader import read, survey

MAPPING = """
meters:
  - {code: tokens, event_name: call, aggregation: SUM, value_property: tokens}
"""


def documents(count: int) -> list[dict[str, object]]:
    return [
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "/gateway",
            "type": "call",
            "subject": f"customer {number % 2}",
            "time": f"2026-03-01T10:00:{number:02}Z",
            "data": {"tokens": number},
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("form", ["lines", "array", "indented"])
def test_each_form_of_a_file_gives_the_same_events(tmp_path: Path, form: str) -> None:
    found = documents(3)
    path, mapping = tmp_path / "usage.json", tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING)
    path.write_text(
        "\n".join(json.dumps(one) for one in found)
        if form == "lines"
        else json.dumps(found, indent=2 if form == "indented" else None)
    )
    loaded = load(mapping, "cloudevents")

    records = list(read(path, loaded))

    assert [record.event.event_id for record in records] == [f"/gateway#{n}" for n in range(3)]
    assert [record.event.properties["tokens"] for record in records] == ["0", "1", "2"]
    assert survey(path, loaded).customers == ("customer 0", "customer 1")


def test_a_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    (document,) = documents(1)
    path, mapping = tmp_path / "usage.json", tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING)
    path.write_text(json.dumps({**document, "data": {"tokens": "many"}}))
    with pytest.raises(InvalidValue, match=r"event 1\.data\.tokens"):
        list(read(path, load(mapping, "cloudevents")))


def test_a_mapping_of_columns_is_refused_beside_cloud_events(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING + "event: {name: x}\n")
    with pytest.raises(InvalidValue, match="event"):
        load(mapping, "cloudevents")
