from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import running
from tests.faults.recipes import small_cache


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm's programs answer."""
    with running(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(autouse=True)
def _small_demo(cache_folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRETRAIN_CACHE", cache_folder)
    monkeypatch.setenv("PRETRAIN_TEST_STDERR", str(tmp_path / "stderr"))
