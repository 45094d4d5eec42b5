"""What a tracker has been given of a run, as the run directory remembers it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.errors import InputError
from pretrain.checkpoint.disk import make, replace

FOLDER = "trackers"


@dataclass
class Delivered:
    """Which rows of ``metrics.jsonl`` a tracker was given, and that they still are the same.

    Attributes:
        history: 1, and one more each time that rows it was given were withdrawn: what was said cannot be unsaid, so
            the run is told anew.
        step: of the last row.
        size: bytes of ``metrics.jsonl`` up to there.
        sha256: of these bytes.
        segments: closed files that hold them, of trackers that do not answer.
    """

    history: int = 1
    step: int = 0
    size: int = 0
    sha256: str = ""
    segments: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path, key: str) -> Delivered:
        """What the run directory ``folder`` remembers of the tracker ``key``.

        Raises:
            InputError: the file is not what :meth:`write` wrote.
        """
        path = _path(folder, key)
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError):
            raise InputError(f"'{path}' does not say what was delivered; remove it to deliver all rows again") from None

    def write(self, folder: Path, key: str) -> None:
        """Remembers it, as a whole or not at all.

        Raises:
            OSError: the disk does not take it.
        """
        path = _path(folder, key)
        make(path.parent)
        replace(path, (json.dumps(asdict(self)) + "\n").encode())


def _path(folder: Path, key: str) -> Path:
    return folder / FOLDER / f"{key}.json"
