"""Keeps sick numbers from the weights: a step whose loss or gradient is none is computed, but its update is left out.

The verdict is made on the device, from numbers that are the same on all ranks, and goes into the update there. The
host reads it a step later, so it never waits for the step it has just started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.errors import RunError
from pretrain.soundness.history import History
from pretrain.soundness.policies import OFF, SKIP

GRADIENT_NORM = "gradient_norm"
_READ_LATER = 1  # steps on CUDA, where reading the newest would make the host wait for it
_BUFFERS = _READ_LATER + 2


@dataclass
class Reading:
    """What one step's numbers were.

    Attributes:
        step: counted from 1.
        values: ``gradient_norm`` and each ``TASK/loss``.
        bounds: the largest believable ones, in the same order; None where too little was known to say.
        taken: whether the update was made.
        left_out: updates left out in a row, up to this one.
        risen: steps in a row with a number above its bound, up to this one.
    """

    step: int
    values: dict[str, float]
    bounds: np.ndarray | None
    taken: bool
    left_out: int = 0
    risen: int = 0

    @property
    def nonfinite(self) -> list[str]:
        """What is NaN or infinite."""
        return [name for name, value in self.values.items() if not np.isfinite(value)]

    @property
    def above(self) -> dict[str, float]:
        """What is finite and above its bound, with the bound."""
        if self.bounds is None:
            return {}
        pairs = zip(self.values.items(), self.bounds.tolist(), strict=True)
        return {name: bound for (name, value), bound in pairs if np.isfinite(value) and value > bound}

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint, whose JSON sorts its keys, and knows no NaN and no infinity."""
        values = [value if np.isfinite(value) else str(value) for value in self.values.values()]
        return {**vars(self), "values": values, "bounds": None if self.bounds is None else self.bounds.tolist()}


def _reading_of(found: Mapping[str, Any], names: Sequence[str]) -> Reading:
    """What :meth:`Reading.as_json` gave, of the numbers ``names``."""
    bounds = None if found["bounds"] is None else np.array(found["bounds"], dtype=np.float64)
    values = dict(zip(names, map(float, found["values"]), strict=True))
    return Reading(**{**found, "values": values, "bounds": bounds})


@dataclass
class _Pending:
    step: int
    numbers: Tensor  # the values, and last whether the update is taken; float64 on the host
    bounds: np.ndarray | None
    arrived: torch.cuda.Event | None


@dataclass
class Guard:
    """Judges each step before its update.

    Args:
        tasks: whose losses are judged, besides the norm of the gradient.
        window: steps that a spike is judged by.
        factor: robust standard deviations above their median that are believed.
        spikes: whether to judge spikes at all; numbers that are none always are.
        leave_out_spikes: leave out the update of a spike as well.

    Attributes:
        history: of the steps that were read.
        left_out: that of the newest reading.
        risen: that of the newest reading.
    """

    tasks: Sequence[str]
    window: int = 128
    factor: float = 10.0
    spikes: bool = True
    leave_out_spikes: bool = False
    left_out: int = 0
    risen: int = 0
    _pending: deque[_Pending] = field(default_factory=deque)
    _read: list[Reading] = field(default_factory=list)
    _buffers: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = (GRADIENT_NORM, *(f"{task}/loss" for task in self.tasks))
        self.history = History(self.names, self.window, self.factor)

    def judge(self, step: int, last: Mapping[str, Mapping[str, Tensor]], norm: Tensor) -> Tensor:
        """Whether the update of ``step`` may be made; () bool on the device of ``norm``.

        Args:
            step: counted from 1.
            last: task -> metrics, ``loss`` among them, of the global batch.
            norm: () global norm of the gradient before it was clipped, over all ranks.
        """
        self.settle(everything=False)
        values = torch.stack([x.detach().double() for x in (norm, *(last[task]["loss"] for task in self.tasks))])
        sound = values.isfinite().all()
        bounds = self.history.bounds(step) if self.spikes else None
        if self.leave_out_spikes and bounds is not None:
            sound = sound & (values <= self._on(values.device, bounds)).all()
        self._keep(step, torch.cat([values, sound[None]]), bounds)
        return sound

    def update(self, optimizer: torch.optim.Optimizer, make: Callable[[], Any], sound: Tensor) -> None:
        """Calls ``make``, the optimizer's step, unless ``sound`` says no; on CUDA without reading it, where it can."""
        if sound.device.type == "cuda" and leaves_out_itself(optimizer):
            # The fused kernel's own provision for loss scaling: where it is 1, neither weights, averages nor counters
            # are written.
            optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]
            make()
        elif bool(sound):
            make()

    def settle(self, everything: bool = True) -> None:
        """Reads what has arrived; ``everything``: waits for the newest step as well."""
        while self._pending and (everything or self._pending[0].arrived is None or len(self._pending) > _READ_LATER):
            pending = self._pending.popleft()
            if pending.arrived is not None:
                pending.arrived.synchronize()
            *values, taken = pending.numbers.tolist()
            reading = Reading(pending.step, dict(zip(self.names, values, strict=True)), pending.bounds, bool(taken))
            self.history.add(pending.step, values)
            reading.left_out = self.left_out = 0 if reading.taken else self.left_out + 1
            reading.risen = self.risen = self.risen + 1 if reading.above else 0
            self._read.append(reading)

    def newest(self) -> Reading | None:
        """The last of the readings that :meth:`readings` has not handed out yet."""
        return self._read[-1] if self._read else None

    def readings(self) -> list[Reading]:
        """What was read since the last call, step by step."""
        found, self._read = self._read, []
        return found

    def state(self) -> dict[str, Any]:
        """For a checkpoint, JSON; reads all steps first. Who goes on from it is handed what nobody was handed yet."""
        self.settle()
        unread = [reading.as_json() for reading in self._read]
        return {"left_out": self.left_out, "risen": self.risen, "unread": unread, **self.history.state()}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Puts back what :meth:`state` gave; begins anew without."""
        self._pending.clear()
        known = state is not None and tuple(state["names"]) == self.names  # the same tasks
        self._read = [_reading_of(one, self.names) for one in state.get("unread", ())] if state and known else []
        self.history.restore(state)
        self.left_out, self.risen = (int(state[key]) if state else 0 for key in ("left_out", "risen"))

    def _keep(self, step: int, numbers: Tensor, bounds: np.ndarray | None) -> None:
        if numbers.device.type != "cuda":
            self._pending.append(_Pending(step, numbers, bounds, None))
            return
        if not self._buffers:
            self._buffers = [torch.empty(len(numbers), dtype=torch.float64, pin_memory=True) for _ in range(_BUFFERS)]
        buffer = self._buffers[step % _BUFFERS]
        buffer.copy_(numbers, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending.append(_Pending(step, buffer, bounds, arrived))

    def _on(self, device: torch.device, bounds: np.ndarray) -> Tensor:
        host = torch.from_numpy(bounds)
        return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


def guard_of(options: Mapping[str, Any], tasks: Sequence[str]) -> Guard:
    """What the config's section ``sick`` asks for."""
    spike = options["spike"]
    return Guard(tasks, options["window"], options["factor"], spikes=spike != OFF, leave_out_spikes=spike == SKIP)


def leaves_out_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's kernel takes ``found_inf``: torch's fused Adam and AdamW."""
    plain = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    return plain and all(group.get("fused") for group in optimizer.param_groups)


def refuse_unsound(tensors: Mapping[str, Tensor], step: int) -> None:
    """Keeps weights that are no numbers from being published.

    Args:
        tensors: of one state, by name.
        step: it belongs to, for the message.

    Raises:
        RunError: a floating-point tensor holds NaN or infinity.
    """
    sick = [name for name, x in tensors.items() if x.is_floating_point() and not bool(torch.isfinite(x.sum()))]
    # A sum that overflows is no proof: only then is every number looked at.
    sick = [name for name in sick if not bool(tensors[name].isfinite().all())]
    if sick:
        more = f" and {len(sick) - 1} more" if len(sick) > 1 else ""
        raise RunError(
            f"step {step}: '{sick[0]}'{more} in the state holds numbers that are not finite; it is not saved; the same "
            "command goes on from the newest checkpoint (a lower optimizer.lr?)"
        )
