"""Settings of a run that change how encoders are computed, not what they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from data.errors import InputError
from modalities.plugin import PluginEncoder
from modalities.transformer import Transformer

log = logging.getLogger("pretrain")


def set_trunks(encoders: nn.ModuleDict, options: Mapping[str, Any]) -> None:
    """Applies ``compile`` and ``checkpoint_blocks`` of the ``trainer`` section to all ``encoders``.

    Raises:
        InputError: ``checkpoint_blocks`` is unknown, or an encoder has nothing that it could apply to.
    """
    blocks = options["checkpoint_blocks"]
    for name, encoder in encoders.items():
        trunks = _trunks(encoder)
        for trunk in trunks:
            if blocks is not None:
                trunk.checkpoint_blocks(blocks)
            if options["compile"]:
                trunk.compile_blocks()
        if trunks:
            continue
        if isinstance(encoder, PluginEncoder) and blocks is not None:
            encoder.checkpoint_blocks(blocks)
        elif blocks not in (None, "none"):
            raise InputError(
                f"trainer.checkpoint_blocks={blocks}: encoder '{name}' ({type(encoder).__name__}) has no blocks of ours"
            )
        if options["compile"]:
            log.warning("trainer.compile=true leaves encoder '%s' as it is: it has no blocks of ours", name)


def can_recompute(encoders: nn.ModuleDict) -> bool:
    """Whether all ``encoders`` can do with ``checkpoint_blocks: all``."""
    for encoder in encoders.values():
        if _trunks(encoder):
            continue
        if not isinstance(encoder, PluginEncoder):
            return False
        try:
            encoder.checkpoint_blocks("all")
            encoder.checkpoint_blocks("none")
        except InputError:
            return False
    return True


def _trunks(encoder: nn.Module) -> list[Transformer]:
    return [part for part in encoder.modules() if isinstance(part, Transformer)]
