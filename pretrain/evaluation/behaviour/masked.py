"""Words hidden from a masked language model: what it thinks of the right ones. M masked tokens, V entries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import InputError
from data.sample import Sample
from data.seeds import generator
from modalities.prepare import Batch, Item
from modalities.text.masked_lm import MaskedLM, MaskedText
from pretrain.devices import moved
from pretrain.evaluation.behaviour.changes import Changes
from pretrain.evaluation.behaviour.suite import HOLE, Case
from pretrain.evaluation.passes import Passes
from pretrain.model import Model, Task

MARK = "\ue000"  # where a word was: no letter, so no change touches it, and no text has it
_WORD = re.compile(r"[^\W\d_]+")


@dataclass
class Guesses:
    """What the model thought of N hidden words.

    Attributes:
        logs: side -> (N,) log of the probability of all tokens of the word; NaN where the side does not apply.
        ranks: side -> (N,) place of the least likely of its tokens among V, from 1; 0 where it does not apply.
        notes: N of ``key`` and ``texts``, side -> text.
    """

    logs: dict[str, np.ndarray]
    ranks: dict[str, np.ndarray]
    notes: list[dict[str, Any]]


class Hider:
    """Hides a word of a text.

    Args:
        prepare: of the task; has tokenizer and limits.
    """

    def __init__(self, prepare: MaskedText) -> None:
        self.prepare = prepare

    def item(self, text: str, word: str) -> Item | None:
        """Tokens of ``text`` with ``word`` in the place of its mark, hidden; None where that is cut off.

        Args:
            text: with :data:`MARK` once.
            word: what stands there.
        """
        begin = text.index(MARK)
        end = begin + len(word)
        ids, spans = self.prepare.tokenizer.located(text.replace(MARK, word))
        room = self.prepare.max_tokens - 2
        places = [place for place, (first, last) in enumerate(spans) if first < end and last > begin]
        if not places or places[-1] >= room:
            return None
        tokens = np.array([self.prepare.start, *ids[:room], self.prepare.end], dtype=np.int64)
        masked = 1 + np.array(places, dtype=np.int64)
        labels = tokens[masked]
        tokens[masked] = self.prepare.mask
        return {"tokens": tokens, "masked": masked, "labels": labels}

    def collate(self, items: Mapping[str, Sequence[Item | None]]) -> Batch:
        """Side -> what the model takes of those that apply, and how many tokens each of N hides (0: does not apply)."""
        batch: Batch = {}
        for side, own in items.items():
            there = [item for item in own if item is not None]
            inputs = self.prepare.collate(there)["text"] if there else None
            batch[side] = {"inputs": inputs, "counts": [0 if item is None else len(item["masked"]) for item in own]}
        return batch


class HiddenWords:
    """Prepares a text with one of its words hidden, as it is and changed.

    Args:
        prepare: of the task.
        changes: side -> what is done to the text around the word; None: nothing.
        name: of the evaluator; with the sample's key it seeds the choice of the word.
    """

    def __init__(self, prepare: MaskedText, changes: Mapping[str, Changes | None], name: str) -> None:
        self.hider, self.source, self.changes, self.name = Hider(prepare), prepare.source, dict(changes), name
        self.room = prepare.max_tokens - 2

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A text."""
        return {"text": (self.source.member,)}

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"sides": {side: item or None}, "note": {"key", "texts"}}``."""
        text = self.source.read(sample, rng, False)[: self.hider.prepare.max_chars].replace(MARK, " ")
        _, spans = self.hider.prepare.tokenizer.located(text)
        text = text[: spans[min(len(spans), self.room) - 1][1]] if spans else text
        words = list(_WORD.finditer(text))
        sides: dict[str, Item | None] = dict.fromkeys(self.changes)
        texts = {}
        if words:
            draw = generator("behaviour", self.name, "word", sample.key)
            begin, end = words[int(draw.integers(len(words)))].span()
            word, marked = text[begin:end], text[:begin] + MARK + text[end:]
            for side, change in self.changes.items():
                draw = generator("behaviour", self.name, side, sample.key)
                changed = marked if change is None else change(marked, draw)
                if changed is not None and MARK in changed:
                    sides[side] = self.hider.item(changed, word)
                    texts[side] = changed.replace(MARK, f"[{word}]")
        return {"sides": sides, "note": {"key": sample.key, "texts": texts}}

    def collate(self, items: list[Item]) -> Batch:
        """See :meth:`Hider.collate`, with ``notes`` and ``size``."""
        sides = {side: [item["sides"][side] for item in items] for side in self.changes}
        return {"sides": self.hider.collate(sides), "notes": [item["note"] for item in items], "size": len(items)}


def case_items(cases: Sequence[Case], hider: Hider) -> Batch:
    """The same of texts that a suite has: sides ``original`` and, in a direction, ``changed``.

    Raises:
        InputError: a text is longer than the model takes.
    """
    sides: dict[str, list[Item | None]] = {"original": []}
    notes = []
    for case in cases:
        texts = {"original": case.text} | ({} if case.changed is None else {"changed": case.changed})
        for side, text in texts.items():
            item = hider.item(text.replace(HOLE, MARK), case.word)
            if item is None:
                raise InputError(f"'{text}' is longer than max_tokens={hider.prepare.max_tokens}")
            sides.setdefault(side, []).append(item)
        shown = {side: text.replace(HOLE, f"[{case.word}]") for side, text in texts.items()}
        notes.append({"key": "", "texts": shown})
    return {"sides": hider.collate(sides), "notes": notes, "size": len(cases)}


def guesses(model: Model, task: Task, batches: Passes | Sequence[Batch]) -> Guesses:
    """What the model of ``task`` thinks of the words that are hidden in ``batches``."""
    encoders, objective = model.sides(task.sides), task.objective
    assert isinstance(objective, MaskedLM)
    device = next(model.parameters()).device
    logs: dict[str, list[np.ndarray]] = {}
    ranks: dict[str, list[np.ndarray]] = {}
    notes: list[dict[str, Any]] = []
    for batch in batches.batches() if isinstance(batches, Passes) else batches:
        notes += batch["notes"]
        for side, own in batch["sides"].items():
            counts = np.array(own["counts"])
            log, rank = np.full(len(counts), np.nan), np.zeros(len(counts), np.int64)
            if counts.any():
                found, places = objective.beliefs(encoders, {"text": moved(own["inputs"], device)})
                begins = np.concatenate(([0], np.cumsum(counts[counts > 0])))[:-1]
                log[counts > 0] = np.add.reduceat(found.double().cpu().numpy(), begins)
                rank[counts > 0] = np.maximum.reduceat(places.cpu().numpy(), begins)
            logs.setdefault(side, []).append(log)
            ranks.setdefault(side, []).append(rank)
    whole = [{side: np.concatenate(own) for side, own in part.items()} for part in (logs, ranks)]
    return Guesses(whole[0], whole[1], notes)
