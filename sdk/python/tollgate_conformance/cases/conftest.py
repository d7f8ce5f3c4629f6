"""Excuses: a rig may say why a case does not apply; the skip says it too."""

from __future__ import annotations

import pytest

from tollgate_conformance.bench import Bench


@pytest.fixture(autouse=True)
def excuse(request: pytest.FixtureRequest, bench: Bench) -> None:
    """Skip a case that the rig has a reason to be excused from."""
    name = request.node.originalname
    why = bench.rig.excused.get(name)
    if why:
        pytest.skip(why)
