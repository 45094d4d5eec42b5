"""Micro-batches of many samples planned by few different ones, where an objective is a sum over its terms.

What a rehearsal costs is the number of operations: sequences of one length are attended to in one. So a few samples
stand for all, each as often as it takes. Beyond some hundreds such a step is carried out with three smaller sizes:
what ``step`` more samples add is what every further ``step`` add, to the FLOPs and to the height of memory in each
stretch. A height is the largest of several sums and may bend (gradients of weights are higher than all activations of
few samples; logits are made in pieces): what matters must lie on a line for three sizes, else twice as many are
rehearsed, in the end all.

Objectives that compare samples with one another are rehearsed as they are: their cost has a square in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from modalities.objective import Objective
from modalities.transformer import Transformer
from pretrain.model import Model
from pretrain.plan.rehearsal import Rehearsal, Share

_MANY = 192
"""Samples of a micro-batch from which on few stand for all."""
_FEW = 48
_SPREAD = 16
"""Samples of all sizes whose FLOPs are those of all in the mean."""
_STEP, _STEP_OF_WINDOWS = 256, 32
"""Windows are attended to in tiles, so that each further sample is some more operations."""
_TOKENS = 64
"""Of a text so long that a step of them is as above; of longer ones fewer do: logits are made in pieces."""
_LEAST_STEP = 8
_SIZES = 3
_WORTH = _SIZES * (_SIZES + 1) // 2
"""A micro-batch of so many steps at least is extended; the three smaller ones together have as many samples."""
_CROOKED = 0.01
"""Of what the second step adds, the most by which the third may add more or less, in FLOPs."""
_BENT = 0.05
"""The same of a height of memory where samples are long: a step of few of them holds much that grows with none."""


@dataclass(frozen=True)
class _Line:
    """A task's rehearsals with one, two and three steps of samples, the other tasks as in the first."""

    name: str
    times: float
    found: list[Rehearsal]
    bent: float = _CROOKED

    def extended(self, numbers: Sequence[float], slope: float = 1.0) -> float:
        """What three numbers come to, with ``slope`` times what the last step has added for each further one."""
        return numbers[-1] + (self.times - _SIZES) * slope * (numbers[-1] - numbers[-2])

    def straight(self) -> bool:
        """Whether FLOPs and the largest heights grow by equal amounts, and no other one could become the largest."""
        heights = list(zip(*(one.heights for one in self.found), strict=True))
        crooked = [height for height in heights if _bends(height, self.bent)]
        most = max((self.extended(height) for height in heights if not _bends(height, self.bent)), default=0)
        fine = all(self.extended(height, slope=2) <= most for height in crooked)
        return fine and not _bends([one.flops[self.name] for one in self.found])


def _bends(numbers: Sequence[float], most: float = _CROOKED) -> bool:
    a, b, c = numbers
    return abs(c - 2 * b + a) > most * abs(b - a)


def wide_tasks(model: Model) -> set[str]:
    """Tasks of ``model`` whose samples do not meet."""
    return {name for name, task in model.tasks.items() if type(task.objective).step is Objective.step}


def step_of(model: Model, tokens: float = 0.0) -> int:
    """Samples in the smallest micro-batch that larger ones of ``model`` are extended from.

    Args:
        model: what is planned.
        tokens: of a sample in the mean, of the task with the longest texts.
    """
    windows = any(isinstance(part, Transformer) and part.window for part in model.modules())
    step = _STEP_OF_WINDOWS if windows else _STEP
    return max(_LEAST_STEP, min(step, int(step * _TOKENS / max(tokens, 1.0))))


def enough(shares: Mapping[str, Share], alone: set[str], ragged: set[str]) -> dict[str, Share]:
    """Task -> samples whose FLOPs are those of all in the mean, where ``shares`` has too few for that.

    A few samples that follow one another are as large as any other few; what grows with the square of their lengths,
    or has a least count, is not.

    Args:
        shares: task -> samples of a device and of a micro-batch.
        alone: see :func:`wide_tasks`.
        ragged: tasks whose samples differ in size.
    """
    found = {}
    for name in alone & ragged:
        count = shares[name].rehearsed  # more than one may be computed in another way than one alone
        if shares[name].micro * count < _SPREAD:
            found[name] = Share(_SPREAD, _SPREAD // count, few=_SPREAD)
    return found


def rehearse_broad(
    shares: Mapping[str, Share], alone: set[str], step: int, rehearse: Callable[[Mapping[str, Share]], Rehearsal]
) -> Rehearsal:
    """What ``rehearse(shares)`` would come to.

    Args:
        shares: task -> samples of a device and of a micro-batch.
        alone: see :func:`wide_tasks`.
        step: see :func:`step_of`.
        rehearse: carries out a step.
    """
    many = [name for name in shares if name in alone and shares[name].micro > min(_MANY, _WORTH * step - 1)]
    shares = whole = {**shares, **{name: replace(shares[name], few=_FEW) for name in many}}
    bent = _BENT if step < _STEP_OF_WINDOWS else _CROOKED
    while wide := [name for name in many if shares[name].micro >= _WORTH * step]:
        if step < _STEP_OF_WINDOWS:  # the same few in each size: what more samples add is more of them
            shares = {**shares, **{name: replace(shares[name], few=step) for name in many}}
        small = {**shares, **{name: shares[name].of(step) for name in wide}}
        base = rehearse(small)
        lines = []
        for name in wide:
            more = [rehearse({**small, name: shares[name].of(times * step)}) for times in range(2, _SIZES + 1)]
            lines.append(_Line(name, shares[name].micro / step, [base, *more], bent))
            if not lines[-1].straight():
                break
        else:
            return _extended(base, lines, shares)
        step *= 2
    return rehearse(whole)


def _extended(found: Rehearsal, lines: list[_Line], shares: Mapping[str, Share]) -> Rehearsal:
    flops, heights = dict(found.flops), [float(height) for height in found.heights]
    for line in lines:
        share = shares[line.name]
        counted = share.of(share.micro).share  # samples of the micro-batches that would be rehearsed
        flops[line.name] = line.extended([one.flops[line.name] for one in line.found]) * share.share / counted
        for number, rising in enumerate(zip(*(one.heights for one in line.found), strict=True)):
            heights[number] += line.extended(rising) - rising[0]
    whole = [round(height) for height in heights]
    return replace(found, flops=flops, heights=whole, most=max(whole))
