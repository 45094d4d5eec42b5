"""Checkpoints made to do harm, with digests that are right: nothing of them is run, and each is refused in one line."""

import json
import os
import pickle
import shutil
import struct
import sys
from pathlib import Path

import pytest
import torch

from data.errors import InputError
from pretrain import checkpoint
from pretrain.checkpoint import Content, Damaged
from pretrain.checkpoint.manifest import digest_of, manifest
from pretrain.checkpoint.plan import layout_of, share_of
from pretrain.checkpoint.writing import as_json, commit, part_folder, write_share

LIMIT = 1 << 20  # of a JSON file, here
FACTS = {"step": 5, "positions": {"t": 40}, "schedule": {"name": "Constant"}}
RUN = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "exec", "compile", "import"}
_events: list[str] | None = None


def watch(event, arguments):
    if _events is not None and event in RUN:
        _events.append(f"{event} {arguments}")


sys.addaudithook(watch)


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def good(root):
    """Two processes' pieces, so that all kinds of files are there."""
    whole = {"w": torch.randn(6, 2), "b": torch.randn(4)}
    states = []
    for rank in range(2):
        parts = {
            n: checkpoint.Piece(tuple(t.shape), (rank * len(t) // 2, *[0] * (t.ndim - 1)), t.chunk(2)[rank])
            for n, t in whole.items()
        }
        states.append({"model": parts, "optimizer": {f"{n}/exp_avg": p for n, p in parts.items()}})
    layouts, folder = [layout_of(state) for state in states], part_folder(root, 5)
    shares = [share_of(layouts, rank) for rank in range(2)]
    written = [write_share(folder, share, share.tensors(state)) for share, state in zip(shares, states, strict=True)]
    return commit(root, folder, 5, as_json(FACTS), written)


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


def state(**changes):
    return lambda path, bomb: (path / "state.json").write_text(json.dumps(FACTS | changes))


def raw(name, content):
    return lambda path, bomb: (path / name).write_bytes(content)


def index(change):
    def edit(path, bomb):
        found = json.loads((path / "index.json").read_text())
        change(found["model"]["w"])
        (path / "index.json").write_text(json.dumps(found))

    return edit


def led_out(path, bomb):
    """To a file of the right content in the folder above."""
    edit = index(lambda w: w["pieces"][0].update(file=f"../{w['pieces'][0]['file']}"))
    for file in path.glob("model-*"):
        shutil.copy(file, path.parent)
    edit(path, bomb)


def linked(name, target):
    def edit(path, bomb):
        (path / name).unlink()
        (path / name).symlink_to(target)

    return edit


def piped(path, bomb):
    (path / "state.json").unlink()
    os.mkfifo(path / "state.json")


def sparse(name):
    def edit(path, bomb):
        with open(path / name, "wb") as file:
            file.truncate(LIMIT + 1)

    return edit


def pickled(path, bomb):
    (path / "model-00001-of-00002.safetensors").write_bytes(pickle.dumps(Bomb(bomb)))


def torch_saved(path, bomb):
    torch.save({"w": Bomb(bomb)}, path / "model-00001-of-00002.safetensors")


def pickled_state(path, bomb):
    (path / "state.json").write_bytes(pickle.dumps(Bomb(bomb)))


def pickled_index(path, bomb):
    (path / "index.json").write_bytes(pickle.dumps(Bomb(bomb)))


MODEL = "model-00001-of-00002.safetensors"
DEEP = b"[" * 200_000 + b"]" * 200_000
FORGED = {  # digests and sizes are made right afterwards
    "pickle in place of tensors": pickled,
    "torch.save in place of tensors": torch_saved,
    "pickle in place of the state": pickled_state,
    "pickle in place of the index": pickled_index,
    "header of 2^63 bytes": raw(MODEL, struct.pack("<Q", 1 << 63) + b"{}"),
    "header longer than the file": raw(MODEL, struct.pack("<Q", 90_000_000) + b"{}"),
    "header that is no JSON": raw(MODEL, header(b"import os; os.system('true')")),
    "header nested deeply": raw(MODEL, header(DEEP)),
    "data outside the file": raw(MODEL, header(b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}')),
    "data before the file": raw(MODEL, header(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"1234")),
    "shape that overflows": raw(
        MODEL, header(b'{"w":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,4]}}', b"1234")
    ),
    "unknown type": raw(MODEL, header(b'{"w":{"dtype":"EVIL","shape":[1],"data_offsets":[0,4]}}', b"1234")),
    "tensors cut to nothing": raw(MODEL, b""),
    "state nested deeply": raw("state.json", DEEP),
    "state that is a list": raw("state.json", b"[1, 2]"),
    "state in no known letters": raw("state.json", b'{"step": "\xff\xfe"}'),
    "state larger than any": sparse("state.json"),
    "step that is no number": raw("state.json", b'{"step": NaN, "positions": {}}'),
    "step of another checkpoint": state(step=6),
    "step in words": state(step="5; rm -rf"),
    "step below nothing": state(step=-1),
    "step that is true": state(step=True),
    "step beyond all": state(step=10**400),
    "positions below nothing": state(positions={"t": -8}),
    "positions in a list": state(positions=[1]),
    "index that leads to a sound file": led_out,
    "index that leads out": index(lambda w: w["pieces"][0].update(file="model-/../../../../etc/passwd")),
    "index of an absolute path": index(lambda w: w["pieces"][0].update(file="/etc/passwd")),
    "index of a file that is not there": index(lambda w: w["pieces"][0].update(file="model-9")),
    "index of another kind's file": index(lambda w: w["pieces"][0].update(file="state.json")),
    "index with a number as file": index(lambda w: w["pieces"][0].update(file=7)),
    "index whose pieces overlap": index(lambda w: w["pieces"][1].update(offset=[2, 0])),
    "index with a piece twice": index(lambda w: w["pieces"].append(w["pieces"][0])),
    "index that lacks a piece": index(lambda w: w["pieces"].pop()),
    "index of a piece outside": index(lambda w: w["pieces"][0].update(offset=[5, 0])),
    "index of a piece before": index(lambda w: w["pieces"][0].update(offset=[-1, 0])),
    "index of a tensor beyond all": index(lambda w: w.update(shape=[1 << 40, 1 << 20])),
    "index of many dimensions": index(lambda w: w.update(shape=[1] * 100_000)),
    "index of another type": index(lambda w: w.update(dtype="F64")),
    "index of an unknown type": index(lambda w: w.update(dtype="__import__")),
    "index nested deeply": raw("index.json", DEEP),
    "index that is a list": raw("index.json", b"[]"),
    "index larger than any": sparse("index.json"),
    "link in place of tensors": linked(MODEL, "/etc/passwd"),
    "link in place of the state": linked("state.json", "/etc/passwd"),
    "pipe in place of the state": piped,
}


def sign(path):
    """What an attacker does who can write the folder: a manifest that is right."""
    files = {}
    for file in path.iterdir():
        if file.name != "manifest.json":
            plain = file.is_file()
            files[file.name] = (file.stat().st_size, digest_of(file) if plain else "0" * 64)
    (path / "manifest.json").write_bytes(manifest(5, files))


def watched(path):
    """Reads it, and says what was run meanwhile."""
    global _events
    read = checkpoint.read  # imported before anything is watched
    ran.clear()
    _events = []
    try:
        read(path)
    finally:
        ran.extend(event for event in _events if not event.startswith("import"))
        _events = None


ran: list[str] = []


def refused(path, bomb):
    with pytest.raises(Damaged) as caught:
        watched(path)
    assert not ran
    assert not bomb.exists()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", FORGED)
def test_forged_checkpoints(tmp_path, name, monkeypatch):
    monkeypatch.setattr("pretrain.checkpoint.manifest.LARGEST_JSON", LIMIT)
    path, bomb = good(tmp_path / "checkpoints"), tmp_path / "executed"
    FORGED[name](path, bomb)
    sign(path)
    refused(path, bomb)
    with pytest.raises(InputError, match="damaged"):
        checkpoint.find(path)
    [(_, found)] = checkpoint.newest_sound(path.parent)
    assert isinstance(found, Damaged)


MANIFESTS = {
    "leads out": {"../../x": {"bytes": 1, "sha256": "0" * 64}},
    "absolute": {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}},
    "folder": {"a/b": {"bytes": 1, "sha256": "0" * 64}},
    "itself": {"manifest.json": {"bytes": 1, "sha256": "0" * 64}},
    "size in words": {"state.json": {"bytes": "1", "sha256": "0" * 64}},
    "size below nothing": {"state.json": {"bytes": -1, "sha256": "0" * 64}},
    "digest in a list": {"state.json": {"bytes": 1, "sha256": ["0" * 64]}},
    "hidden": {".state.json": {"bytes": 1, "sha256": "0" * 64}},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_forged_manifests(tmp_path, name):
    path = good(tmp_path)
    (path / "manifest.json").write_text(json.dumps({"step": 5, "files": MANIFESTS[name]}))
    refused(path, tmp_path / "executed")


@pytest.mark.parametrize("content", [DEEP, b"null", b'{"step": 5}', b'{"step": 5, "files": []}', b"\x80\x04."])
def test_manifests_that_are_none(tmp_path, content):
    path = good(tmp_path)
    (path / "manifest.json").write_bytes(content)
    refused(path, tmp_path / "executed")


@pytest.mark.parametrize("name", ["../../../etc", "/etc/passwd", "step-00000005/../..", "", "x" * 10_000, "step-5"])
def test_a_pointer_leads_nowhere_else(tmp_path, name):
    good(tmp_path)
    (tmp_path / "last").write_text(name)
    with pytest.raises(InputError, match="does not name a checkpoint beside it"):
        checkpoint.find(tmp_path / "last")


def test_a_link_among_checkpoints_is_not_followed_when_it_goes(tmp_path):
    elsewhere = good(tmp_path / "elsewhere")
    root = tmp_path / "checkpoints"
    whole = Content({"w": torch.ones(2)}, {}, FACTS | {"step": 9}, {})
    checkpoint.publish(root, whole)
    (root / elsewhere.name).symlink_to(elsewhere)
    (root / ".step-00000001.part").symlink_to(elsewhere)
    assert checkpoint.prune(root, checkpoint.Retention(1)) == [root / elsewhere.name]
    checkpoint.sweep(root)
    assert sorted(p.name for p in root.iterdir()) == ["last", "step-00000009"]
    checkpoint.verify(elsewhere)


def test_the_good_one_is_good(tmp_path):
    path = good(tmp_path)
    sign(path)
    watched(path)
    assert checkpoint.read(Path(path)).step == 5


def test_what_runs_is_seen(tmp_path):
    (tmp_path / "step-00000005").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    global _events
    _events = []
    pickle.loads((tmp_path / "step-00000005").read_bytes())  # noqa: S301
    found, _events = _events, None
    assert (tmp_path / "executed").exists()
    assert any(event.startswith("os.system") for event in found)
