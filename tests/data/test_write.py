import hashlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from data.shards.pattern import expand
from data.write import write
from tests.data.shards import tars


def samples(count, size=100):
    return ((f"k{n:04d}", {"txt": b"x" * size, "cls": b"%d" % n}) for n in range(count))


def keys(path):
    assert path.with_name(f"{path.name}.idx").exists()
    return [key for key, _ in tars.samples(path)]


def digests(paths):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_same_samples_same_bytes(tmp_path):
    first = write(samples(50), tmp_path / "a", "s", 20 * 1024)
    second = write(samples(50), tmp_path / "b", "s", 20 * 1024)
    assert len(first.shards) > 1
    assert digests(first.shards) == digests(second.shards)
    assert first.samples == second.samples == 50


@pytest.mark.parametrize(("size", "max_bytes"), [(10, 20 * 1024), (5000, 50 * 1024), (700, 10 * 1024)])
def test_shards_stay_below_max_bytes_on_disk(tmp_path, size, max_bytes):
    written = write(samples(60, size), tmp_path, "s", max_bytes)
    assert max(path.stat().st_size for path in written.shards) <= max_bytes
    assert [key for path in written.shards for key in keys(path)] == [f"k{n:04d}" for n in range(60)]
    # and are not smaller than they need be: the next sample would not have fitted
    for path in written.shards[:-1]:
        assert path.stat().st_size > max_bytes - 2 * (size + 1024) - 10 * 1024


def test_a_sample_larger_than_a_shard_gets_one_of_its_own(tmp_path):
    written = write(
        [("a", {"bin": b"1" * 100}), ("b", {"bin": b"2" * 50000}), ("c", {"bin": b"3"})], tmp_path, "s", 20000
    )
    assert [keys(path) for path in written.shards] == [["a"], ["b"], ["c"]]


def test_a_member_that_begins_with_an_underscore_is_written_too(tmp_path):
    [path] = write([("a", {"_b": b"1", "txt": b"2"})], tmp_path, "s").shards
    [(key, members)] = tars.samples(path)
    assert (key, members) == ("a", {"_b": b"1", "txt": b"2"})


def test_a_killed_writer_leaves_nothing_under_a_shards_name(tmp_path):
    program = """
        import sys, time
        from data.write import write
        def samples():
            for n in range(30):
                yield f"k{n}", {"txt": b"x" * 1000}
            print("ready", flush=True)
            time.sleep(60)
        write(samples(), sys.argv[1], "s", 10**6)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [".s-000000.tar.part"]
    assert not list(tmp_path.glob("*.tar"))
    write(samples(3), tmp_path, "s")
    assert [os.path.basename(path) for path in expand(str(tmp_path)).urls] == ["s-000000.tar"]
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("key", ["a.b", "dir/a.b", ".a", "dir/", ""])
def test_keys_that_could_not_be_found_again_are_refused(tmp_path, key):
    with pytest.raises(ValueError, match="base name without dots"):
        write([(key, {"txt": b"x"})], tmp_path, "s")


def test_dots_in_the_folder_of_a_key_are_kept(tmp_path):
    (shard,) = write([("v1.0/a", {"txt": b"x"})], tmp_path, "s").shards
    assert keys(shard) == ["v1.0/a"]
