from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from modalities.text import lookup
from modalities.text.encoder import TextEncoder
from modalities.text.lookup import TokenEmbedding, untouched_zeros

V, D = 9000, 256


def drawn(dtype=torch.float32):
    table = TokenEmbedding(V, D, dtype=dtype)
    ids = torch.randint(40, (7, 30), generator=torch.manual_seed(1))  # most of them several times
    return table, ids, torch.randn(7, 30, D, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_torch_to_the_bit(monkeypatch, dtype):
    monkeypatch.setattr(lookup, "_LARGE", 2**20)
    table, ids, grad = drawn(dtype)
    found = table(ids)
    assert found.grad_fn.name() != "EmbeddingBackward0"  # else this compares torch with itself
    (slope,) = torch.autograd.grad(found, table.weight, grad)
    expected = F.embedding(ids, table.weight)
    (right,) = torch.autograd.grad(expected, table.weight, grad)
    assert torch.equal(found, expected)
    assert torch.equal(slope, right)
    assert slope[40:].count_nonzero() == 0


def test_gradients_of_micro_batches_add_up_and_may_be_changed_in_place(monkeypatch):
    monkeypatch.setattr(lookup, "_LARGE", 2**20)
    table, ids, grad = drawn()
    for part in (slice(0, 3), slice(3, 7)):
        table(ids[part]).backward(grad[part])
    (right,) = torch.autograd.grad(F.embedding(ids, table.weight), table.weight, grad)
    torch.testing.assert_close(table.weight.grad, right, rtol=1e-5, atol=1e-5)
    table.weight.grad.mul_(2)
    torch.testing.assert_close(table.weight.grad, 2 * right, rtol=1e-5, atol=1e-5)


def test_a_small_a_frozen_and_a_16_bit_table_are_left_to_torch(monkeypatch):
    def by_torch(table):
        return table(torch.tensor([3])).grad_fn.name() == "EmbeddingBackward0"

    small = TokenEmbedding(100, 8)
    assert by_torch(small)
    monkeypatch.setattr(lookup, "_LARGE", 0)
    assert not by_torch(small)
    assert by_torch(TokenEmbedding(100, 8, dtype=torch.bfloat16))
    small.weight.requires_grad_(False)
    assert small(torch.tensor([3])).grad_fn is None


def test_a_plan_on_tensors_without_contents_gets_a_gradient_without(monkeypatch):
    monkeypatch.setattr(lookup, "_LARGE", 0)
    made = []
    monkeypatch.setattr(lookup, "untouched_zeros", lambda *given: made.append(given) or untouched_zeros(*given))
    with FakeTensorMode():
        table = TokenEmbedding(V, D)
        table(torch.zeros(3, dtype=torch.int64)).sum().backward()
        assert isinstance(table.weight.grad, FakeTensor)
    assert table.weight.grad.shape == (V, D)
    assert not made


def test_zeros_take_memory_where_they_are_written():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    zeros = untouched_zeros((2**16, 1024), torch.float32)  # 256 MiB
    zeros[::8192] = 1
    assert resident() - before < 2**24
    assert float(zeros.sum()) == 8 * 1024


def test_the_text_encoder_has_it():
    assert isinstance(TextEncoder(64, 8, 1, 2).token_embedding, TokenEmbedding)
