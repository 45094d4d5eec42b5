"""Any module that turns token ids into features as a text encoder: BERT of ``transformers``, an own network."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.encoder import Encoded
from modalities.layout import Layout
from modalities.plugin import PluginEncoder, alike

# Two short texts, of 6 and 4 tokens; their ids are no special tokens.
_TEXTS = ((5, 6, 7, 8, 7, 5), (6, 8, 5, 7))
_ROUNDING = 2e-5


class TextPlugin(PluginEncoder):
    """Calls the module with ids (B, N) int64 padded at the end, and with a mask (B, N) int64 of ones where text is.

    Args:
        module: gives (B, N, D), or (B, D) where it pools by itself; such a one fits contrastive tasks alone.
        vocab_size: V; the module's embedding must have as many rows.
        width, pool, method, output, weights: see :class:`modalities.plugin.PluginEncoder`.
        causal: whether a position sees earlier ones only; causal-LM asks for it, and it is checked.
        tokens: name of the argument that takes the ids; None: the first.
        mask: name of the argument that takes the mask. None: the module has none, and texts of one length are computed
            together, without padding; slower where lengths differ.
        pad: id that stands where no text is.
        embedding: dotted place of the token embedding in the module, by which masked-LM and causal-LM predict tokens.
            None: what ``module.get_input_embeddings()`` gives, where there is that.
        max_tokens: longest text that the module takes, None for any.

    Raises:
        InputError: the module cannot be called so, or gives something else.
    """

    modality: ClassVar[str] = "text"

    def __init__(
        self,
        module: nn.Module,
        vocab_size: int,
        width: int,
        pool: str = "mean",
        causal: bool = False,
        tokens: str | None = "input_ids",
        mask: str | None = "attention_mask",
        pad: int = 0,
        embedding: str | None = None,
        max_tokens: int | None = None,
        method: str | None = None,
        output: str | int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(module, width, pool, method, output, weights)
        self.vocab_size, self.causal, self.max_tokens = vocab_size, causal, max_tokens
        self.argument, self.mask, self.pad = tokens, mask, pad
        self.embedding = embedding
        self.pools = False
        matrix = self._embedding()
        if matrix is not None and matrix.num_embeddings != vocab_size:
            raise InputError(f"{self.title} embeds {matrix.num_embeddings} tokens, vocab_size={vocab_size}")
        with self.probe() as possible:
            if possible:
                self._try()

    @property
    def token_embedding(self) -> nn.Embedding | None:
        """(V, D), None where the module has none of that size or gives no features of single tokens."""
        matrix = self._embedding()
        return matrix if matrix is not None and matrix.embedding_dim == self.width and not self.pools else None

    @property
    def longest(self) -> int | None:
        """Tokens of the longest text it takes; None: any, as far as is known."""
        return self.max_tokens

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """``{"tokens": (T,) int64, "layout": Layout}`` -> (T, D), or (B, D) where the module pools."""
        tokens, layout = inputs["tokens"], inputs["layout"]
        if self.max_tokens is not None and max(layout.lengths) > self.max_tokens:
            raise InputError(f"a text of {max(layout.lengths)} tokens exceeds max_tokens={self.max_tokens}")
        return self._padded(tokens, layout) if self.mask is not None else self._by_length(tokens, layout)

    def _padded(self, tokens: Tensor, layout: Layout) -> Encoded:
        longest, place = max(layout.lengths), (layout.sequence, layout.position)
        ids = tokens.new_full((len(layout), longest), self.pad).index_put(place, tokens)
        there = torch.zeros_like(ids).index_put(place, torch.ones_like(tokens))
        x = self._called(ids, there)
        if x.shape[1] == 1 and longest > 1:
            return Encoded(x[:, 0], Layout([1] * len(layout), x.device))
        return Encoded(x[place], layout)

    def _by_length(self, tokens: Tensor, layout: Layout) -> Encoded:
        texts = tokens.split(layout.lengths)
        found: list[Tensor] = [tokens] * len(layout)
        for places in alike(layout.lengths).values():
            x = self._called(torch.stack([texts[place] for place in places]))
            for place, features in zip(places, x, strict=True):
                found[place] = features
        return Encoded(torch.cat(found), Layout([len(x) for x in found], tokens.device))

    def _called(self, ids: Tensor, there: Tensor | None = None) -> Tensor:
        """(B, N) -> (B, N, D) or (B, 1, D)."""
        named = {} if there is None or self.mask is None else {self.mask: there}
        found = self.run(ids, **named) if self.argument is None else self.run(**{self.argument: ids}, **named)
        x = self.sequences(found, len(ids))
        if x.shape[1] not in (1, ids.shape[1]):
            raise InputError(f"{self.title} gives {x.shape[1]} positions for texts of {ids.shape[1]} tokens")
        return x

    def _embedding(self) -> nn.Embedding | None:
        found: Any = None
        if self.embedding is not None:
            try:
                found = self.module.get_submodule(self.embedding)
            except AttributeError:
                found = None
            if not isinstance(found, nn.Embedding):
                raise InputError(f"embedding='{self.embedding}' is no torch.nn.Embedding of {self.title}")
        elif callable(getattr(self.module, "get_input_embeddings", None)):
            found = self.module.get_input_embeddings()  # type: ignore[operator]
        return found if isinstance(found, nn.Embedding) else None

    def _try(self) -> None:
        device = next(self.module.parameters()).device
        texts = [torch.tensor(text, device=device) for text in _TEXTS]
        both = self({"tokens": torch.cat(texts), "layout": Layout([len(text) for text in texts], device)})
        self.pools = both.layout.lengths == [1, 1]
        alone = self._one(texts[1])
        if not _same(both.tokens[-len(alone) :], alone):
            raise InputError(
                f"{self.title} sees padding: a text has other features beside a longer one than alone, whatever "
                f"{self.mask} says; set mask=null"
            )
        if self.causal and not self.pools:
            changed = texts[0].clone()
            changed[-1] = 6
            if not _same(self._one(changed)[:-1], self._one(texts[0])[:-1]):
                raise InputError(f"causal=true, but in {self.title} a token's features depend on later tokens")

    def _one(self, text: Tensor) -> Tensor:
        return self({"tokens": text, "layout": Layout([len(text)], text.device)}).tokens


def _same(a: Tensor, b: Tensor) -> bool:
    """Alike up to rounding. What is not finite (weights that training will fill) is not compared."""
    scale = float(b.abs().max())
    return not torch.isfinite(b).all() or float((a - b).abs().max()) <= _ROUNDING * max(scale, 1e-6)
