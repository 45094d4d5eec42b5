"""The bytes of a safetensors file, made here so that they are hashed on their way out instead of read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

# The format's name of each type, in the order in which its own writer puts the data: wide ones first, so that all are
# aligned.
DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
NAMED = {name: dtype for dtype, name in DTYPES.items()}
_ORDER = {dtype: place for place, dtype in enumerate(DTYPES)}


def encode(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Header and data of a file that holds ``tensors``; byte for byte what ``safetensors.torch.save_file`` writes.

    The tensors must be on the host, and stay as they are until all is taken.

    Raises:
        ValueError: a tensor's type is not known to the format.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise ValueError(f"'{name}' is of type {tensor.dtype}, which checkpoints cannot hold")
    names = sorted(tensors, key=lambda name: (_ORDER[tensors[name].dtype], name))
    header, end = {}, 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield raw(tensors[name])


def raw(tensor: Tensor) -> memoryview:
    """The values of a tensor on the host, as bytes."""
    flat = tensor.detach().contiguous().flatten()
    view: memoryview = flat.view(torch.uint8).numpy().data
    return view
