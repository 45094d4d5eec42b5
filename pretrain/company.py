"""What the ranks of a run share beside collectives: what they agree on, signs of life, a count of attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from pretrain.agreement import Agreement
from pretrain.attempts import Attempts
from pretrain.ending import FAILED, INTERRUPTED, Ending
from pretrain.lifeline import Lifeline, RankEnded
from pretrain.ranks import Process
from pretrain.run import RunDirectory
from pretrain.said import say_met
from pretrain.signals import SIGNALS, is_stop


@dataclass(frozen=True)
class Company:
    """One rank's part in it.

    Attributes:
        agreement: exchanged at each step edge.
        lifeline: names a rank that is lost.
        attempts: deaths of earlier processes in the same step; kept by rank 0.
        requeue: whether the scheduler is asked to start the job again when it has told it to end.
    """

    agreement: Agreement
    lifeline: Lifeline
    attempts: Attempts
    requeue: bool

    def meet(self, timeout_s: float) -> None:
        """Opens what needs the process group; a collective.

        Args:
            timeout_s: how long the ranks wait for one another at a step edge.

        Raises:
            RunError: rank 0 cannot be reached.
        """
        if self.lifeline.world_size == 1:
            return
        self.agreement.open(timeout_s)
        address: list[Any] = [self.lifeline.listen() if self.lifeline.rank == 0 else None]
        dist.broadcast_object_list(address, group=self.agreement.group)
        if self.lifeline.rank:
            self.lifeline.join(*address[0])
        self.lifeline.start()
        say_met()


def company_of(options: dict[str, Any], process: Process, directory: RunDirectory, ending: Ending) -> Company:
    """This process's part, as the config's section ``interruption`` wants it."""
    attempts = Attempts(directory.path if process.rank == 0 else None, options["attempts"])

    def last_word(ended: RankEnded) -> None:
        """What unwinding would have seen to."""
        if is_stop(ended):
            attempts.note(0)  # no death
            ending.write(INTERRUPTED, str(ended))
            SIGNALS.leave()
        else:
            ending.write(FAILED, str(ended))

    lifeline = Lifeline(process.rank, process.world_size, options["silence_s"], last_word)
    return Company(Agreement(process.rank, process.world_size), lifeline, attempts, options["requeue"])
