"""How a trunk runs: blocks left out, computed twice, compiled."""

import copy

import pytest
import torch

from modalities.grouped import by_length
from modalities.layout import Layout
from modalities.transformer import Transformer


def trunk(**options):
    torch.manual_seed(0)
    return Transformer(16, 2, 4, **options).double()


@pytest.mark.parametrize(("blocks", "kept"), [("none", 0), ("all", 4), (2, 2), (3, 2)])
def test_checkpointed_blocks_are_computed_twice(blocks, kept):
    model = Transformer(16, 4, 4, checkpoint_blocks=blocks)
    calls = []
    for number, block in enumerate(model.blocks):
        block.mlp_in.register_forward_hook(lambda *_, number=number: calls.append(number))
    model(torch.randn(5, 16), Layout([5])).sum().backward()
    assert len(calls) == 4 + kept
    calls.clear()
    with torch.no_grad():
        model(torch.randn(5, 16), Layout([5]))
    assert len(calls) == 4


def test_layer_drop_leaves_out_its_share_as_the_seed_says():
    model, layout = Transformer(16, 4, 4, layer_drop=0.3), Layout([3])
    calls = []
    for number, block in enumerate(model.blocks):
        block.mlp_in.register_forward_hook(lambda *_, number=number: calls.append(number))

    def kept(seed):
        calls.clear()
        torch.manual_seed(seed)
        model(torch.ones(3, 16), layout)
        return tuple(calls)

    drawn = [kept(seed) for seed in range(300)]
    assert drawn == [kept(seed) for seed in range(300)]
    share = sum(map(len, drawn)) / 1200
    assert abs(share - 0.7) < 5 * (0.3 * 0.7 / 1200) ** 0.5
    assert len(set(drawn)) > 8
    model.eval()
    assert kept(0) == (0, 1, 2, 3)


def test_blocks_left_out_have_gradients_of_zero():
    """None at all would leave processes with different numbers of gradients to sum."""
    model = Transformer(16, 2, 4, layer_drop=0.5).train()
    model._dropped = lambda: [True, False]
    x = torch.randn(3, 16, requires_grad=True)
    model(x, Layout([3])).sum().backward()
    assert all(torch.count_nonzero(p.grad) == 0 for p in model.blocks[0].parameters())
    assert all(p.grad is not None for p in model.blocks[1].parameters())
    whole = copy.deepcopy(model)
    whole.blocks = whole.blocks[1:]
    whole._dropped = lambda: [False]
    torch.testing.assert_close(model(x, Layout([3])), whole(x, Layout([3])))


@pytest.mark.parametrize(
    "options", [{}, {"window": 2, "global_every": 2, "causal": True}, {"checkpoint_blocks": "all"}]
)
def test_compiled_blocks_compute_the_same(options):
    model, compiled = trunk(**options).train(), trunk(**options).train()
    torch._dynamo.reset()
    names = list(compiled.state_dict())
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled.compile_blocks(backend="aot_eager")
    assert list(compiled.state_dict()) == names
    for lengths in ([3, 7, 1, 5], [4, 4], [9, 2], [6], [2, 3], [5, 5, 1], [12, 7], [1, 2, 2]):
        x = torch.randn(sum(lengths), 16, dtype=torch.float64)
        results = []
        for each in (model, compiled):
            each.zero_grad()
            out = each(x, Layout(lengths))
            out.pow(2).sum().backward()
            results.append([out, *(p.grad for p in each.parameters())])
        for found, right in zip(*results, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-10)
    made = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    assert 0 < made <= 4 * 2 * 2  # not one a layout: before and after attention, two blocks, fixed and varying rows


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 2, "global_every": 2}, {"norm": "post"}])
def test_many_sequences_of_few_lengths_are_as_one_by_one_with_gradients(options):
    lengths = [3, 7, 3, 7, 1, 3, 3, 7, 5, 3]
    arranged, rows, places = by_length(Layout(lengths))
    assert arranged.lengths == sorted(lengths)
    assert torch.equal(rows[places], torch.arange(sum(lengths)))
    model, x = trunk(**options), torch.randn(sum(lengths), 16, dtype=torch.float64)
    results = []
    for runs in ([x], x.split(lengths)):
        leaves = [part.clone().requires_grad_() for part in runs]
        model.zero_grad()
        out = torch.cat([model(leaf, Layout(lengths if len(runs) == 1 else [len(leaf)])) for leaf in leaves])
        (out * torch.arange(out.numel()).view_as(out).sin()).sum().backward()
        results.append([out, torch.cat([leaf.grad for leaf in leaves]), *(p.grad.clone() for p in model.parameters())])
    for together, alone in zip(*results, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("lengths", [[4, 4, 4], [1, 2, 3, 4], [5, 5, 9, 9], [8]])
def test_sequences_stay_where_moving_them_saves_nothing(lengths):
    assert by_length(Layout(lengths)) is None
