"""What an optimizer may choose from, written in Hydra's sweep grammar; as Optuna knows it. Needs Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep, Sweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from data.errors import InputError
from pretrain.grammar import parse, quoted


def distributions(space: Sequence[str]) -> dict[str, BaseDistribution]:
    """Dotted key -> its distribution.

    Args:
        space: ``optimizer.lr=tag(log,interval(1e-4,1e-2))``, ``encoders.text.depth=range(1,5)``, ``optimizer.b=1,2``.

    Raises:
        InputError: there is nothing to choose, or an interval is none.
    """
    found: dict[str, BaseDistribution] = {}
    for one in parse(space):
        sweep = one.value()
        try:
            found[one.get_key_element()] = _distribution(sweep)
        except (ValueError, TypeError) as error:
            raise InputError(f"'{one.input_line}' is nothing to choose from: {' '.join(str(error).split())}") from None
    return found


def _distribution(sweep: Any) -> BaseDistribution:
    log = isinstance(sweep, Sweep) and "log" in sweep.tags
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):  # int(interval(1,4)); others are float, always
            return IntDistribution(sweep.start, sweep.end, log=log)
        return FloatDistribution(float(sweep.start), float(sweep.end), log=log)
    if isinstance(sweep, RangeSweep):
        start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step or 1
        if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
            return IntDistribution(start, stop - 1, step=step, log=log)
        return FloatDistribution(float(start), float(stop), step=float(step))
    if not isinstance(sweep, ChoiceSweep):
        raise ValueError("a pattern of names")
    return CategoricalDistribution([_plain(value) for value in sweep.list])


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError("lists and mappings cannot be chosen")


def overrides(params: Mapping[str, Any]) -> list[str]:
    """``KEY=VALUE`` for each value that was chosen."""
    return [f"{key}={_text(value)}" for key, value in params.items()]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    return "null" if value is None else repr(value).lower() if isinstance(value, bool) else repr(value)
