"""Lays out on disk what the image of one service holds, as the Dockerfile's stages copy it."""

from __future__ import annotations

import importlib.util
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from packaging.utils import canonicalize_name

from tests.deploy.rendering import ROOT

DOCKER = ROOT / "deploy" / "docker"
LOCK = (ROOT / "requirements.lock").read_text()


def _selector() -> ModuleType:
    spec = importlib.util.spec_from_file_location("select", DOCKER / "select_requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SELECTOR = _selector()
PINNED: dict[str, str] = SELECTOR.requirements(LOCK)


def image_path(folder: Path, service: str) -> list[str]:
    """Lay out what the image of a service holds, once per folder; returns its PYTHONPATH."""
    root = folder / f"image-{service}"
    path = [str(root / part) for part in ("packages", "gen", "libs", "services")]
    if root.exists():
        return path
    packages = root / "packages"
    packages.mkdir(parents=True)
    site = Path(sysconfig.get_path("purelib"))
    kept: set[str] = SELECTOR.kept(service, set(PINNED))
    for top, files in _installed().items():
        owners = {owner for owner, _ in files}
        if owners <= kept:
            (packages / top).symlink_to(site / top)
            continue
        # A namespace that packages which stay share with packages which go.
        for owner, file in files:
            if owner in kept and "__pycache__" not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(site / file)
    for tree in ("gen", "libs"):
        (root / tree).symlink_to(ROOT / tree)
    (root / "services").mkdir()
    (root / "services" / service).symlink_to(ROOT / "services" / service)
    return path


@cache
def _installed() -> dict[str, list[tuple[str, Path]]]:
    """Every top-level name in site-packages, with the files below it and who installed each."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for distribution in metadata.distributions():
        owner = canonicalize_name(distribution.metadata["Name"])
        for file in distribution.files or []:
            if file.parts[0] not in ("..", "__pycache__"):
                found.setdefault(file.parts[0], []).append((owner, Path(*file.parts)))
    return found
