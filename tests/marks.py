"""Marks of single cases."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """The case ``values`` of a parametrized test, run only with ``-m slow``."""
    return pytest.param(*values, marks=pytest.mark.slow)
