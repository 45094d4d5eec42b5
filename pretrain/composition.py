"""What a config is composed from: ``conf/`` and the user's own groups. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from pretrain.grammar import quoted

# Parts of a config that are built from ``_target_`` nodes; their keys are checked against what is built.
FREE = {
    "data",
    "encoders",
    "evaluators",
    "alarms",
    "optimizer",
    "schedule",
    "weight",
    "logger",
    "prepare",
    "objective",
    "source",
    "heldout",
}
_BASE = "of_a_run"


def groups(config_dir: str | None = None) -> dict[str, list[str]]:
    """Config group -> its options, from the packaged ``conf/`` and the user's own ``config_dir``."""
    found: dict[str, list[str]] = {}

    def visit(folder: Any, name: str) -> None:
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            if entry.is_dir() and not entry.name.startswith(("_", ".")):
                visit(entry, f"{name}/{entry.name}" if name else entry.name)
            elif entry.name.endswith(".yaml") and name:
                found.setdefault(name, []).append(entry.name.removesuffix(".yaml"))

    visit(resources.files("conf"), "")
    if config_dir is not None:
        visit(Path(config_dir), "")
    return found


def composed(overrides: Sequence[str], config_dir: str | None = None, base: DictConfig | None = None) -> DictConfig:
    """The config with its interpolations; raises what Hydra and OmegaConf raise.

    Args:
        overrides: in Hydra's grammar.
        config_dir: folder of the user's own groups.
        base: a whole config to begin with instead of ``conf/train.yaml``.
    """
    GlobalHydra.instance().clear()
    if base is not None:
        ConfigStore.instance().store(_BASE, base)
    own = [f"hydra.searchpath=[{quoted(f'file://{Path(config_dir).resolve()}')}]"] if config_dir else []
    with initialize_config_module("conf", version_base="1.3"):
        return compose("train" if base is None else _BASE, overrides=[*overrides, *own])
