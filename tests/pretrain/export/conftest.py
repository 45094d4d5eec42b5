import logging

import pytest


@pytest.fixture(scope="session")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="pretrain")
    return caplog
