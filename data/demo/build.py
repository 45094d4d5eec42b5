"""Makes the demo data set: scenes that can be seen, heard and read, and English prose. Needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.demo import picture, prose, sound
from data.demo.scene import Scene, distinct, scene
from data.write import Members, write

SHARD_BYTES = 12 * 2**20

Progress = Callable[[str, int, int], None]


def build(root: Path, progress: Progress | None = None, *, scenes_train: int = 4000, scenes_val: int = 256) -> None:
    """Writes the demo shards into the directory ``root``; the same bytes at every call with the same Python.

    ``scenes-{train,val}-NNNNNN.tar`` hold samples of ``png``, ``txt`` (caption), ``flac`` and ``json`` (attributes);
    every val scene shows a pair of shape and colour that no train scene shows, and no two val scenes are equal.
    ``prose-{train,val}-NNNNNN.tar`` hold documents as ``txt``, a twentieth of them in val.

    Args:
        root: an empty directory. The caller sees to it that a half-built one is never taken for a whole one.
        progress: called now and then with (what is being written, samples done, samples in all).
        scenes_train: number of training scenes.
        scenes_val: number of evaluation scenes; there are tens of thousands of different ones.
    """
    drawn = {
        "train": [scene(number, "train") for number in range(scenes_train)],
        "val": list(distinct("val", scenes_val)),
    }
    for split, scenes in drawn.items():
        name = f"scenes-{split}"
        write(_counted(map(_scene_sample, scenes), name, len(scenes), progress), root, name, SHARD_BYTES)
    documents: dict[str, list[str]] = {"train": [], "val": []}
    for document in prose.documents():
        documents[prose.split(document)].append(document)
    for split, texts in documents.items():
        name = f"prose-{split}"
        samples = ((f"{name}-{n:06d}", {"txt": text.encode("utf-8")}) for n, text in enumerate(texts))
        write(_counted(samples, name, len(texts), progress), root, name, SHARD_BYTES)


def _scene_sample(one: Scene) -> tuple[str, Members]:
    return f"scene-{one.split}-{one.number:06d}", {
        "png": picture.png(one),
        "txt": one.caption().encode("utf-8"),
        "flac": sound.flac(one),
        "json": json.dumps(one.attributes()).encode("utf-8"),
    }


def _counted(
    samples: Iterable[tuple[str, Members]], name: str, total: int, progress: Progress | None
) -> Iterator[tuple[str, Members]]:
    for done, sample in enumerate(samples, start=1):
        yield sample
        if progress is not None and (done % 100 == 0 or done == total):
            progress(name, done, total)
