"""Damaged shards end in samples or in named damage: no crash, no hang, no silent loss of what is sound.

What is promised: a sample none of whose headers and contents is touched is delivered with exactly its bytes, unless
- the shard's damage lines name it, or it stood behind headers that were touched (a long name may have been its own), or
- its key occurs more than once: then each of its members is delivered, but which of them go together may change, or
- a header was changed so that its checksum is right again, or an unprotected long name or PAX record was changed:
  then anything may be read under a wrong name, as no reader can tell, but what is delivered under a sound sample's key
  still holds at least its members.
"""

import os
import random
import string
import tarfile
import time

import pytest

from data.errors import InputError, SampleError
from data.shards import index
from data.shards.source import Source
from data.shards.tarheader import BLOCK, sound
from data.shards.tarwalk import Gap, walk
from data.store.store import Stamp
from tests.data.shards.tars import GNU, PAX, USTAR, outcomes, write

SECONDS = 5.0  # of one case on a busy machine; it takes milliseconds


def build(path, rng):
    """A tar of some samples; returns [(key, {extension: bytes}, [(first byte, last byte) of its members])]."""
    format = rng.choice([USTAR, GNU, PAX])
    count, extensions = rng.randint(1, 14), rng.sample(["jpg", "txt", "json", "seg.png"], rng.randint(1, 3))
    members = []
    for n in range(count):
        key = f"{n:03d}" + (rng.choice(["", "", "x" * rng.randint(80, 200)]) if format != USTAR else "")
        for extension in extensions:
            if rng.random() < 0.95 or extension == extensions[0]:
                members.append((f"{key}.{extension}", rng.randbytes(rng.choice([0, 10, 511, 512, 513, 1500]))))
    if rng.random() < 0.3:
        rng.shuffle(members)
    elif rng.random() < 0.2:
        members += rng.sample(members, min(3, len(members)))  # duplicates: samples of their own
    write(path, members, format, **({"pax_headers": {"mtime": "1.5"}} if format == PAX and rng.random() < 0.3 else {}))
    spans, known = {}, index.scan(path)
    assert known.summary.damage == ()
    with open(path, "rb") as file:
        entries = [entry for entry in walk(file.fileno()) if not isinstance(entry, Gap)]
        by_offset = {entry.offset: (entry.start, entry.offset + entry.size) for entry in entries}
        for i in range(len(known)):
            key, data = known.read(i, file.fileno())
            spans[key] = (data, [by_offset[offset] for offset, _ in known.members(i).values()])
    assert sum(len(data) for data, _ in spans.values()) == len(members)
    return spans, entries


def cut(content, entries, rng):
    length = rng.randrange(len(content))
    return content[:length], [(length, len(content) + 1)], True


def flip_headers(content, entries, rng):
    touched = []
    for entry in rng.sample(entries, min(len(entries), rng.randint(1, 3))):
        at = rng.randrange(entry.start, entry.offset)
        content[at] ^= 1 << rng.randrange(8)
        touched.append((at, at + 1))
    # Extended headers' contents carry no checksum: a change there is seen only by chance.
    return content, touched, all(entry.offset - entry.start == BLOCK for entry in entries)


def flip_anywhere(content, entries, rng):
    touched, exact = [], all(entry.offset - entry.start == BLOCK for entry in entries)
    for _ in range(rng.randint(1, 30)):
        at = rng.randrange(len(content))
        content[at] ^= 1 << rng.randrange(8)
        touched.append((at, at + 1))
    for entry in entries:  # several flips in one header can cancel out
        hits = sum(entry.start <= at < entry.offset for at, _ in touched)
        exact &= not (hits > 1 and sound(bytes(content[entry.offset - BLOCK : entry.offset])))
    return content, touched, exact


def overwrite(content, entries, rng):
    """A run of junk or zeros in whole blocks or not."""
    length = rng.choice([1, 7, 512, 1024, 1536, 4096])
    at = rng.randrange(len(content))
    at -= at % BLOCK if rng.random() < 0.5 else 0
    length = min(length, len(content) - at)
    zeros = rng.random() < 0.4
    content[at : at + length] = bytes(length) if zeros else rng.randbytes(length)
    plain = all(entry.offset - entry.start == BLOCK for entry in entries)
    return content, [(at, at + length)], plain and not zeros


def insert(content, entries, rng):
    """Whole blocks of junk between any two blocks; what lies behind moves."""
    at = rng.randrange(len(content) // BLOCK) * BLOCK
    junk = rng.randbytes(BLOCK * rng.randint(1, 4))
    inside = [(e.start, e.offset + e.size) for e in entries if e.start < at < e.offset + (e.size + 511) // 512 * 512]
    content[at:at] = junk
    return content, inside or [(at, at)], all(entry.offset - entry.start == BLOCK for entry in entries)


DAMAGE = [cut, flip_headers, flip_anywhere, overwrite, insert]


def untouched(spans, entries, touched):
    """Keys of samples that damage did not touch, nor the member just before one of theirs."""
    found = []
    ordered = sorted((entry.start, entry.offset + entry.size) for entry in entries)
    before = dict(zip([start for start, _ in ordered[1:]], ordered, strict=False))
    for key, (_, places) in spans.items():
        near = places + [before[start] for start, _ in places if start in before]
        if not any(a < end and begin < max(b, a + 1) for begin, end in near for a, b in touched):
            found.append(key)
    return found


def fuzz(path, seed):
    rng = random.Random(seed)
    spans, entries = build(path, rng)
    harm = rng.choice(DAMAGE)
    content, touched, exact = harm(bytearray(path.read_bytes()), entries, rng)
    path.write_bytes(content)
    began = time.monotonic()
    found = index.scan(path)
    rows = outcomes(path, found)
    assert time.monotonic() - began < SECONDS
    assert not [row for row in rows if isinstance(row[1], SampleError)]  # nothing changed since the scan
    assert all(line and "\n" not in line for line in found.summary.damage)
    delivered = dict(rows)
    named = " ".join(found.summary.damage)
    for key in untouched(spans, entries, touched):
        wanted = spans[key][0]
        if f"'{key.partition('#')[0]}'" in named:
            continue
        got = delivered.get(key)
        if key.partition("#")[0] + "#2" in spans:
            everything = [member for members in delivered.values() for member in members.items()]
            assert all(member in everything for member in wanted.items()), (key, harm, found.summary.damage)
        elif exact:
            assert got == wanted, (key, harm, found.summary.damage)
        elif got is None or not wanted.items() <= got.items():
            # The name of another member changed into one of this sample, or of a duplicate: it is numbered otherwise.
            assert any(wanted.items() <= members.items() for members in delivered.values()), (key, harm)
    if sum(map(len, delivered.values())) < sum(len(data) for data, _ in spans.values()) and harm is flip_headers:
        assert found.summary.damage or not exact
    through_a_source(path, len(found))
    return harm.__name__, bool(found.summary.damage)


def through_a_source(path, count):
    """A source delivers as many, or says that there is nothing."""
    if not count:
        with pytest.raises(InputError, match="is empty"):
            Source("x", str(path))
        return
    source = Source("x", str(path))
    assert len(source) == count
    for number in range(count):
        source.read(number)
    source.require({})


@pytest.mark.parametrize("part", range(3))
def test_damaged_shards(tmp_path, part):
    seen = {fuzz(tmp_path / f"{seed}.tar", seed) for seed in range(part * 100, part * 100 + 100)}
    assert {name for name, damaged in seen if damaged} == {harm.__name__ for harm in DAMAGE}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(40))
def test_more_damaged_shards(tmp_path, part):
    for seed in range(1000 + part * 100, 1100 + part * 100):
        fuzz(tmp_path / "s.tar", seed)
        (tmp_path / "s.tar.idx").unlink(missing_ok=True)


@pytest.mark.parametrize("part", range(2))
def test_shards_damaged_while_they_are_in_use(tmp_path, part):
    """The index says where things were: a sample is right, or a SampleError."""
    for seed in range(part * 100, part * 100 + 100):
        rng = random.Random(f"use {seed}")
        path = tmp_path / f"{seed}.tar"
        spans, entries = build(path, rng)
        found = index.scan(path)
        content, touched, _ = rng.choice(DAMAGE[:4])(bytearray(path.read_bytes()), entries, rng)
        path.write_bytes(content)
        keys = list(spans)
        for i, (_, result) in enumerate(outcomes(path, found)):
            data, places = spans[keys[i]]
            hit = any(a < end and begin < b for begin, end in places for a, b in touched)
            if not hit:
                assert result == data
            elif not isinstance(result, SampleError):
                assert {e: len(d) for e, d in result.items()} == {e: len(d) for e, d in data.items()}


def test_garbage_for_an_index(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "s.tar"
    spans, _ = build(path, rng)
    stamp = Stamp(path.stat().st_size, str(path.stat().st_mtime_ns))
    index.load(path)
    place = tmp_path / "s.tar.idx"
    whole = place.read_bytes()
    for _ in range(600):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        content = content[: rng.choice([len(content), rng.randrange(len(content))])]
        if rng.random() < 0.2:
            content = rng.randbytes(rng.randrange(300))
        if content == whole:
            continue
        place.write_bytes(content)
        assert index.stored(stamp, [place]) is None
        index.summary_of(str(path), Source("x", str(path)).store)
    found = index.load(path)
    assert place.read_bytes() == whole
    assert len(found) == len(spans)


def test_names_of_any_characters(tmp_path):
    rng = random.Random(9)
    for seed in range(60):
        key = "".join(rng.choice(string.printable.replace("/", "").replace(".", "") + "é日\udcff") for _ in range(60))
        path = tmp_path / f"{seed}.tar"
        format = rng.choice([GNU, USTAR])
        with tarfile.open(path, "w", format=format, errors="surrogateescape") as tar:
            tar.addfile(tarfile.TarInfo(key[:30] + ".txt"))
        found = index.load(path)
        assert [row[0] for row in outcomes(path, found)] == [key[:30]]
        assert os.fsencode(key[:30])
