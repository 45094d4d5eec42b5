from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from data.demo import build
from tests.integration.sick import FAULT


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache folder with a demo data set of 10 scenes: epochs end within a few steps, and not at a batch's end."""
    cache = tmp_path_factory.mktemp("cache")
    root = cache / "demo-v1-python{}.{}".format(*sys.version_info)
    root.mkdir()
    build.build(root, scenes_train=10, scenes_val=8)
    return str(cache)


@pytest.fixture(autouse=True)
def _small_demo(demo_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETRAIN_CACHE", demo_cache)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose callback makes steps sick, see :func:`command`; in this process and those it starts."""
    (tmp_path / "faulty.py").write_text(FAULT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
