"""Files to pack, and what stands in shards afterwards."""

import json
import os
import tarfile

import numpy as np
import soundfile
from PIL import Image

from data.pack.fields import Fields
from data.pack.pack import Packing, pack
from data.pack.source import locate


def image(path, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), "red").save(path, kind)
    return path


def audio(path, samples=160):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(samples, dtype=np.float32), 16000)
    return path


def table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def samples(shard):
    """Key -> extension -> bytes, read by Python's own tarfile."""
    found = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            folder, _, base = member.name.rpartition("/")
            stem, _, extension = base.partition(".")
            found.setdefault(f"{folder}/{stem}" if folder else stem, {})[extension] = tar.extractfile(member).read()
    return found


def packed(source, out, **options):
    fields = {name: options.pop(name) for name in list(options) if name in Fields.__dataclass_fields__}
    report = pack(locate(str(source)), out, Packing(prefix="p", fields=Fields(**fields), **options))
    found = {}
    for shard in report.shards:
        found |= samples(out / shard["name"])
    return report, found


def reasons(report):
    return {reason: entry.count for reason, entry in report.left_out.items()}


def beyond_reach(folder):
    """Folders in ``folder``, the deepest of which nobody can list by its path, not even root: it is too long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(17):
        os.mkdir("x" * 250, dir_fd=here)
        deeper = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
