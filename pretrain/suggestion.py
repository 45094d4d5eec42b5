"""What a person may have meant by a config key that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_BESIDE, _ELSEWHERE = 0.6, 0.75  # how alike a name must be to be proposed, in its own place and in another one
_NAMED = 3


def suggested(key: str, beside: Sequence[str], everywhere: Sequence[str]) -> str:
    """The tail of an error message about an unknown key: what is meant, and what is there.

    A name that stands in another place of the config, as written or nearly so, is meant where nothing beside the key is
    as near: settings are looked for under the groups of other frameworks.

    Args:
        key: dotted.
        beside: dotted keys of the same place.
        everywhere: dotted keys of the whole config, those of groups included.
    """
    wanted = _name(key)

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, wanted, _name(other)).ratio()

    rated = [(likeness(k), k) for k in beside]
    least, best = _BESIDE, max((likeness for likeness, _ in rated), default=0.0)
    if best < _ELSEWHERE:
        rated = [(likeness(k), k) for k in everywhere if k not in beside]
        elsewhere = max((likeness for likeness, _ in rated), default=0.0)
        if elsewhere >= _ELSEWHERE:
            least, best = _ELSEWHERE, elsewhere
        else:
            rated = [(likeness(k), k) for k in beside]
    meant = sorted(k for likeness, k in rated if likeness == best)[:_NAMED] if best >= least else []
    hint = f"did you mean {' or '.join(repr(k) for k in meant)}? " if meant else ""
    return f"{hint}choices: {', '.join(sorted(beside)) or 'none'}"


def _name(key: str) -> str:
    return key.rpartition(".")[2]
