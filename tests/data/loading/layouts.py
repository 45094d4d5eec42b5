"""Shards as they are met, sound and harmed, and the prepare that reads them sample by sample."""

import io
import os
import random
import tarfile

from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.stream import Place, Stream
from tests.data.shards.tars import GNU, PAX, USTAR, write


class OneByOne(RawPrepare):
    """The same without blocks."""

    block_fields = None


def body(name):
    rng = random.Random(name)
    return rng.randbytes(rng.choice([0, 1, 511, 512, 513, 3000, 70_000]))


def regular(path, number):
    write(path, [(f"{number}-{n:03d}.{e}", body(f"{number}{n}{e}")) for n in range(9) for e in ("jpg", "txt")], USTAR)


def pax_times(path, number):
    """As webdataset's own writer, img2dataset with it, and Python's tarfile with a time make them."""
    with tarfile.open(path, "w", format=PAX) as tar:
        for n in range(9):
            for extension in ("txt", "jpg"):
                info = tarfile.TarInfo(f"{number}-{n:03d}.{extension}")
                info.size, info.mtime = len(body(info.name)), 1700000000.25 + n
                tar.addfile(info, io.BytesIO(body(info.name)))


def pax_names(path, number):
    write(path, [(f"{number}-ü{n:03d}.{e}", body(f"{number}{n}{e}")) for n in range(9) for e in ("jpg", "txt")], PAX)


def gnu_names(path, number):
    folder = "long/" * 30
    names = [f"{folder}{number}-{n:03d}.{e}" for n in range(9) for e in ("jpg", "txt")]
    write(path, [(name, body(name)) for name in names], GNU)


def interleaved(path, number):
    names = [f"{number}-{n:03d}.{e}" for e in ("jpg", "txt") for n in range(9)]
    write(path, [(name, body(name)) for name in names], USTAR)


def far_apart(path, number):
    names = [f"{number}-{n:03d}.{e}" for e in ("jpg", "txt") for n in range(9)]
    write(path, [(name, os.urandom(400_000) if name.endswith("jpg") else b"t") for name in names], USTAR)


def repeated_keys(path, number):
    names = [f"{number}-{n % 3:03d}.{e}" for n in range(9) for e in ("jpg", "txt")]
    write(path, [(name, body(f"{name}{n}")) for n, name in enumerate(names)], USTAR)


def more_members(path, number):
    extra = {n: ["json", "seg.png"][: n % 3] for n in range(9)}
    names = [f"{number}-{n:03d}.{e}" for n in range(9) for e in (*extra[n], "txt", "jpg")]
    write(path, [(name, body(name)) for name in names], USTAR)


def some_lack_one(path, number):
    names = [
        f"{number}-{n:03d}.{e}" for n in range(9) for e in ("jpg", "txt") if (n, e) not in ((2, "jpg"), (5, "txt"))
    ]
    write(path, [(name, body(name)) for name in names], USTAR)


def cut_off(path, number):
    """After its index was made, as a file system does it that loses the end."""
    regular(path, number)
    return lambda: _damage(path, lambda file, size: file.truncate(size // 2))


def other_headers(path, number):
    """A header that says another size than its index."""
    pax_times(path, number)
    return lambda: _damage(path, _other_sizes)


def _other_sizes(file, size):
    content = file.seek(0) or file.read()
    for n in (0, 3, 7):
        at = content.index(f"{number_of(content)}-{n:03d}.jpg\0".encode()) + 124
        file.seek(at)
        file.write(b"%011o" % 5)


def number_of(content):
    return content[content.index(b"-000.") - 1 : content.index(b"-000.")].decode()


def other_records(path, number):
    """A PAX record that says another size where there was a time."""
    pax_times(path, number)
    return lambda: _damage(path, _other_record)


def _other_record(file, size):
    content = file.seek(0) or file.read()
    at = content.index(b"mtime=")
    file.seek(at)
    file.write(b"size=00")


def gone(path, number):
    regular(path, number)
    return lambda: os.unlink(path)


def _damage(path, change):
    stat = os.stat(path)
    with open(path, "r+b") as file:
        change(file, stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # or it would be told from its time


KINDS = {kind.__name__: kind for kind in (
    regular, pax_times, pax_names, gnu_names, interleaved, far_apart, repeated_keys, more_members, some_lack_one,
    cut_off, other_headers, other_records, gone,
)}  # fmt: skip


def made(tmp_path, kinds):
    """A stream over a shard of each of ``kinds``, harmed after it knew what they hold."""
    after = []
    for number, kind in enumerate(kinds):
        after.append(KINDS[kind](tmp_path / f"{number}.tar", number))
    stream = Stream("t", str(tmp_path / "*.tar"), 3)
    for shard in range(len(kinds)):  # open it
        stream.identity(Place(0, 0, int(stream.sources[0].counts[:shard].sum())))
    for harm in filter(None, after):
        harm()
    return stream


def members(batch):
    """The contents of a micro-batch, of either form."""
    if "members" in batch:
        return [[member.tobytes() for member in sample] for sample in batch["members"]]
    assert batch["size"] == len(batch["edges"])
    content = batch["bytes"].numpy().tobytes()
    return [[content[a:b] for a, b in sample] for sample in batch["edges"].tolist()]


def outcome(stream, prepare, workers=0, micro=None, steps=7, batch=6):
    """(contents, places, rejected) of some steps: two epochs and more."""
    found = []
    for step in StepLoader({"t": TaskData(stream, prepare, batch, micro)}, 0, steps, workers=workers):
        contents = [row for part in step.tasks["t"] for row in members(part)]
        found.append((contents, step.places["t"].tolist(), step.rejected))
    return found
