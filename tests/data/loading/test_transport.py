import os

import numpy as np
import pytest
import torch

from data.loading import transport
from data.loading.transport import Packed, Slab, copied, lent, pin
from modalities.layout import Layout

VALUES = {
    "float32": torch.randn(3, 5),
    "float64": torch.randn(2, 1, 7, dtype=torch.float64),
    "bfloat16": torch.randn(4, 3).bfloat16(),
    "half": torch.randn(1).half(),
    "bool": torch.tensor([True, False, True]),
    "uint8": torch.arange(200, dtype=torch.uint8).view(2, 100),
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 4),
    "strided": torch.arange(24).view(4, 6).t()[::2],
    "array": np.arange(6, dtype=np.int64).reshape(2, 3),
    "strided array": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    "no numbers": np.array(["a", "bc"]),
    "empty array": np.empty((0, 2), dtype=np.int64),
    "nested": [(1, "two", None, {"x": torch.ones(2)}), b"bytes"],
    "layout": Layout([3, 1, 2]),
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Layout):
        return same(vars(a), vars(b))
    return a == b


def sent(value, slab):
    packed = Packed(value)
    packed.write(slab.memory(packed.size))
    return copied(packed.described, packed.spans, slab.memory(packed.size), pinned=False)


@pytest.mark.parametrize("name", VALUES)
def test_what_goes_in_comes_out(name):
    assert same(sent(VALUES[name], Slab()), VALUES[name])


def test_what_is_there_twice_is_one_afterwards():
    tensor, array = torch.arange(5), np.arange(4)
    found = sent({"a": tensor, "b": [tensor, array], "c": array}, Slab())
    assert found["a"] is found["b"][0]
    assert found["c"] is found["b"][1]
    assert Packed([tensor, tensor]).size == Packed([tensor]).size


def test_all_of_it_in_one_piece_that_stays_when_the_memory_is_used_again():
    slab = Slab()
    found = sent(VALUES, slab)
    sent({"other": torch.full((5000,), 7)}, slab)  # larger: the memory grows
    assert same(found, VALUES)
    assert len({found[name].untyped_storage().data_ptr() for name in ("float32", "uint8", "bool")}) == 1
    found["float32"][0, 0] = 5.0  # and is no one else's
    assert same(sent(VALUES, slab), VALUES)


def test_what_is_lent_lies_in_the_memory_until_its_last_tensor_is_gone():
    slab, packed, done = Slab(), Packed(VALUES), []
    packed.write(slab.memory(packed.size))
    found = lent(packed.described, packed.spans, slab.memory(packed.size), lambda: done.append(True))
    assert same(found, VALUES)
    slab.memory(packed.size)[packed.spans[0][0]] ^= 1
    assert not same(found, VALUES)
    part = found["float32"][1:]
    array = found["array"]
    slab.close()
    del found
    assert not done
    del part
    assert not done
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    del array
    assert done == [True]


def test_what_holds_no_tensor_is_given_back_at_once():
    slab, packed, done = Slab(), Packed({"reason": "none"}), []
    assert lent(packed.described, packed.spans, slab.memory(packed.size), lambda: done.append(True)) == {
        "reason": "none"
    }
    assert done == [True]


def test_another_process_grows_the_memory():
    slab = Slab()
    slab.memory(10)[:] = 1
    pid = os.fork()
    if pid == 0:
        slab.memory(1_000_000)[:] = 2
        os._exit(0)
    os.waitpid(pid, 0)
    assert slab.memory(1_000_000).min() == 2
    slab.close()


def test_everything_is_pinned_at_once(monkeypatch):
    asked, empty = [], torch.empty

    def allocate(*size, pin_memory=False, **options):
        asked.append(pin_memory)
        return empty(*size, **options)

    monkeypatch.setattr(transport.torch, "empty", allocate)
    assert same(pin(VALUES), VALUES)
    packed, slab = Packed(VALUES), Slab()
    packed.write(slab.memory(packed.size))
    assert same(copied(packed.described, packed.spans, slab.memory(packed.size), pinned=True), VALUES)
    assert asked == [True, True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_pinned_is_known_to_be():
    found = pin(VALUES)
    assert found["uint8"].is_pinned()
    assert same(found["float32"].cuda(non_blocking=True).cpu(), VALUES["float32"])
