"""Scripts that nobody runs in CI: what they take of the framework is there."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
OURS = ("data", "modalities", "pretrain")


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.py")), ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_what_is_imported_exists(path: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                if not hasattr(module, name) and importlib.util.find_spec(f"{node.module}.{name}") is None:
                    missing.append(f"{node.module}.{name}, line {node.lineno}")
    assert missing == []
