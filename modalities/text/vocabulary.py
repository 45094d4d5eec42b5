"""Cross-entropy over a vocabulary without its logits. M predictions, V vocabulary entries, D features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modalities.first_order import first_order

# Elements of logits that exist at a time: what stays in a core's cache, and what should fill a device (1,000 rows of
# BERT's vocabulary). Two or three times 128 MB in float32, at the end of a forward, when most of its memory is in use.
_CHUNK = {"cpu": 1 << 22}
_DEVICE_CHUNK = 1 << 25


def vocabulary_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the logits ``hidden @ weight.T + bias``, and how many have the label as their largest.

    Logits of some rows at a time: their loss and, at once, its gradient; (M, V) never exists. The matrix products are
    in autocast's type where it is on, the softmax in float32 at least.

    Args:
        hidden: (M, D).
        weight: (V, D).
        bias: (V,) or None.
        labels: (M,) int64.

    Returns:
        The loss, a scalar that can be differentiated once, and the number of hits, float64.
    """
    if not torch.is_grad_enabled():  # else leaves ask for their gradient all the same
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    return _VocabularyLoss.apply(hidden, weight, bias, labels)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        kind = hidden.device.type
        given = (hidden.dtype, weight.dtype)
        needs = ctx.needs_input_grad[:3]
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        hidden, table = hidden.detach().to(dtype), weight.detach().to(dtype)
        exact = torch.promote_types(dtype, torch.float32)
        loss = torch.zeros((), dtype=exact, device=hidden.device)
        hits = torch.zeros((), dtype=torch.float64, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs[0] else None
        d_weight: Tensor | None = None  # of the first chunk on: zeros would be written and read for nothing
        d_bias = torch.zeros_like(bias, dtype=exact) if needs[2] and bias is not None else None
        rows = max(_CHUNK.get(kind, _DEVICE_CHUNK) // len(weight), 16)
        with torch.autocast(kind, enabled=False):
            offset = None if bias is None else bias.detach().to(dtype)
            for begin in range(0, len(hidden), rows):
                h, label = hidden[begin : begin + rows], labels[begin : begin + rows, None]
                logits = h @ table.t() if offset is None else torch.addmm(offset, h, table.t())
                log_share = logits.log_softmax(-1, dtype=exact)
                del logits
                found = log_share.gather(1, label)
                loss -= found.sum()
                if dtype == exact:
                    hits += (found == log_share.amax(1, keepdim=True)).sum()
                else:  # of eight bits several logits often share the first place, which is one token's alone
                    hits += (log_share.argmax(1, keepdim=True) == label).sum()
                if not any(needs):
                    continue
                # The gradient of the logits: the softmax, less one at the label.
                wrong = log_share.exp_()
                wrong.scatter_add_(1, label, wrong.new_full((), -1.0).expand_as(label))
                if d_bias is not None:
                    d_bias += wrong.sum(0)
                wrong = wrong.to(dtype)
                if d_hidden is not None:
                    torch.mm(wrong, table, out=d_hidden[begin : begin + rows])
                if needs[1] and d_weight is None:
                    d_weight = (wrong.t() @ h).to(exact)
                elif d_weight is not None and dtype == exact:
                    d_weight.addmm_(wrong.t(), h)
                elif d_weight is not None:
                    d_weight += wrong.t() @ h
        if needs[1] and d_weight is None:  # nothing is predicted
            d_weight = torch.zeros_like(weight, dtype=exact)
        ctx.gradients = [
            None if d is None else d.to(t)
            for d, t in ((d_hidden, given[0]), (d_weight, given[1]), (d_bias, None if bias is None else bias.dtype))
        ]
        ctx.mark_non_differentiable(hits)
        return loss, hits

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the loss over the vocabulary keeps its gradient for one backward pass alone")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(None if d is None else d.mul_(grad.to(d.dtype)) for d in gradients), None)
