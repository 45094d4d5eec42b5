"""``KEY=VALUE`` of the command line, in Hydra's grammar."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from data.errors import InputError


def parse(overrides: Sequence[str]) -> list[Override]:
    """What each of them says.

    Raises:
        InputError: one is malformed.
    """
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise InputError(malformed(error.override)) from None


def malformed(override: str) -> str:
    """What to say of an override that Hydra cannot parse."""
    key, _, value = override.partition("=")
    return f"'{override}' is no override; put a value with special characters into quotes twice: {key}='\"{value}\"'"


def quoted(value: str) -> str:
    """``value`` as text that the grammar takes for what it is, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def key_of(override: str) -> str:
    """``a.b`` of ``+a.b=1``."""
    return override.lstrip("+~").split("=", 1)[0]
