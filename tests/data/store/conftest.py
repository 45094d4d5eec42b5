"""Real servers on loopback: one that misbehaves, and moto's S3."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from data.store import remote
from data.store.cache import Cache
from data.store.store import Store
from tests.faulty_store import FaultyStore

SIZE = 1_500_000


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))


@pytest.fixture
def fresh(monkeypatch):
    """A helper process of its own for the test."""
    remote.end()
    yield
    remote.end()


@pytest.fixture
def content() -> bytes:
    return random.Random(7).randbytes(SIZE)


@pytest.fixture
def served(tmp_path, content) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.tar").write_bytes(content)
    return folder


@pytest.fixture
def faulty(served):
    with FaultyStore(served) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    made = Store(Cache(tmp_path / "cache", "20MB"), deadline_s=8)
    yield made
    made.close()


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """The endpoint of a real S3 API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(tmp_path_factory.mktemp("moto") / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < end, "moto does not start"
                assert process.poll() is None, "moto ended"
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def read(descriptor: int) -> bytes:
    """All of an open file, which is closed."""
    with open(descriptor, "rb") as file:
        return file.read()


def files(folder: Path) -> dict[str, list[str]]:
    """Names below the folders of a cache, those that hold any."""
    return {path.name: sorted(os.listdir(path)) for path in sorted(folder.iterdir()) if any(path.iterdir())}
