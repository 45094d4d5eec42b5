"""The shards of one packing: one series for each split, written aside and moved to their names at the end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from data.pack.report import report_name
from data.shards.index import SUFFIX

if TYPE_CHECKING:
    from data.write import Shard


_MOST = 64
"""Splits of a packing: each has a file open, and a column of so many values is of something else."""


def _reported(report: Path) -> list[str]:
    try:
        shards = json.loads(report.read_text(encoding="utf-8"))["shards"]
        return [Path(shard["name"]).name for shard in shards if shard["name"].endswith(".tar")]
    except (OSError, ValueError, KeyError, TypeError):  # no report, or a file of another kind by that name
        return []


class Splits:
    """Writes samples to ``PREFIX-SPLIT-000000.tar`` and so on.

    They are written in a hidden folder inside ``folder``: until :meth:`publish`, a packing that fails or is stopped
    leaves an earlier one as it was. Publishing removes the earlier shards and moves the new ones one by one. Each is
    whole, but a process that is killed just then leaves only some of them.

    Args:
        folder: where the shards go.
        prefix: what their names begin with.
        max_bytes: a new shard begins before a sample that would grow the tar file beyond this.
        overwrite: whether shards of an earlier packing of the same prefix and split give way.
    """

    def __init__(self, folder: Path, prefix: str, max_bytes: int, overwrite: bool) -> None:
        self._folder = folder
        self._prefix = prefix
        self._max_bytes = max_bytes
        self._overwrite = overwrite
        self._stage = folder / f".{prefix}.packing"
        self._old: set[Path] = set()
        self._open: dict[str, Shard] = {}
        self._shards: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> Splits:
        self._held = self._hold()
        try:
            for left in self._stage.iterdir():  # by a packing that was killed
                left.unlink()
            # The report names all shards of an earlier packing, whatever its splits were called.
            self._give_way({self._folder / name for name in _reported(self._folder / report_name(self._prefix))})
        except BaseException:
            self.__exit__()  # or this process would hold the lock against itself
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for shard in self._open.values():
            shard.abandon()
        shutil.rmtree(self._stage, ignore_errors=True)
        os.close(self._held)

    def _hold(self) -> int:
        """Makes the folder and locks it; a descriptor on it."""
        while True:
            self._stage.mkdir(parents=True, exist_ok=True)
            held = os.open(self._stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
                raise InputError(
                    f"another packing writes '{self._folder}/{self._prefix}-*.tar' at this moment; "
                    "wait for its end, or give another --out or --name"
                ) from None
            except OSError:  # a file system without locks: there two at a time are not noticed
                return held
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._stage), os.fstat(held)):
                    return held
            os.close(held)  # another packing ended, and removed it, before the lock was taken

    def claim(self, split: str) -> None:
        """Opens the series of ``split``.

        Raises:
            InputError: an earlier packing left shards of this name and they may not be overwritten.
        """
        if split in self._shards:
            return
        if len(self._shards) == _MOST:
            raise InputError(
                f"--split makes more than {_MOST} sets of shards, the last of them '{split}'; name a column of few"
            )
        name = re.compile(re.escape(self._stem(split)) + r"-\d{6}\.tar")
        self._give_way({path for path in self._folder.iterdir() if name.fullmatch(path.name)})
        self._shards[split] = []

    def add(self, split: str, key: str, members: Mapping[str, bytes]) -> None:
        """Writes one sample."""
        from data.write import Shard, tar_bytes  # brings torch with it: wrong input is refused without that wait

        self.claim(split)
        shards = self._shards[split]
        if split not in self._open or self._open[split].tar_bytes + tar_bytes(members) > self._max_bytes:
            self._close(split)
            name = f"{self._stem(split)}-{len(shards):06d}.tar"
            self._open[split] = Shard(self._stage / name)
            shards.append({"name": name, "split": split, "samples": 0, "bytes": 0})
        self._open[split].add(key, members)
        shards[-1]["samples"] += 1

    def publish(self) -> list[dict[str, Any]]:
        """Completes the shards and moves them to their names; those of an earlier packing go.

        Returns:
            name, split, samples and bytes of each shard.
        """
        for split in self._shards:
            self._close(split)
        shards = [shard for split in self._shards for shard in self._shards[split]]
        for path in self._old:
            path.unlink()
            Path(f"{path}{SUFFIX}").unlink(missing_ok=True)
        for shard in shards:
            staged = self._stage / shard["name"]
            shard["bytes"] = staged.stat().st_size
            for name in (f"{staged.name}{SUFFIX}", staged.name):  # the index first: no reader makes its own meanwhile
                os.replace(self._stage / name, self._folder / name)
        return shards

    def _give_way(self, old: set[Path]) -> None:
        present = {path for path in old if path.exists()}
        if present and not self._overwrite:
            raise InputError(f"'{min(present)}' exists already: use another --name or --out, or --overwrite")
        self._old |= present

    def _stem(self, split: str) -> str:
        return f"{self._prefix}-{split}"

    def _close(self, split: str) -> None:
        shard = self._open.pop(split, None)
        if shard is not None:
            shard.close()
