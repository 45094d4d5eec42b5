"""The embedded data set, made on first use."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError

log = logging.getLogger("pretrain")


class Demo:
    """Builds the demo shards and a tokenizer trained on their texts, unless they are there.

    Args:
        root: where they belong; appears whole or not at all.
        vocab_size: entries of the tokenizer.
    """

    def __init__(self, root: str, vocab_size: int) -> None:
        self.root = Path(root)
        self.vocab_size = vocab_size

    def ensure(self) -> None:
        """Builds it if it is missing; processes that start together wait for one.

        Raises:
            InputError: the folder cannot be written, or was built with another ``vocab_size``.
        """
        if not self.root.is_dir():
            try:
                self.root.parent.mkdir(parents=True, exist_ok=True)
                with open(self.root.parent / f".{self.root.name}.lock", "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if not self.root.is_dir():
                        self._build()
            except OSError as error:
                raise InputError(
                    f"the demo data cannot be written to '{self.root}': {error.strerror}; set PRETRAIN_CACHE to another folder"
                ) from None

    def _build(self) -> None:
        from data.demo import build
        from modalities.text import tokenizer

        began = time.perf_counter()
        log.info("building the demo data set in %s", self.root)
        partial = self.root.with_name(f".{self.root.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        build.build(partial)
        tokenizer.train(_texts(partial), self.vocab_size).save(str(partial / "tokenizer.json"))
        os.rename(partial, self.root)
        log.info("built in %.0f s", time.perf_counter() - began)


def _texts(root: Path) -> Iterator[str]:
    from data.source import Source

    for pattern in ("prose-train-*.tar", "scenes-train-*.tar"):
        source = Source("demo", str(root / pattern))
        for number in range(len(source)):
            yield source.read(number).members["txt"].decode()
