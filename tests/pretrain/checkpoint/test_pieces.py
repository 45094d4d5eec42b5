"""Checkpoints of which several processes wrote parts: whose they are, and whole tensors and boxes out of them."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pretrain import checkpoint
from pretrain.checkpoint import Content, Damaged, Piece, Reader
from pretrain.checkpoint.plan import layout_of, share_of
from pretrain.checkpoint.tensorfile import DTYPES, encode
from pretrain.checkpoint.writing import as_json, commit, part_folder, write_share

FACTS = {"step": 5, "positions": {"t": 40}, "schedule": {"name": "Constant"}}


def tensors(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "matrix": torch.randn(7, 3, generator=draw),
        "vector": torch.randn(2, generator=draw).bfloat16(),
        "cube": torch.randn(5, 2, 3, generator=draw).half(),
        "number": torch.tensor(3.5, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "nothing": torch.zeros(0, 4),
    }


def by_rows(whole, rank, ranks):
    """What FSDP leaves on ``rank``: equal parts of rows, the last ones smaller or empty; numbers everywhere."""
    if not whole.ndim:
        return Piece.whole(whole)
    share = -(-whole.shape[0] // ranks) if whole.shape[0] else 0
    begin = min(rank * share, whole.shape[0])
    return Piece(tuple(whole.shape), (begin, *[0] * (whole.ndim - 1)), whole[begin : begin + share])


def saved(root, states):
    layouts = [layout_of(state) for state in states]
    folder = part_folder(root, 5)
    shares = [share_of(layouts, rank) for rank in range(len(states))]
    written = [write_share(folder, share, share.tensors(state)) for share, state in zip(shares, states, strict=True)]
    return commit(root, folder, 5, as_json(FACTS), written)


def states_of(ranks, groups=1):
    """``ranks`` x ``groups`` processes; each group holds everything once."""
    whole = {"model": tensors(0), "optimizer": tensors(1), "ema": tensors(2)}
    one = [
        {kind: {n: by_rows(t, rank, ranks) for n, t in named.items()} for kind, named in whole.items()}
        for rank in range(ranks)
    ]
    return whole, one * groups


@pytest.mark.parametrize(("ranks", "groups"), [(1, 1), (2, 1), (3, 1), (8, 1), (1, 4), (2, 3)])
def test_whole_tensors_come_back_bit_for_bit(tmp_path, ranks, groups):
    whole, states = states_of(ranks, groups)
    path = saved(tmp_path, states)
    read = checkpoint.read(path)
    for kind, found in (("model", read.model), ("optimizer", read.optimizer), ("ema", read.ema)):
        assert found.keys() == whole[kind].keys()
        for name, tensor in whole[kind].items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
    together = checkpoint.publish(tmp_path / "whole", Content(whole["model"], whole["optimizer"], FACTS, whole["ema"]))
    assert checkpoint.digest(read) == checkpoint.digest(checkpoint.read(together))


def test_replicas_are_written_once_as_whole_files_and_pieces_by_those_who_hold_them(tmp_path):
    names = {p.name for p in saved(tmp_path / "ddp", states_of(1, 4)[1]).iterdir()}
    whole = {"model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json", "manifest.json"}
    assert names == whole
    names = {p.name for p in saved(tmp_path / "hsdp", states_of(2, 3)[1]).iterdir()}
    parts = {f"{kind}-0000{i}-of-00002.safetensors" for kind in ("model", "optimizer", "ema") for i in (1, 2)}
    assert names == parts | {"index.json", "state.json", "manifest.json"}
    layouts = [layout_of(state) for state in states_of(2, 3)[1]]
    assert [bool(share_of(layouts, rank).files) for rank in range(6)] == [True, True, False, False, False, False]


def test_only_the_box_asked_for(tmp_path):
    whole, states = states_of(3)
    reader = Reader(saved(tmp_path, states))
    matrix, cube = whole["model"]["matrix"], whole["model"]["cube"]
    for begin in range(7):
        for rows in range(8 - begin):
            assert torch.equal(
                reader.tensor("model", "matrix", (begin, 1), (rows, 2)), matrix[begin : begin + rows, 1:]
            )
    assert torch.equal(reader.tensor("model", "cube", (1, 1, 0), (4, 1, 2)), cube[1:5, 1:, :2])
    assert reader.tensor("model", "number", (), ()) == 3.5
    assert reader.shapes("model")["cube"] == (5, 2, 3)
    for offset, shape in (((6, 0), (2, 3)), ((-1, 0), (1, 3)), ((0,), (1,))):
        with pytest.raises(ValueError, match="is not within 'matrix'"):
            reader.tensor("model", "matrix", offset, shape)
    with pytest.raises(KeyError):
        reader.tensor("model", "other")


def test_boxes_that_are_no_rows(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    boxes = [((0, 0), (2, 4)), ((0, 4), (4, 2)), ((2, 0), (2, 4))]
    states = [{"model": {"w": Piece((4, 6), (r, c), whole[r : r + h, c : c + w].clone())}} for (r, c), (h, w) in boxes]
    reader = Reader(saved(tmp_path, states))
    assert torch.equal(reader.tensor("model", "w"), whole)
    assert torch.equal(reader.tensor("model", "w", (1, 3), (2, 2)), whole[1:3, 3:5])


@pytest.mark.parametrize("lost", ["model-00002-of-00003.safetensors", "index.json"])
def test_a_lost_or_changed_part_is_noticed(tmp_path, lost):
    path = saved(tmp_path, states_of(3)[1])
    raw = bytearray((path / lost).read_bytes())
    raw[-2] ^= 4
    (path / lost).write_bytes(raw)
    with pytest.raises(Damaged, match=f"{lost} has another content"):
        Reader(path)
    (path / lost).unlink()
    with pytest.raises(Damaged, match=f"{lost} is missing"):
        Reader(path)


def test_a_piece_that_nobody_wrote_is_noticed(tmp_path):
    whole, states = states_of(3)
    del states[1]["model"]["matrix"]
    with pytest.raises(Damaged, match="do not make it up"):
        Reader(saved(tmp_path, states))
    del whole


def test_files_are_what_the_formats_own_writer_makes(tmp_path):
    kinds = {str(dtype): torch.ones(3, 2).to(dtype) for dtype in DTYPES}
    one = kinds | tensors() | {"ä": torch.ones(1), "turned": torch.randn(2, 3).T.contiguous()}
    save_file(one, tmp_path / "theirs")
    assert b"".join(bytes(chunk) for chunk in encode(one)) == (tmp_path / "theirs").read_bytes()
    with pytest.raises(ValueError, match=r"'c' is of type torch\.complex128"):
        list(encode({"c": torch.zeros(1, dtype=torch.complex128)}))


def test_state_is_strict_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"step": 1, "loss": float("nan")})
    path = saved(tmp_path, states_of(1)[1])
    assert json.loads((path / "state.json").read_text()) == FACTS
