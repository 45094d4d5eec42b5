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
        root: where the shards belong; appears whole or not at all.
        tokenizer: where the tokenizer belongs.
        vocab_size: entries of the tokenizer.
    """

    def __init__(self, root: str, tokenizer: str, vocab_size: int) -> None:
        self.root, self.tokenizer, self.vocab_size = Path(root), Path(tokenizer), vocab_size

    def ensure(self) -> None:
        """Builds what is missing; processes that start together wait for one.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.root.is_dir() and self.tokenizer.exists():
            return
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            with open(self.root.parent / f".{self.root.name}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.root.is_dir():
                    self._build_shards()
                if not self.tokenizer.exists():
                    self._train_tokenizer()
        except OSError as error:
            raise InputError(
                f"the demo data cannot be written to '{self.root}': {error.strerror}; "
                "set PRETRAIN_CACHE to another folder"
            ) from None

    def _build_shards(self) -> None:
        from data.demo import build

        began = time.perf_counter()
        log.info("building the demo data set in %s (once, some ten seconds)", self.root)
        partial = self.root.with_name(f".{self.root.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        build.build(partial)
        os.rename(partial, self.root)
        log.info("built in %.0f s", time.perf_counter() - began)

    def _train_tokenizer(self) -> None:
        from modalities.text import tokenizer

        partial = self.tokenizer.with_name(f".{self.tokenizer.name}.part")
        partial.write_text(tokenizer.train(_texts(self.root), self.vocab_size).to_str())
        os.replace(partial, self.tokenizer)


def _texts(root: Path) -> Iterator[str]:
    from data.shards.source import Source

    for pattern in ("prose-train-*.tar", "scenes-train-*.tar"):
        source = Source("demo", str(root / pattern))
        for number in range(len(source)):
            yield source.read(number).members["txt"].decode()
