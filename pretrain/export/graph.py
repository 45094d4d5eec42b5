"""``--format onnx`` and ``--format torch``: a graph that runs without this framework and without ``transformers``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data.errors import InputError, RunError
from pretrain.export import programs
from pretrain.export.check import TOLERANCE, load
from pretrain.export.folder import WEIGHTS
from pretrain.export.plan import Pair, Plan
from pretrain.export.signature import Signature
from pretrain.export.tracing import module_of, trace

INT8_TOLERANCE = 0.1
"""Of int8, by root mean square: an eighth bit less changes features by a few hundredths, a fault by the whole."""


@dataclass(frozen=True)
class Made:
    """A graph that was written, loaded again and compared.

    Attributes:
        file: its name.
        runtime: what it was loaded with, and its version.
        signature: inputs and outputs.
        outputs: output -> difference from the trained model; see :func:`_far`.
        bytes: of the file, with what lies beside it.
        exact: output -> difference of the graph in float32 before it was quantised; None: it was not.
        exact_bytes: of that graph.
    """

    file: str
    runtime: str
    signature: Signature
    outputs: dict[str, float]
    bytes: int
    exact: dict[str, float] | None = None
    exact_bytes: int = 0

    @property
    def lines(self) -> list[str]:
        """What was measured, for the user and the card."""
        exact = _said(self.exact or self.outputs)
        exactly = f"by {self.runtime}, probe batch and three more sets of sizes: {exact} (bound {TOLERANCE:.0e})"
        if self.exact is None:
            return [f"{self.file} {exactly}; {_mb(self.bytes)}"]
        return [
            f"in float32 {exactly}",
            f"{self.file}, int8: {_said(self.outputs)} (root mean square, as a share of the output's; bound "
            f"{INT8_TOLERANCE}); {_mb(self.bytes)} instead of {_mb(self.exact_bytes)}",
        ]


def ready(form: str, int8: bool, checked: bool) -> None:
    """Says what stands in the way before anything is read.

    Raises:
        InputError: options that do not go together, or a package that is missing.
    """
    if int8 and form != "onnx":
        raise InputError(f"--int8 is for --format onnx, not '{form}': quantised matrices of torch cannot be exported")
    if not checked and form != "hf":
        raise InputError(f"--no-check is for --format hf, not '{form}': a graph is not written without being compared")
    if form == "onnx":
        programs.onnx_parts()


def make(plan: Plan, folder: Path, signature: Signature, form: str, int8: bool) -> Made:
    """Puts a graph in the place of the weights of a folder that ``transformers`` loads.

    Args:
        plan: of the folder, already proven.
        folder: not published yet.
        signature: of the graph.
        form: ``onnx`` or ``torch``.
        int8: quantise it.

    Raises:
        RunError: torch cannot make it, or it computes something else.
    """
    model, _ = load(plan, folder)
    module = module_of(model.eval(), signature)
    program = trace(module, signature, plan)
    path = folder / (programs.TORCH_FILE if form == "torch" else programs.ONNX_FILE)
    if form == "torch":
        programs.write_torch(program, path)
        loaded = programs.load_torch(path, signature)
        runtime = f"torch {torch.__version__}"
    else:
        programs.write_onnx(program, path, signature)
        loaded = programs.load_onnx(path, signature)
        runtime = f"onnxruntime {programs.onnx_parts()[1].__version__}, opset {programs.opset(path)}"
    found = _compared(plan, module, loaded, path.name, _far, TOLERANCE)
    size = programs.size(path)
    (folder / WEIGHTS).unlink()  # the graph holds them
    if not int8:
        return Made(path.name, runtime, signature, found, size)
    small = folder / programs.INT8_FILE
    programs.quantise(path, small)
    for file in folder.glob(f"{path.name}*"):
        file.unlink()
    loaded = programs.load_onnx(small, signature)
    after = _compared(plan, module, loaded, small.name, _spread, INT8_TOLERANCE)
    return Made(small.name, runtime, signature, after, programs.size(small), found, size)


def _compared(
    plan: Plan,
    module: nn.Module,
    loaded: programs.Loaded,
    file: str,
    measure: Callable[[Tensor, Tensor], float],
    bound: float,
) -> dict[str, float]:
    """Output -> the largest difference, from the trained model on its probe and from ``module`` at other sizes.

    Raises:
        RunError: one is over the bound.
    """
    outputs = loaded.signature.outputs
    # A probe names features as transformers does where there is a head, and a tower's only output in short.
    called = {"hidden_states": "last_hidden_state", "embeds": outputs[0]}
    probed = [pair._replace(name=called.get(pair.name, pair.name)) for pair in plan.probe(loaded)]
    assert {pair.name for pair in probed} == set(outputs), "an output that nothing of ours is compared with"
    worst: dict[str, float] = {}
    for name, ours, theirs in [*probed, *_elsewhere(module, loaded)]:
        if ours.shape != theirs.shape or not bool(torch.isfinite(theirs).all()):
            raise RunError(f"{file} gives {name} of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}, or NaN")
        worst[name] = max(worst.get(name, 0.0), measure(ours, theirs))
    which = max(worst, key=lambda name: worst[name])
    if not worst[which] <= bound:
        raise RunError(
            f"{file} computes {which} differently from this model, by {worst[which]:.1e} (bound {bound}); nothing was "
            "written" + ("; without --int8 it is exact" if bound > TOLERANCE else "")
        )
    return worst


@torch.no_grad()
def _elsewhere(module: nn.Module, loaded: programs.Loaded) -> Iterable[Pair]:
    """At other sizes than those of the probe, against the class of ``transformers`` that was compared on it."""
    for sizes in loaded.signature.tried():
        batch = loaded.signature.batch(sizes)
        expected, found = module(**batch), loaded.compute(batch)
        for name, ours in expected.items():
            theirs = found[name]
            if "attention_mask" in batch and ours.dim() == 3:  # what stands at padding means nothing
                kept = batch["attention_mask"].bool()
                ours, theirs = ours[kept], theirs[kept]
            yield Pair(name, ours, theirs)


def _far(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))


def _spread(ours: Tensor, theirs: Tensor) -> float:
    """The root mean square of the differences, as a share of that of the numbers."""
    return float((ours - theirs).norm() / ours.norm().clamp(min=1e-12))


def _said(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1e}" for name, value in found.items())


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
