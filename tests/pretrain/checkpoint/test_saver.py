"""Saving beside training, by one process and by several real ones."""

import errno
import os
import signal
import threading
import time
import traceback
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from pretrain import checkpoint
from pretrain.checkpoint import Content, Piece, Reader
from pretrain.checkpoint.peers import Peers
from pretrain.checkpoint.saver import Saver
from tests.processes import until


def facts(step):
    return {"step": step, "positions": {"t": 8 * step}, "schedule": {"name": "Constant"}}


def values(step):
    draw = torch.Generator().manual_seed(step)
    return {"w": torch.randn(6, 5, generator=draw), "b": torch.randn(3, generator=draw)}


def whole(live):
    return {"model": {n: Piece.whole(t) for n, t in live.items()}, "optimizer": {}, "ema": {}}


def nothing(*_):
    pass


def test_a_save_beside_training_is_the_same_as_one_that_is_waited_for(tmp_path):
    gate = threading.Event()
    saver = Saver(tmp_path / "beside", Peers(), gate.wait, nothing, nothing)
    live = {name: torch.empty_like(t) for name, t in values(0).items()}
    for step in range(1, 4):
        for name, tensor in values(step).items():
            live[name].copy_(tensor)
        gate.clear()
        saver.start(step, whole(live), facts(step))
        assert saver.busy
        assert saver.step == step
        for tensor in live.values():
            tensor.fill_(torch.nan)  # training goes on, before the first byte is written
        gate.set()
        outcome = saver.finish()
        assert outcome is not None
        assert (outcome.step, outcome.error) == (step, None)
        assert saver.step is None
        assert saver.settle() is None
        twin = checkpoint.publish(tmp_path / "alone", Content(values(step), {}, facts(step), {}))
        ours = tmp_path / "beside" / twin.name
        assert {f.name: f.read_bytes() for f in ours.iterdir()} == {f.name: f.read_bytes() for f in twin.iterdir()}
    assert not [t for t in threading.enumerate() if t.name.startswith("checkpoint")], "a thread would be forked with us"


def test_an_end_does_not_wait_for_a_write_that_others_would_wait_for_too(tmp_path):
    gate = threading.Event()
    saver = Saver(tmp_path, Peers(), lambda: gate.wait(120), nothing, nothing)
    saver.start(1, whole(values(1)), facts(1))
    began = time.monotonic()
    saver.close(wait=False)
    assert time.monotonic() - began < 60
    gate.set()  # or the end of this process would wait


def test_who_has_no_time_does_not_wait_until_older_ones_are_removed(tmp_path):
    gate, tidied = threading.Event(), []

    def tidy():
        gate.wait(120)
        tidied.append(len(checkpoint.published(tmp_path)))

    saver = Saver(tmp_path, Peers(), nothing, nothing, nothing, tidy)
    began = time.monotonic()
    for step in (1, 2):
        saver.start(step, whole(values(step)), facts(step))
        until(lambda: saver._tidying is not None)
        assert saver.busy
        assert saver.finish(patience=0.0).error is None
    assert time.monotonic() - began < 60
    assert len(checkpoint.published(tmp_path)) == 2
    gate.set()
    saver.start(3, whole(values(3)), facts(3))
    saver.finish()
    assert tidied[-1] == 3


def test_memory_is_used_again(tmp_path):
    saver = Saver(tmp_path, Peers(), nothing, nothing, nothing)
    places = []
    for step in (1, 2, 3):
        saver.start(step, whole(values(step)), facts(step))
        saver.finish()
        places.append(saver._snapshot._memory.data_ptr())
    assert places[0] == places[1] == places[2]


def test_what_goes_wrong_is_told_and_leaves_nothing(tmp_path):
    fails = [OSError(errno.ENOSPC, "No space left on device")]

    def secure():
        if fails:
            raise fails.pop()

    saver = Saver(tmp_path, Peers(), secure, nothing, nothing)
    saver.start(1, whole(values(1)), facts(1))
    outcome = saver.finish()
    assert isinstance(outcome.error, OSError)
    assert outcome.error.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    saver.start(2, whole(values(2)), facts(2))
    assert saver.finish().error is None
    assert [p.name for p in checkpoint.published(tmp_path)] == ["step-00000002"]


def test_what_must_not_be_published_is_not(tmp_path):
    def examine(copies, step):
        if copies["model"]["b"].isnan().any():
            raise ValueError("sick")

    saver = Saver(tmp_path, Peers(), nothing, examine, nothing)
    saver.start(1, whole(values(1) | {"b": torch.full((3,), torch.nan)}), facts(1))
    assert str(saver.finish().error) == "sick"
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_the_system_is_met_in_the_middle_of_a_file(tmp_path):
    """A real error of write(): files of this process may not become larger."""

    def body():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        saver = Saver(tmp_path / "c", Peers(), nothing, nothing, nothing)
        saver.start(1, whole(values(1)), facts(1))
        assert saver.finish().error is None
        saver.start(2, whole({"big": torch.zeros(1 << 20)}), facts(2))
        assert saver.finish().error.errno == errno.EFBIG

    assert processes(1, lambda rank: body()) == [0]
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["last", "step-00000001"]


def processes(count, body, kill=None):
    """Forks ``count`` processes that run ``body(rank)``; their exit codes."""
    pids = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                body(rank)
                code = 0
            except BaseException:  # noqa: BLE001 - this process ends here
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    codes = []
    for pid in pids:
        deadline = time.monotonic() + 60
        while not (found := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        codes.append(os.waitstatus_to_exitcode(found[1]))
    return codes


def group(tmp_path, rank, size):
    store = dist.FileStore(str(tmp_path / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=30))
    return Peers(rank, size)


def part(tensors, rank, size):
    """This process's rows."""
    pieces = {}
    for name, tensor in tensors.items():
        rows = -(-len(tensor) // size)
        begin = min(rank * rows, len(tensor))
        offset = (begin, *[0] * (tensor.ndim - 1))
        pieces[name] = Piece(tuple(tensor.shape), offset, tensor[begin : begin + rows].clone())
    return {"model": pieces, "optimizer": {}, "ema": {}}


@pytest.mark.parametrize("divided", [True, False])
def test_processes_save_together(tmp_path, divided):
    root, size = tmp_path / "checkpoints", 3

    def body(rank):
        peers, published = group(tmp_path, rank, size), []
        saver = Saver(root, peers, nothing, nothing, published.append)
        for step in range(1, 7):
            held = part(values(step), rank, size) if divided else whole(values(step))
            saver.start(step, held, facts(step))
            edges = 0
            while True:  # step edges at which training would go on
                if not any(peers.gather(saver.busy)):
                    outcome = saver.settle()
                    if outcome is not None:
                        break
                edges += 1
                assert edges < 10_000
            assert outcome.error is None
        assert len(published) == (6 if rank == 0 else 0)

    assert processes(size, body) == [0, 0, 0]
    assert len(checkpoint.published(root)) == 6
    assert not [p for p in root.iterdir() if p.name.startswith(".")]
    for path in checkpoint.published(root):
        step = checkpoint.step_of(path)
        assert len(list(path.glob("model-*"))) == (3 if divided else 0)
        assert checkpoint.digest(checkpoint.read(path)) == checkpoint.digest(Content(values(step), {}, facts(step), {}))


def test_one_process_fails_and_all_know(tmp_path):
    root, size = tmp_path / "checkpoints", 3

    def body(rank):
        fails = [2]

        def secure():
            if rank == 1 and saver_step[0] in fails:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

        saver, saver_step = Saver(root, group(tmp_path, rank, size), secure, nothing, nothing), [0]
        for step in (1, 2, 3):
            saver_step[0] = step
            saver.start(step, part(values(step), rank, size), facts(step))
            outcome = saver.finish()
            assert (outcome.error is None) == (step != 2)
            if step == 2:
                assert outcome.rank == 1
                assert outcome.error.errno == errno.EDQUOT

    assert processes(size, body) == [0, 0, 0]
    assert sorted(p.name for p in root.iterdir()) == ["last", "step-00000001", "step-00000003"]


def test_a_process_that_dies_leaves_no_half_checkpoint(tmp_path):
    root, size = tmp_path / "checkpoints", 2

    def body(rank):
        saver = Saver(root, group(tmp_path, rank, size), nothing, nothing, nothing)
        saver.start(1, part(values(1), rank, size), facts(1))
        saver.finish()
        saver.start(2, part(values(2), rank, size), facts(2))
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(RuntimeError):  # the collective
            saver.finish()
        saver.close()

    assert processes(size, body) == [0, -signal.SIGKILL]
    assert [p.name for p in checkpoint.published(root)] == ["step-00000001"]
    checkpoint.sweep(root)
    assert sorted(p.name for p in root.iterdir()) == ["last", "step-00000001"]
    assert Reader(root / "step-00000001").step == 1
