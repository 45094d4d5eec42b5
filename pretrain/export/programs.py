"""The files of a graph, and each loaded again as something that answers like a model of ``transformers``."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from data.errors import InputError, RunError
from pretrain.export.signature import Signature
from pretrain.export.tracing import dimensions

TORCH_FILE, ONNX_FILE, INT8_FILE = "model.pt2", "model.onnx", "model_int8.onnx"
INSTALL = "pip install onnx onnxscript onnxruntime (this package's extra 'onnx')"
LARGE = 1 << 30
"""Bytes of weights above which they lie in a file beside model.onnx, which itself ends at 2 GiB."""
Compute = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Loaded:
    """A graph that was loaded from its file.

    Args:
        compute: input -> tensor to output -> tensor.
        signature: of the graph.
    """

    def __init__(self, compute: Compute, signature: Signature) -> None:
        self.compute, self.signature = compute, signature

    def __call__(self, *given: Tensor, output_hidden_states: bool = False, **named: Tensor) -> Any:
        """What a model of ``transformers`` would return, as far as the graph gives it."""
        inputs = dict(zip(self.signature.inputs, given, strict=False)) | named
        found: dict[str, Any] = dict(self.compute(inputs))
        if output_hidden_states:
            found["hidden_states"] = (found["last_hidden_state"],)
        return SimpleNamespace(**found)


def onnx_parts() -> tuple[ModuleType, ModuleType]:
    """``onnx`` and ``onnxruntime``.

    Raises:
        InputError: one of what makes and runs ONNX is not installed.
    """
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--format onnx needs packages that are not installed ({error.name} is missing): {INSTALL}"
        ) from None


def write_torch(program: Any, path: Path) -> None:
    """Writes a traced program."""
    # Torch's writer of files ends the whole process when the disk is full; a buffer never is.
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())


def load_torch(path: Path, signature: Signature) -> Loaded:
    """Loads what :func:`write_torch` wrote."""
    module = torch.export.load(path).module()

    def compute(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(module(**inputs))

    return Loaded(compute, signature)


def write_onnx(program: Any, path: Path, signature: Signature) -> None:
    """Writes a traced program as ONNX.

    Raises:
        RunError: torch's exporter has no translation for it.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                program, (), path, kwargs=program.example_inputs[1], input_names=list(signature.inputs),
                output_names=list(signature.outputs), dynamic_shapes=dimensions(signature), dynamo=True, verbose=False,
                external_data=weights > LARGE,
            )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"torch {torch.__version__} cannot write this as ONNX: {reason}; use --format torch") from error


def quantise(source: Path, path: Path) -> None:
    """Writes the ONNX file ``source`` with matrices and embeddings in 8 bits; activations become so as they come."""
    onnx, _ = onnx_parts()
    quantization = importlib.import_module("onnxruntime.quantization")
    model = onnx.load(source)
    # Matrices are turned over on the way, and the shapes noted of their old form would be in the way.
    del model.graph.value_info[:]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends, at each call, a preparation that changes nothing here
    try:
        quantization.quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            # Seven of the eight bits: on processors without VNNI sums of two products of eight do not fit.
            reduce_range=True, use_external_data_format=size(source) > LARGE,
        )  # fmt: skip
    finally:
        logging.disable(before)


def load_onnx(path: Path, signature: Signature) -> Loaded:
    """Loads an ONNX file, to run on the CPU.

    Raises:
        RunError: this onnxruntime cannot run it; also where it is used.
    """
    _, runtime = onnx_parts()
    state = runtime.capi.onnxruntime_pybind11_state
    errors = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except errors as error:
        raise _unusable(path, error) from error

    def compute(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            found = session.run(list(signature.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
        except errors as error:
            raise _unusable(path, error) from error
        return {name: torch.from_numpy(array) for name, array in zip(signature.outputs, found, strict=True)}

    return Loaded(compute, signature)


def size(path: Path) -> int:
    """Bytes of a graph's file, with the weights that lie beside it."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def _unusable(path: Path, error: Exception) -> RunError:
    return RunError(f"onnxruntime cannot run the {path.name} that was written: {str(error).splitlines()[0]}")


def opset(path: Path) -> int:
    """The version of ONNX's own operators that the file asks for."""
    onnx, _ = onnx_parts()
    model = onnx.load(path, load_external_data=False)
    return next(int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx"))
