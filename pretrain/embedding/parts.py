"""Parts of a folder of embeddings on disk: a file of vectors, and beside it one that says whose they are.

``embeddings-00003.npy`` (or ``.safetensors``, ``.parquet``) and ``embeddings-00003.jsonl``, a line for each sample of
the part: ``{"number", "key", "shard"}``, in the order of the vectors; with ``left_out`` where there is none for it. The
file of vectors comes last, and at once: with it the part is there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from data.errors import InputError
from pretrain.checkpoint.disk import replace

Row: TypeAlias = dict[str, Any]
NAME = "embeddings"


class Format(NamedTuple):
    """How vectors are written, given their rows, and read again."""

    write: Callable[[np.ndarray, Sequence[Row]], bytes]
    read: Callable[[Path], np.ndarray]


def _write_npy(vectors: np.ndarray, rows: Sequence[Row]) -> bytes:
    file = io.BytesIO()
    np.save(file, vectors)
    return file.getvalue()


def _read_npy(path: Path) -> np.ndarray:
    found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _write_safetensors(vectors: np.ndarray, rows: Sequence[Row]) -> bytes:
    from safetensors.numpy import save

    return save({NAME: vectors}, {"keys": json.dumps([row["key"] for row in rows])})


def _read_safetensors(path: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(path)[NAME]


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InputError(
            "--format parquet needs pyarrow: pip install 'pyarrow>=20' (this package's extra 'parquet')"
        ) from None
    return pyarrow, parquet


def _write_parquet(vectors: np.ndarray, rows: Sequence[Row]) -> bytes:
    arrow, parquet = _arrow()
    flat = arrow.array(vectors.reshape(-1))
    columns: dict[str, Any] = {name: [_utf8(row[name]) for row in rows] for name in ("key", "shard")}
    columns["number"] = [row["number"] for row in rows]
    columns[NAME] = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()


def _utf8(name: str) -> str:
    """A name as it is, but for what is not UTF-8 in it: Parquet's strings are."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read_parquet(path: Path) -> np.ndarray:
    _, parquet = _arrow()
    column = parquet.read_table(path, columns=[NAME]).column(NAME).combine_chunks()
    found: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return found


FORMATS = {
    "npy": Format(_write_npy, _read_npy),
    "safetensors": Format(_write_safetensors, _read_safetensors),
    "parquet": Format(_write_parquet, _read_parquet),
}


def check_format(name: str) -> None:
    """Checks that the format can be written, before hours are spent on what would be.

    Raises:
        InputError: what it needs is not installed.
    """
    if name == "parquet":
        _arrow()


def paths(folder: Path, number: int, kind: str) -> tuple[Path, Path]:
    """(vectors, rows) of a part."""
    stem = f"{NAME}-{number:05d}"
    return folder / f"{stem}.{kind}", folder / f"{stem}.jsonl"


def write(folder: Path, number: int, kind: str, vectors: np.ndarray, rows: Sequence[Row]) -> None:
    """Publishes a part: it is there whole, or not at all.

    Args:
        folder: of the embeddings.
        number: of the part.
        kind: one of :data:`FORMATS`.
        vectors: (n, D).
        rows: those with a vector, n of them in order, and those that were left out, anywhere between.

    Raises:
        OSError: the disk does not take it.
    """
    main, beside = paths(folder, number, kind)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = FORMATS[kind].write(vectors, [row for row in rows if "left_out" not in row])
    replace(beside, lines.encode("utf-8", "surrogatepass"))
    replace(main, content)


def read(folder: Path, number: int, kind: str) -> tuple[np.ndarray, list[Row]]:
    """(n, D) vectors of a part and its rows, those without a vector among them.

    Raises:
        InputError: it is damaged.
    """
    main, beside = paths(folder, number, kind)
    try:
        with open(beside, encoding="utf-8", errors="surrogatepass") as file:
            rows = [json.loads(line) for line in file]
        vectors = FORMATS[kind].read(main)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{main}' cannot be read: {error}") from None
    if len(vectors) != sum("left_out" not in row for row in rows):
        raise InputError(f"'{main}' has {len(vectors)} vectors, and '{beside.name}' other rows; make it anew")
    return vectors, rows
