"""Classification by nothing but texts that name the classes (CLIP, Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.prepare import Prepare
from pretrain.devices import moved
from pretrain.embedding.extract import Extractor
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator
from pretrain.evaluation.metrics.zero_shot import accuracy, balanced, classifier
from pretrain.evaluation.scores import Scores
from pretrain.evaluation.setting import Setting
from pretrain.model import Model

HOLE, TEXT = "{}", "txt"


class ZeroShot(EmbeddingEvaluator):
    """Which class's texts a picture or a sound is most like.

    Args:
        encoders: ``samples`` and ``texts`` -> names of encoders.
        source: held-out samples with classes.
        embed_dim: size of the joint space; both encoders must have a projection to it.
        label: where classes are.
        templates: texts with ``{}`` where the name of a class goes; several are averaged (section 3.1.4).
        names: class -> what it is called in the texts; a class that is not here goes by itself, with spaces for _.
        classes: those to choose from; None: those that occur. Samples of others are left out.
        samples, every_n_steps: see :class:`EmbeddingEvaluator`.
    """

    def __init__(
        self,
        encoders: Mapping[str, str],
        source: Any,
        embed_dim: int,
        label: str = "cls",
        templates: Sequence[str] = (HOLE,),
        names: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        samples: int | None = None,
        every_n_steps: int | None = None,
    ) -> None:
        if set(encoders) != {"samples", "texts"}:
            raise InputError(f"encoders must name samples and texts, got {', '.join(sorted(encoders)) or 'none'}")
        super().__init__(encoders, {"source": source}, label, embed_dim, samples=samples, every_n_steps=every_n_steps)
        for template in templates:
            if HOLE not in template:
                raise InputError(f"template '{template}' has no {HOLE} where the name of a class goes")
        if not templates:
            raise InputError("templates is an empty list; give '{}' for the bare name of a class")
        self.templates, self.classes = list(templates), None if classes is None else [str(one) for one in classes]
        self.names = {str(label): name for label, name in (names or {}).items()}
        twice = [label for label, count in Counter(self.classes or ()).items() if count > 1]
        if twice:
            raise InputError(f"classes has '{twice[0]}' twice, and nothing could tell one from the other")
        self._prepare: Prepare | None = None

    def sides(self, source: str) -> dict[str, str]:
        """Texts are not in the source."""
        return {"samples": str(self.encoders["samples"])}

    def open(self, name: str, setting: Setting) -> None:
        """See :class:`EmbeddingEvaluator`."""
        super().open(name, setting)
        encoders = [str(one) for one in self.encoders.values()]
        whole = {"member": TEXT, "field": None}  # a text is all that there is
        self._prepare = setting.inputs(str(self.encoders["texts"]), encoders, True, whole)

    def texts(self, label: str) -> list[str]:
        """What is said of a class."""
        called = self.names.get(label, label.replace("_", " "))
        return [template.replace(HOLE, called) for template in self.templates]

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """``accuracy``, ``accuracy@5`` where there are more classes than that, and ``balanced_accuracy``.

        Raises:
            InputError: no sample is of a class to choose from, or there is only one.
        """
        found = embedded["source"]
        classes = self.classes or sorted(set(found.labels))
        numbers = {label: number for number, label in enumerate(classes)}
        places = [place for place, label in enumerate(found.labels) if label in numbers]
        if len(classes) < 2 or not places:
            known = ", ".join(classes[:8])
            raise InputError(
                f"evaluators.{self.name}: {len(places)} of {len(found)} samples are of the classes {known}"
            )
        rows, labels = found.rows["samples"][places], np.array([numbers[found.labels[place]] for place in places])
        weights = classifier([self._embed(self.texts(label), model) for label in classes])
        guess = 1 / len(classes)
        scores: Scores = {
            "accuracy": {"value": accuracy(rows, weights, labels), "chance": guess},
            "balanced_accuracy": {"value": balanced(rows, weights, labels), "chance": guess},
        }
        if len(classes) > 5:
            scores["accuracy@5"] = {"value": accuracy(rows, weights, labels, 5), "chance": 5 * guess}
        return scores

    def _embed(self, texts: Sequence[str], model: Model) -> np.ndarray:
        """T texts -> (T, D)."""
        assert self._prepare is not None
        encoder = model.sides({"texts": str(self.encoders["texts"])})["texts"]
        samples = [Sample("", "text", {TEXT: text.encode()}) for text in texts]
        items = []
        for text, sample in zip(texts, samples, strict=True):
            try:
                items.append(self._prepare(sample, np.random.default_rng(0), False))
            except SampleError as error:
                raise InputError(
                    f"evaluators.{self.name}: the text '{text}' of a class cannot be used: {error}"
                ) from None
        inputs = moved(self._prepare.collate(items), next(encoder.parameters()).device)
        return Extractor(encoder, projection=str(self.embed_dim))(inputs).cpu().numpy()
