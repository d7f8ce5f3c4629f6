"""The files beside the templates: documentation, image list, mirror, examples."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.rendering import (
    CHART,
    MODES,
    ROOT,
    SERVICES,
    chart,
    containers,
    mode_values,
    pod_templates,
    render,
)

IMAGES = (CHART / "images.txt").read_text().split()
README = (CHART / "README.md").read_text()


def _document() -> Any:
    spec = importlib.util.spec_from_file_location("document", CHART / "document.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_the_table_that_values_yaml_makes() -> None:
    assert _document().with_table(README, (CHART / "values.yaml").read_text()) == README


def test_every_value_is_documented_in_place() -> None:
    told = {path for path, _, _ in _document().described((CHART / "values.yaml").read_text())}

    def leaves(values: dict[str, Any], path: str = "") -> set[str]:
        found: set[str] = set()
        for key, value in values.items():
            here = f"{path}.{key}" if path else key
            if isinstance(value, dict) and value and here not in told:
                found |= leaves(value, here)
            else:
                found.add(here)
        return found

    assert leaves(chart().values) == told


def test_the_list_names_every_image_and_no_other() -> None:
    rendered = {
        container["image"].split("/", 1)[1]
        for pod in pod_templates(render(mode_values("minimal")))
        for container in containers(pod)
    }
    assert set(IMAGES) == rendered
    assert len(IMAGES) == len(SERVICES)


def test_the_mirror_copies_every_image_of_the_list(tmp_path: Path) -> None:
    copier = tmp_path / "skopeo"
    copier.write_text('#!/bin/sh\necho "$@" >> "$COPIES"\n')
    copier.chmod(0o755)
    copies = tmp_path / "copies"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "COPIES": str(copies)}
    mirrored = subprocess.run(
        ["sh", CHART / "mirror.sh", "build.example.com", "mirror.internal:5000"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert copies.read_text().splitlines() == [
        f"copy --all docker://build.example.com/{image} docker://mirror.internal:5000/{image}"
        for image in IMAGES
    ]
    assert mirrored.stdout.count("->") == len(IMAGES)


def test_a_failed_copy_stops_the_mirror(tmp_path: Path) -> None:
    stopped = subprocess.run(
        ["sh", CHART / "mirror.sh", "a", "b"],
        env={"PATH": os.environ["PATH"], "COPY": "false"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert stopped.returncode != 0
    assert stopped.stdout.count("->") == 1
    usage = subprocess.run(["sh", CHART / "mirror.sh"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2


def test_versions_agree() -> None:
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert chart().metadata["appVersion"] == project[1]
    assert chart().version == project[1]
    assert all(image.endswith(f":{project[1]}") for image in IMAGES)


def test_the_readme_states_each_of_the_forty_requirements() -> None:
    rows = re.findall(r"^\| (\d+) \| (yes|partly|no) \| (.+) \|$", README, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 41))
    for number, holds, says in rows:
        assert says.strip(), number
        if holds == "yes":
            # What is claimed names the test that proves it.
            proof = re.search(r"`(test_\w+)`", says)
            assert proof, f"{number} names no test"
            sources = (ROOT / "tests").rglob("test_*.py")
            assert any(f"def {proof[1]}(" in source.read_text() for source in sources), proof[1]


def test_the_how_tos_name_files_and_values_that_exist() -> None:
    for name in ("install-on-kubernetes.md", "install-on-one-host.md"):
        text = (ROOT / "docs" / "howto" / name).read_text()
        paths = set(re.findall(r"(?<![\w/.])((?:deploy|docs|libs)/[\w./-]+\w)", text))
        assert paths, name
        for path in paths:
            # .env and secrets/ are made by the reader.
            assert (ROOT / path).exists() or path.endswith((".env", "/secrets")), path


def test_the_external_secrets_fill_exactly_what_the_chart_mounts() -> None:
    text = (CHART / "examples" / "external-secrets.yaml").read_text()
    filled = {
        (external["spec"]["target"]["name"], entry["secretKey"])
        for external in yaml.safe_load_all(text)
        for entry in external["spec"]["data"]
    }
    mounted = {
        (source["secret"]["name"], item["key"])
        for pod in pod_templates(render(mode_values("minimal")))
        for volume in pod.spec["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source["secret"]["items"]
    }
    assert filled == mounted


def test_every_mode_has_its_example() -> None:
    assert {path.stem for path in (CHART / "ci").glob("*.yaml")} == set(MODES)
