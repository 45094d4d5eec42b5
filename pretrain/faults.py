"""What is wrong with a run's input, gathered, so that it is told at once instead of one thing a start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import InputError


class Faults:
    """Lines, each about one thing, in the order in which they were noticed.

    Attributes:
        lines: none twice; several tasks may share what is at fault.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.lines)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Notes an InputError from inside instead of letting it end everything; what follows there is left out."""
        try:
            yield
        except InputError as error:
            self.lines += [line for line in str(error).splitlines() if line not in self.lines]

    def tell(self) -> None:
        """Ends the matter.

        Raises:
            InputError: with a line for each fault, if there is any.
        """
        if self.lines:
            raise InputError("\n".join(self.lines))
