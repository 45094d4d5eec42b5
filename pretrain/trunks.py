"""Settings of a run that change how trunks are computed, not what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from modalities.transformer import Transformer


def set_trunks(model: nn.Module, options: Mapping[str, Any]) -> None:
    """Applies ``compile`` and ``checkpoint_blocks`` of the ``trainer`` section to all trunks of ``model``.

    Raises:
        InputError: ``checkpoint_blocks`` is unknown.
    """
    for trunk in model.modules():
        if isinstance(trunk, Transformer):
            if options["checkpoint_blocks"] is not None:
                trunk.checkpoint_blocks(options["checkpoint_blocks"])
            if options["compile"]:
                trunk.compile_blocks()
