"""What a tracker has to offer. It is used by a mirror process alone, never by one that trains; see docs/watching.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from data.errors import RunError
from pretrain.trackers.delivered import Delivered


class TrackerError(RunError):
    """A tracker that cannot be reached, or that gave up; what it lacks is delivered later."""


class Tracker(ABC):
    """Takes rows of numbers in the order of their steps.

    Building one is done by the trainer too, to find wrong settings: it imports nothing of the service, and makes no
    file.

    Attributes:
        key: names what is delivered to, in the names of files.
        answers: the service itself says which steps it has. Otherwise what was sent counts once :meth:`finish` has
            closed it as a segment, and an open segment that a killed process has left is written again.
        wanted: whether a run that does not name it is mirrored to it on this host.
    """

    key: str
    answers: bool
    wanted: bool = True

    def has(self, delivered: Delivered) -> bool:
        """Whether what was delivered is still there, as far as this can be seen without the service."""
        return True

    @abstractmethod
    def begin(self, delivered: Delivered, patience_s: float) -> int:
        """Opens the history that ``delivered`` names, and removes segments that it does not know.

        Args:
            delivered: what is known of earlier deliveries.
            patience_s: how long to wait for the service, here and in :meth:`finish`.

        Returns:
            The last step that it has.

        Raises:
            TrackerError: it cannot be reached.
        """

    @abstractmethod
    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Hands over one row.

        Raises:
            TrackerError: it is gone.
        """

    @abstractmethod
    def finish(self) -> str:
        """Returns the name of the closed segment, once all that was sent is delivered.

        Raises:
            TrackerError: it is not.
        """

    def abandon(self) -> None:
        """Removes what an end without :meth:`finish` must not leave. Called while another thread may be in a method."""
        return
