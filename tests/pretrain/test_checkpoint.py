import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data.errors import InputError
from pretrain import checkpoint
from pretrain.checkpoint import Content, Damaged
from pretrain.optim.adamw import adamw
from pretrain.optim.state import optimizer_tensors, restore_optimizer


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 3))


def trained(steps=3, seed=0):
    model = network(seed)
    optimizer = adamw(list(model.named_parameters()), lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    for step in range(steps):
        update(model, optimizer, step)
    return model, optimizer


def update(model, optimizer, step):
    model(torch.randn(6, 5, generator=torch.Generator().manual_seed(step))).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def content(step=3, seed=0):
    model, optimizer = trained(seed=seed)
    state = {
        "step": step,
        "positions": {"t": 8 * step},
        "schedule": {"name": "Cosine", "max_steps": 9},
        "data": {"t": "a"},
    }
    return Content(dict(model.state_dict()), optimizer_tensors(optimizer, model), state)


def test_round_trip_is_bitwise_and_training_goes_on_as_if_never_stopped(tmp_path):
    model, optimizer = trained()
    whole = Content(dict(model.state_dict()), optimizer_tensors(optimizer, model), content().state)
    read = checkpoint.read(checkpoint.publish(tmp_path, whole))
    assert read.state == whole.state
    for ours, theirs in ((whole.model, read.model), (whole.optimizer, read.optimizer)):
        assert ours.keys() == theirs.keys()
        assert all(ours[n].dtype == theirs[n].dtype and torch.equal(ours[n], theirs[n]) for n in ours)
    again = network(seed=9)
    fresh = adamw(list(again.named_parameters()), lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    again.load_state_dict(read.model)
    restore_optimizer(fresh, again, read.optimizer)
    for step in range(3, 6):
        update(model, optimizer, step)
        update(again, fresh, step)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert optimizer_tensors(optimizer, model).keys() == optimizer_tensors(fresh, again).keys()


def test_kinds_of_tensors_that_a_model_may_hold(tmp_path):
    shared = torch.randn(3, 4)
    model = {
        "half": torch.randn(3).bfloat16(),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "turned": torch.randn(2, 3).T,
        "tied": shared,
        "tied again": shared,
        "part of tied": shared[1:],
    }
    whole = Content(model, {}, content().state)
    read = checkpoint.read(checkpoint.publish(tmp_path, whole))
    assert all(torch.equal(model[name], read.model[name]) for name in model)
    assert checkpoint.digest(read) == checkpoint.digest(whole)
    assert read.optimizer == {}


def files_of(path):
    return sorted(path.iterdir())


def test_400_bit_flips_and_200_truncations_are_all_noticed_and_the_older_one_is_taken(tmp_path):
    older, path = checkpoint.publish(tmp_path, content(2)), checkpoint.publish(tmp_path, content(3))
    files, rng = files_of(path), np.random.default_rng(0)
    assert [f.name for f in files] == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    for trial in range(600):
        file = files[trial % len(files)]
        sound = file.read_bytes()
        damaged = bytearray(sound)
        if trial < 400:
            damaged[int(rng.integers(len(sound)))] ^= 1 << int(rng.integers(8))
        else:
            damaged = damaged[: int(rng.integers(len(sound)))]
        file.write_bytes(damaged)
        (bad, why), (good, found) = checkpoint.newest(tmp_path)
        assert (bad, good) == (path, older)
        assert isinstance(why, Damaged)
        assert str(why)
        assert found.step == 2
        file.write_bytes(sound)
    checkpoint.verify(path)


def test_every_single_bit_of_the_manifest_counts(tmp_path):
    path = checkpoint.publish(tmp_path, content())
    manifest = path / "manifest.json"
    sound = manifest.read_bytes()
    for bit in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(damaged)
        with pytest.raises(Damaged):
            checkpoint.verify(path)


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"])
def test_missing_and_extra_files_are_noticed(tmp_path, name):
    path = checkpoint.publish(tmp_path, content())
    (path / "surplus").write_text("")
    with pytest.raises(Damaged, match="surplus is not in the manifest"):
        checkpoint.verify(path)
    (path / "surplus").unlink()
    (path / name).unlink()
    with pytest.raises(Damaged, match=f"{name} is missing"):
        checkpoint.verify(path)
    (path / name).mkdir()
    with pytest.raises(Damaged):
        checkpoint.verify(path)


def test_a_folder_under_another_steps_name_is_noticed(tmp_path):
    path = checkpoint.publish(tmp_path, content(3))
    other = shutil.copytree(path, tmp_path / "step-00000009")
    with pytest.raises(Damaged, match="that of step 3"):
        checkpoint.verify(other)


def damage(path):
    file = path / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


def test_newest_falls_back_to_the_newest_sound_one(tmp_path):
    paths = [checkpoint.publish(tmp_path, content(step)) for step in (1, 2, 3, 100_000_000)]
    assert next(path.name for path in checkpoint.published(tmp_path)) == "step-100000000"
    damage(paths[3])
    damage(paths[2])
    found = list(checkpoint.newest(tmp_path))
    assert [path for path, _ in found] == [paths[3], paths[2], paths[1]]
    assert [isinstance(what, Damaged) for _, what in found] == [True, True, False]
    assert checkpoint.find(tmp_path).step == 2
    with pytest.raises(InputError, match=r"is damaged: model\.safetensors has another content"):
        checkpoint.find(paths[3])
    for path in paths[:2]:
        damage(path)
    with pytest.raises(InputError, match="no sound checkpoint"):
        checkpoint.find(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_prune_keeps_the_newest_sound_ones(tmp_path, keep):
    paths = [checkpoint.publish(tmp_path, content(step)) for step in range(1, 6)]
    damage(paths[4])
    checkpoint.prune(tmp_path, checkpoint.Retention(keep))
    left = checkpoint.published(tmp_path)
    assert left == [paths[4], *paths[3::-1][: max(1, keep)]]  # the damaged one stays as evidence
    assert checkpoint.find(tmp_path).step == 4


def test_prune_with_nothing_sound_removes_nothing(tmp_path):
    paths = [checkpoint.publish(tmp_path, content(step)) for step in (1, 2)]
    for path in paths:
        damage(path)
    assert checkpoint.prune(tmp_path, checkpoint.Retention(1)) == []
    assert len(checkpoint.published(tmp_path)) == 2


def test_publishing_a_step_twice_keeps_the_first(tmp_path):
    path = checkpoint.publish(tmp_path, content(3))
    before = {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in files_of(path)}
    assert checkpoint.publish(tmp_path, content(3, seed=7)) == path
    assert {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in files_of(path)} == before
    assert (tmp_path / "last").read_text() == "step-00000003\n"


def test_what_a_killed_process_left_is_invisible_and_swept(tmp_path):
    path = checkpoint.publish(tmp_path, content(3))
    shutil.copytree(path, tmp_path / ".step-00000004.part")
    os.rename(shutil.copytree(path, tmp_path / "x"), tmp_path / ".step-00000002.old")
    (tmp_path / ".last.part").write_text("st")
    assert checkpoint.published(tmp_path) == [path]
    assert checkpoint.publish(tmp_path, content(4)).name == "step-00000004"  # over the remains of an earlier attempt
    checkpoint.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step-00000003", "step-00000004"]


def test_digest_is_of_the_content_not_of_its_form():
    one = content()
    reference = checkpoint.digest(one)
    shuffled = Content(
        dict(reversed(one.model.items())), dict(reversed(one.optimizer.items())), dict(reversed(one.state.items()))
    )
    assert checkpoint.digest(shuffled) == reference
    turned = Content(
        {n: t.T.contiguous().T if t.ndim == 2 else t for n, t in one.model.items()}, one.optimizer, one.state
    )
    assert checkpoint.digest(turned) == reference
    assert checkpoint.digest(Content(one.model, one.optimizer, one.state | {"data": {"t": "moved"}})) == reference


def test_digest_is_the_same_from_another_arrangement_of_the_files(tmp_path):
    path = checkpoint.publish(tmp_path, content())
    reference = checkpoint.digest(checkpoint.read(path))
    file = path / "model.safetensors"
    save_file(load_file(file), file, metadata={"written by": "another tool"})
    (path / "state.json").write_text(json.dumps(json.loads((path / "state.json").read_text())))
    tensors = Content(
        load_file(file), load_file(path / "optimizer.safetensors"), json.loads((path / "state.json").read_text())
    )
    assert checkpoint.digest(tensors) == reference
    with pytest.raises(Damaged):
        checkpoint.verify(path)


def test_digest_sees_one_bit_the_step_the_positions_and_the_schedule():
    found = {checkpoint.digest(content())}
    for part in ("model", "optimizer"):
        for name in getattr(content(), part):
            changed = content()
            tensor = getattr(changed, part)[name].clone().reshape(-1)
            tensor.view(torch.uint8)[0] ^= 1
            getattr(changed, part)[name] = tensor.view(getattr(changed, part)[name].shape)
            found.add(checkpoint.digest(changed))
    for key, value in (("step", 4), ("positions", {"t": 25}), ("schedule", {"name": "Cosine", "max_steps": 10})):
        changed = content()
        changed.state[key] = value
        found.add(checkpoint.digest(changed))
    changed = content()
    changed.model = {f"x.{name}": tensor for name, tensor in changed.model.items()}
    found.add(checkpoint.digest(changed))
    changed = content()
    changed.model["0.weight"] = changed.model["0.weight"].T
    found.add(checkpoint.digest(changed))
    whole = content()
    assert len(found) == 1 + len(whole.model) + len(whole.optimizer) + 5


def test_optimizer_state_that_cannot_be_kept_or_put_back_is_named():
    model, optimizer = trained()
    with pytest.raises(InputError, match="optimizer state for 'gone'"):
        restore_optimizer(optimizer, model, {"gone/exp_avg": torch.zeros(1)})
    optimizer.state[model[0].weight]["count"] = 3
    with pytest.raises(InputError, match=r"keeps 'count' of '0.weight' as int"):
        optimizer_tensors(optimizer, model)
