"""The steps of a run one after the other, also where it goes back or leaves samples out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from typing import cast

from data.loading.loader import StepBatch, StepLoader
from pretrain.module import Pretraining
from pretrain.redaction import redacted
from pretrain.run import EVENTS, STARTS, RunDirectory
from pretrain.soundness.decisions import jumps
from pretrain.start import Start

log = logging.getLogger("pretrain")


class Course:
    """Batches from where the module stands to ``max_steps``.

    When the module has gone back, or a jump follows the step that it has done, a loader is opened anew from there. A
    jump is a start of its own in ``starts.jsonl``, from which the ledger and ``pretrain shards replay`` tell positions.

    Args:
        module: knows where the run stands.
        open_loader: start -> the steps from there on.
        max_steps: where the run ends.
        most: steps there can be at all, those done again among them.
        batch_sizes: task -> global batch, samples.
        directory: of the run.
    """

    def __init__(
        self,
        module: Pretraining,
        open_loader: Callable[[Start], StepLoader],
        max_steps: int,
        most: int,
        batch_sizes: Mapping[str, int],
        directory: RunDirectory,
    ) -> None:
        self.module, self.open_loader, self.max_steps, self.most = module, open_loader, max_steps, most
        self.batch_sizes, self.directory = batch_sizes, directory

    def __len__(self) -> int:
        """Not fewer than will come: Lightning fetches none ahead if it is told a number."""
        return self.most if self.module.steps_done < self.max_steps else 0

    def __iter__(self) -> Iterator[StepBatch]:
        while self.module.steps_done < self.max_steps:
            self._jump()
            start = self.module.start
            batches = cast(Generator[StepBatch, None, None], iter(self.open_loader(start)))
            for batch in batches:
                yield batch
                if self.module.start is not start or jumps(start.decisions, self.module.steps_done):
                    break
            batches.close()

    def _jump(self) -> None:
        """Begins at other positions, where a decision says so."""
        start, step = self.module.start, self.module.steps_done
        counts = jumps(start.decisions, step)
        if not counts:
            return
        positions = {
            task: start.position(task, step, size) + counts.get(task, 0) for task, size in self.batch_sizes.items()
        }
        self.module.start = replace(start, step=step, positions=positions, before=start)
        if self.directory.rank == 0:
            facts = {"step": step, "positions": positions, "batch_sizes": dict(self.batch_sizes)}
            self.directory.append(STARTS, facts | {"segments": start.segments, "jumps": counts})
            event = redacted({"step": step, "event": "jump", "jumps": counts, "positions": positions})
            if event not in self.directory.rows(EVENTS):  # an earlier start that was killed behind it has told of it
                self.directory.append(EVENTS, event)
            told = ", ".join(f"{count} of {task}" for task, count in counts.items())
            log.info("step %d: samples are left out: %s", step, told)
