"""Numbers are the same on all ranks after an exchange, over real gloo processes."""

import json
import os
import socket

import pytest
import torch.distributed as dist

from pretrain.agreement import Agreement


def test_one_process_reads_back_what_it_offered():
    agreement, numbers = Agreement(), {"stop": 0, "rejected": 3}
    agreement.offer("stop", lambda: numbers["stop"])
    agreement.offer("rejected", lambda: numbers["rejected"], "sum")
    assert agreement.value("stop") == 0
    assert agreement.said("stop") == []
    numbers["stop"] = 15
    agreement.exchange()
    assert (agreement.value("stop"), agreement.value("rejected"), agreement.said("rejected")) == (15, 3, [3])
    numbers["stop"] = 0
    assert agreement.value("stop") == 15  # what was agreed, not what is said now
    agreement.exchange()
    assert agreement.value("stop") == 0
    assert agreement.gather(7) == [7]


def test_a_name_is_offered_once():
    agreement = Agreement()
    agreement.offer("stop", int)
    with pytest.raises(ValueError, match="'stop' is offered already"):
        agreement.offer("stop", int)
    with pytest.raises(ValueError, match="'mean' is none of max, min, sum"):
        agreement.offer("loss", int, "mean")


def test_ranks_agree(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [os.fork() or _rank(rank, port, tmp_path) for rank in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks] == [0, 0, 0]
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    assert found[0] == found[1] == found[2]
    first, second = found[0][:2]
    assert first == {"most": 12, "least": 10, "all": 33, "said": [10, 11, 12], "big": 2**62}
    assert second == {"most": 102, "least": 100, "all": 303, "said": [100, 101, 102], "big": 2**62}
    assert found[0][2] == [0, 1, 4]


def _rank(rank, port, folder):
    code = 1
    try:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=3)
        agreement, number = Agreement(rank, 3), 10 + rank
        for name, reduce in (("most", "max"), ("least", "min"), ("all", "sum")):
            agreement.offer(name, lambda: number, reduce)
        agreement.offer("big", lambda: 2**62)
        agreement.open(30)
        rows = []
        for number in (10 + rank, 100 + rank):  # noqa: B007 - read by the offers
            agreement.exchange()
            row = {name: agreement.value(name) for name in ("most", "least", "all", "big")}
            rows.append(row | {"said": agreement.said("most")})
        (folder / str(rank)).write_text(json.dumps([*rows, agreement.gather(rank * rank)]))
        code = 0
    finally:
        os._exit(code)
