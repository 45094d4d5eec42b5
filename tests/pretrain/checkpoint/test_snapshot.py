"""Copies in host memory: exact, of all kinds of tensors, in memory that is used again."""

import pytest
import torch

from pretrain.checkpoint.snapshot import Snapshot


def state(device="cpu"):
    draw = torch.Generator().manual_seed(0)
    whole = torch.randn(9, 7, generator=draw)
    tensors = {
        "matrix": whole,
        "turned": whole.T,
        "rows": whole[2:5],
        "columns": whole[:, 1:3],
        "half": whole.bfloat16(),
        "double": whole.double(),
        "flags": whole > 0,
        "number": torch.tensor(5),
        "nothing": torch.zeros(0, 3),
        "trained": torch.nn.Parameter(whole.clone()),
    }
    return {"model": {n: t.to(device) for n, t in tensors.items()}, "ema": {"matrix": (whole * 2).to(device)}}


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@pytest.mark.parametrize("device", DEVICES)
def test_copies_are_exact_and_their_own(device):
    snapshot, live = Snapshot(), state(device)
    for _ in range(2):
        copies = snapshot.take(live)
        with torch.no_grad():
            for named in live.values():
                for tensor in named.values():
                    tensor.zero_()
        live = state(device)
        for kind, named in live.items():
            for name, tensor in named.items():
                copy = copies[kind][name]
                assert copy.device.type == "cpu"
                assert copy.dtype == tensor.dtype
                assert torch.equal(copy, tensor.detach().cpu())
    assert snapshot.take({}) == {}


def test_memory_grows_with_the_state_and_is_kept():
    snapshot = Snapshot()
    snapshot.take({"model": {"w": torch.zeros(10)}})
    small = snapshot._memory.data_ptr()
    snapshot.take(state())
    large = snapshot._memory.data_ptr()
    snapshot.take({"model": {"w": torch.zeros(10)}})
    assert small != large == snapshot._memory.data_ptr()
