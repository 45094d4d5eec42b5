"""Checkpoints: published whole or not there. Plain tensors and JSON, a manifest of sizes and SHA-256, one rename.

step-00000100/  model.safetensors  optimizer.safetensors  [ema.safetensors]  state.json  manifest.json

Names are looked up when they are used, as ``folder``, ``manifest`` and ``retention`` do without torch, whose import
takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrain.checkpoint.content import Content as Content
    from pretrain.checkpoint.content import digest as digest
    from pretrain.checkpoint.folder import MANIFEST as MANIFEST
    from pretrain.checkpoint.folder import POINTER as POINTER
    from pretrain.checkpoint.folder import damaged as damaged
    from pretrain.checkpoint.folder import directory_name as directory_name
    from pretrain.checkpoint.folder import ever_published as ever_published
    from pretrain.checkpoint.folder import mark as mark
    from pretrain.checkpoint.folder import published as published
    from pretrain.checkpoint.folder import set_aside as set_aside
    from pretrain.checkpoint.folder import step_of as step_of
    from pretrain.checkpoint.manifest import Damaged as Damaged
    from pretrain.checkpoint.manifest import verify as verify
    from pretrain.checkpoint.pieces import Piece as Piece
    from pretrain.checkpoint.reader import Reader as Reader
    from pretrain.checkpoint.reading import content_of as content_of
    from pretrain.checkpoint.reading import find as find
    from pretrain.checkpoint.reading import find_reader as find_reader
    from pretrain.checkpoint.reading import newest as newest
    from pretrain.checkpoint.reading import newest_sound as newest_sound
    from pretrain.checkpoint.reading import read as read
    from pretrain.checkpoint.retention import Retention as Retention
    from pretrain.checkpoint.retention import measured as measured
    from pretrain.checkpoint.retention import prune as prune
    from pretrain.checkpoint.retention import retention_of as retention_of
    from pretrain.checkpoint.retention import sweep as sweep
    from pretrain.checkpoint.retention import withdraw as withdraw
    from pretrain.checkpoint.writing import publish as publish

_PLACES = {
    "content": ("Content", "digest"),
    "folder": (
        "MANIFEST",
        "POINTER",
        "damaged",
        "directory_name",
        "ever_published",
        "mark",
        "published",
        "set_aside",
        "step_of",
    ),
    "manifest": ("Damaged", "verify"),
    "pieces": ("Piece",),
    "reader": ("Reader",),
    "reading": ("content_of", "find", "find_reader", "newest", "newest_sound", "read"),
    "retention": ("Retention", "measured", "prune", "retention_of", "sweep", "withdraw"),
    "writing": ("publish",),
}
_WHERE = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
