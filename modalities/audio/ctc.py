"""Speech to characters (CTC, Graves et al. 2006). T frames of B clips, C characters; number 0 is the blank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.audio.prepare import AudioPrepare
from modalities.initialisation import initialise
from modalities.labelled import Labelled, check_labels
from modalities.layout import Layout
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item

SPACE = " "


class Transcribed(Labelled):
    """A clip, and the characters that are said in it.

    A recording longer than ``max_seconds`` cannot be used, as its text is that of all of it, nor one with fewer frames
    than CTC needs: one a character, and one between two equal ones.

    Args:
        input: what prepares the clip.
        label: where the text is, see :func:`data.label.label_of`.
        labels: the characters, see :class:`modalities.labelled.Labelled`.
        lower: texts are taken in lower case.
    """

    least = 1

    def __init__(
        self,
        input: AudioPrepare,
        label: str | Mapping[str, Any] = "txt",
        labels: Sequence[str] | None = None,
        lower: bool = True,
    ) -> None:
        super().__init__(input, label, labels)
        if not isinstance(input, AudioPrepare):
            raise InputError(f"input is a {type(input).__name__}, not what prepares sound (AudioPrepare)")
        long = next((one for one in self.labels if len(one) != 1), None)
        if long is not None:
            raise InputError(f"labels has '{long}', which is not one character")
        self.lower, self.clip = lower, input

    @classmethod
    def learn(cls, texts: Iterable[str], *, lower: bool = True, **settings: Any) -> list[str]:
        """The characters of ``texts``."""
        return sorted({one for text in texts for one in normal(text, lower)})

    def target(self, text: str) -> np.ndarray:
        """(n,) int64, the numbers of the characters, of which the first has 1."""
        return np.array([1 + self.number(one) for one in normal(text, self.lower)], dtype=np.int64)

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"input": item, "label": (n,) int64}``.

        Raises:
            SampleError: also where there are more characters than frames.
        """
        item = super().__call__(sample, rng, training)
        label, wave = item["label"], item["input"]["wave"]
        if len(wave) >= round(self.clip.max_seconds * self.clip.sample_rate):
            reason = f"recording of max_seconds={self.clip.max_seconds:g} or more: its text would not fit the clip"
            raise SampleError(reason, "too_long")
        needed = len(label) + sum(a == b for a, b in pairwise(label.tolist()))
        frames = self.clip.frames(len(wave))
        if frames < needed:
            raise SampleError(f"{frames} frames for a text that needs {needed}", "too_short", self.reader.member)
        return item

    def collate(self, items: list[Item]) -> Batch:
        """``{"input": batch, "labels": (L,) int64 end to end, "lengths": B of them, "size": B}``."""
        labels = [item["label"] for item in items]
        joined = torch.from_numpy(np.concatenate(labels))
        return {**super().collate(items), "labels": joined, "lengths": [len(label) for label in labels]}


class CTC(Objective):
    """Connectionist temporal classification by a linear layer on each frame; held out read by best path (greedily).

    Args:
        width: D of the audio encoder.
        labels: the C characters, as its prepare has them.
        dropout: on the frames.
    """

    sides: ClassVar[dict[str, str]] = {"input": "audio"}

    def __init__(self, width: int, labels: Sequence[str] | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout} is not 0 or more and less than 1")
        self.width, self.labels, self.dropout = width, check_labels(labels, Transcribed.least), dropout
        self.head = nn.Linear(width, 1 + len(self.labels))
        initialise(self.head)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoder does not fit, None if it does."""
        width = encoders["input"].width
        return None if width == self.width else f"the objective has width={self.width}, its encoder width={width}"

    def count(self, batch: Batch) -> int:
        """L: characters."""
        return len(batch["labels"])

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Summed over the clips; held out also the edits from what was read to what was said."""
        tokens, layout = encoders["input"](batch["input"])
        logits = self.head(F.dropout(tokens, self.dropout, self.training))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = ctc(logits, layout, batch["labels"], batch["lengths"])
        return loss, {} if self.training else self._edits(logits, layout, batch)

    def read(self, logits: Tensor, layout: Layout) -> list[str]:
        """The best path of each clip: repeated characters once, blanks left out. (T, 1 + C) -> B texts."""
        paths = logits.argmax(1).cpu().split(layout.lengths)
        return [self.text(torch.unique_consecutive(path).tolist()) for path in paths]

    def text(self, numbers: Iterable[int]) -> str:
        """The characters of these numbers, without blanks."""
        return "".join(self.labels[number - 1] for number in numbers if number)

    def _edits(self, logits: Tensor, layout: Layout, batch: Batch) -> Sums:
        said = [self.text(numbers.tolist()) for numbers in batch["labels"].cpu().split(batch["lengths"])]
        pairs = list(zip(self.read(logits, layout), said, strict=True))
        found = {
            "character_edits": sum(edits(read, true) for read, true in pairs),
            "word_edits": sum(edits(read.split(), true.split()) for read, true in pairs),
            "words": sum(len(true.split()) for _, true in pairs),
            "characters": sum(len(true) for _, true in pairs),
        }
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in found.items()}

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """``loss`` (nats a character); held out ``cer`` and ``wer``: edits a character and a word."""
        found = {"loss": sums["loss"] / sums["count"]}
        if "words" in sums:
            found["cer"] = sums["character_edits"] / sums["characters"]
            found["wer"] = sums["word_edits"] / sums["words"]
        return found

    def chance(self, sums: Sums) -> dict[str, float]:
        """Reading nothing at all."""
        return {"cer": 1.0, "wer": 1.0}


def normal(text: str, lower: bool) -> str:
    """A text as it is told: runs of white space as one space, in lower case if ``lower``."""
    found = SPACE.join(text.split())
    return found.lower() if lower else found


def ctc(logits: Tensor, layout: Layout, labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """() minus the log probability of the labels, summed over the clips.

    Args:
        logits: (T, 1 + C) of clips end to end; 0 is the blank.
        layout: of the clips.
        labels: (L,) int64 from 1 on, end to end.
        lengths: how many of them are of each clip.
    """
    scores = F.log_softmax(logits, 1)
    longest = max(layout.lengths)
    # torch wants clips side by side; rows behind the end of a clip are not read.
    wide = scores.new_zeros(longest, len(layout), scores.shape[1])
    wide = wide.index_put((layout.position, layout.sequence), scores)
    loss: Tensor = _summed(wide, labels, layout.lengths, list(lengths))[0]
    return loss


@torch.library.custom_op("pretrain::ctc", mutates_args=())
def _summed(wide: Tensor, labels: Tensor, frames: list[int], lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Torch's loss, summed, and its gradient; an operator of its own, as torch's says no shapes to who only plans."""
    # Deterministic runs on CUDA compute it on the host: frames x clips x characters are few, and a step waits once.
    place = _place(wide.device, torch.are_deterministic_algorithms_enabled())
    here, given = wide.to(place), (labels.to(place), frames, lengths)
    each, table = torch.ops.aten._ctc_loss(here, *given)
    grad = torch.ops.aten._ctc_loss_backward(torch.ones_like(each), here, *given, each, table, 0)
    return each.sum().to(wide.device), grad.to(wide.device)


def _place(device: torch.device, deterministic: bool) -> torch.device:
    """Where the loss of scores on ``device`` is computed: its gradient on CUDA refuses to be deterministic."""
    return torch.device("cpu") if deterministic and device.type == "cuda" else device


@_summed.register_fake
def _(wide: Tensor, labels: Tensor, frames: list[int], lengths: list[int]) -> tuple[Tensor, Tensor]:
    return wide.new_empty(()), torch.empty_like(wide)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])


def _back(ctx: Any, loss: Tensor, grad: Tensor | None) -> tuple[Tensor, None, None, None]:
    return loss * ctx.saved_tensors[0], None, None, None


_summed.register_autograd(_back, setup_context=_keep)


def edits(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many insertions, deletions and substitutions make ``other`` of ``one`` (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for number, a in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for place, b in enumerate(other, 1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (a != b))
    return row[-1]
