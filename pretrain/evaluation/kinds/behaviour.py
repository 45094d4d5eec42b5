"""Behavioural tests of one encoder (CheckList, Ribeiro et al. 2020): what it must not mind, must mind, must know."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from data.errors import InputError
from data.label import Label
from modalities.encoder import Encoder
from modalities.prepare import Batch, Prepare
from modalities.text.masked_lm import MaskedLM, MaskedText
from modalities.text.member import TextMember
from pretrain.embedding.extract import OWN
from pretrain.evaluation.behaviour import judge, outcome
from pretrain.evaluation.behaviour.masked import Guesses, HiddenWords, Hider, case_items, guesses
from pretrain.evaluation.behaviour.suite import KINDS, MASKED, ORIGINAL, PAIR, Test, read_suite
from pretrain.evaluation.behaviour.variants import CONTENT, TEXT, Variants
from pretrain.evaluation.features import Features
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator, check_count
from pretrain.evaluation.passes import Passes
from pretrain.evaluation.scores import Scores
from pretrain.evaluation.setting import Setting
from pretrain.model import Model, Task

log = logging.getLogger("pretrain")

TEXT_MODALITY = "text"


class Behaviour(EmbeddingEvaluator):
    """Invariance, direction and minimum ability on changed samples; the tests are a suite.

    Tests that a run cannot have (of a pair without one, of masked words without a masked language model, of classes
    without labels) are left out, and a line in the log says so.

    Args:
        suite: ``text``, ``image`` or ``audio``, or the path of a YAML file; None: the one of the encoder's modality.
        encoder: its name, whose inputs are changed; None: the run's only one.
        pair: name of the encoder of a pair's other half; None: none.
        source: held-out samples.
        label: where classes are, see :class:`pretrain.evaluation.labels.Label`; None: there are none.
        embed_dim: size of the joint space, which a pair needs; None: the encoder's own features.
        show: failures of a test that are listed, at most.
        prepare: ``encoder`` and ``pair`` -> arguments of what prepares its inputs that are to be others.
        pool, samples, every_n_steps: see :class:`EmbeddingEvaluator`.
    """

    def __init__(
        self,
        suite: str | None = None,
        encoder: str | None = None,
        pair: str | None = None,
        source: Any = None,
        label: str | None = None,
        embed_dim: int | None = None,
        pool: str = OWN,
        samples: int | None = None,
        every_n_steps: int | None = None,
        show: int = 5,
        prepare: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        encoders = {"encoder": encoder} | ({} if pair is None else {"pair": pair})
        super().__init__(encoders, {"source": source}, label, embed_dim, pool, samples, every_n_steps, prepare)
        if pair is not None and embed_dim is None:
            raise InputError(f"pair={pair} is compared in a joint space; give embed_dim")
        check_count("show", show)
        self.suite, self.show = suite, show
        self.tests: list[Test] = []
        self._encoder: Encoder | None = None
        self._masked: Task | None = None
        self._cases: dict[str, Batch] = {}

    def missing(self, model: Model) -> str | None:
        """See :class:`EmbeddingEvaluator`; looks at what the model can be asked."""
        reason = super().missing(model)
        if reason is None:
            name = str(self.encoders["encoder"])
            self._encoder = model.encoders[name]  # type: ignore[assignment]
            own = [task for task in model.tasks.values() if name in task.sides.values()]
            masked = [t for t in own if isinstance(t.objective, MaskedLM) and isinstance(t.prepare, MaskedText)]
            self._masked = masked[0] if masked else None
        return reason

    def open(self, name: str, setting: Setting) -> None:
        """See :class:`EmbeddingEvaluator`.

        Raises:
            InputError: also, the suite is not what it should be.
        """
        assert self._encoder is not None
        self.name, modality = name, self._encoder.modality
        if modality not in (TEXT_MODALITY, *CONTENT):
            raise InputError(f"evaluators.{name}: no changes are known for {modality}, only for text, image and audio")
        try:
            tests = read_suite(self.suite or modality, modality)
        except InputError as error:
            raise InputError(f"evaluators.{name}: {error}") from None
        self.tests = [test for test in tests if not self._left_out(test)]
        source, samples = self.sources["source"], self.samples or setting.samples
        embedded = [test for test in self.tests if test.of != MASKED]
        if embedded:
            prepare = self._variants(embedded, setting)
            own = str(self.encoders["encoder"])
            sides = dict.fromkeys(prepare.changes, own) | dict.fromkeys(prepare.others, str(self.encoders.get("pair")))
            made = Features(f"{name}.source", source, sides, prepare, self.embed_dim, self.pool, samples, setting)
            self.features["source"] = self.passes["source"] = made
        masked = [test for test in self.tests if test.of == MASKED]
        if masked:
            self._hide(masked, source, samples, setting)

    def _left_out(self, test: Test) -> bool:
        reason = None
        if test.of == PAIR and "pair" not in self.encoders:
            reason = "it needs a pair"
        elif test.of == MASKED and self._masked is None:
            reason = f"no task trains encoder '{self.encoders['encoder']}' as a masked language model"
        elif test.same_class and self.label is None:
            reason = "it needs a label"
        if reason:
            log.info("test '%s' of evaluator '%s' is left out: %s", test.name, self.name, reason)
        return reason is not None

    def _variants(self, tests: list[Test], setting: Setting) -> Variants:
        names = {side: str(name) for side, name in self.encoders.items()}

        def inputs(side: str, **whole: Any) -> Prepare:
            given = {**self.changed.get(side, {}), **whole}
            return setting.inputs(names[side], set(names.values()), self.embed_dim is not None, given)

        base, text = inputs("encoder"), None
        if base.modality == TEXT_MODALITY:
            text = getattr(base, "source", None)
            if not isinstance(text, TextMember):
                raise InputError(f"evaluators.{self.name}: {type(base).__name__} does not say where the text is")
            base = inputs("encoder", member=TEXT, field=None)
        changes = {ORIGINAL: None} | {side: own for test in tests for side, own in judge.sides_of(test).items()}
        others = {PAIR: inputs("pair")} if any(test.of == PAIR for test in tests) else {}
        return Variants(self.name, base, changes, text, others, Label(self.label) if self.label else None)

    def _hide(self, tests: list[Test], source: Any, samples: int, setting: Setting) -> None:
        assert self._masked is not None
        prepare = self._masked.prepare
        sampled = [test for test in tests if not test.cases]
        if sampled:
            changes = {ORIGINAL: None} | {side: own for test in sampled for side, own in judge.sides_of(test).items()}
            hidden = HiddenWords(prepare, changes, self.name)
            self.passes["masked"] = Passes(f"{self.name}.source", source, hidden, samples, setting)
        for test in tests:
            if test.cases:
                try:
                    self._cases[test.name] = case_items(test.cases, Hider(prepare))
                except InputError as error:
                    raise InputError(f"evaluators.{self.name}: test '{test.name}': {error}") from None

    def scores_of(self, model: Model) -> Scores:
        """``TEST_failures`` of each test, and ``failed_tests``; :attr:`tables` has verdicts and failures."""
        embedded = self.features["source"](model) if self.features else None
        guessed = self._guesses(model)
        found = []
        for test in self.tests:
            if test.of == MASKED:
                assert self._masked is not None
                own = guessed[test.name if test.cases else ""]
                one = judge.guessed_outcome(test, own, self._masked.prepare.vocab_size)
            else:
                one = judge.embedded_outcome(test, embedded) if embedded else None
            if one is None:
                log.info("test '%s' of evaluator '%s' applies to no sample", test.name, self.name)
            else:
                found.append(one)
        found.sort(key=lambda one: KINDS.index(one.test.kind))
        self.tables = outcome.tables(self.name, found, self.show) if found else []
        return outcome.scores(found) if found else {}

    def _guesses(self, model: Model) -> dict[str, Guesses]:
        """Test with cases -> what the model thinks of them; "" of the source's words."""
        if self._masked is None:
            return {}
        found = {name: guesses(model, self._masked, [batch]) for name, batch in self._cases.items()}
        return found | ({"": guesses(model, self._masked, self.passes["masked"])} if "masked" in self.passes else {})
