import json
import math

import pytest
import torch

from data.errors import RunError
from pretrain.checkpoint.writing import as_json
from pretrain.soundness.guard import Guard, leaves_out_itself, refuse_unsound


def problem(optimizer=torch.optim.AdamW, **options):
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1)
    return layer, optimizer(layer.parameters(), lr=0.1, **options)


def one_step(guard, layer, optimizer, number, bad=None):
    loss = layer(torch.full((2, 3), float(number))).square().mean()
    loss.backward()
    if bad == "gradient":
        layer.weight.grad[0, 1] = math.inf
    if bad == "loss":
        loss = loss * math.nan
    norm = torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    sound = guard.judge(number, {"a": {"loss": loss}}, norm)
    guard.update(optimizer, optimizer.step, sound)
    optimizer.zero_grad()
    guard.settle()


def everything(layer, optimizer):
    return [p.clone() for p in layer.parameters()] + [x.clone() for s in optimizer.state.values() for x in s.values()]


@pytest.mark.parametrize("bad", ["loss", "gradient"])
@pytest.mark.parametrize("first", [True, False])
def test_a_sick_step_changes_neither_weights_nor_averages_nor_counters(bad, first):
    (layer, optimizer), guard = problem(), Guard(["a"])
    if not first:
        one_step(guard, layer, optimizer, 1)
    before = everything(layer, optimizer)
    one_step(guard, layer, optimizer, 2, bad)
    assert all(map(torch.equal, everything(layer, optimizer), before))
    *_, reading = guard.readings()
    assert (reading.step, reading.taken, guard.left_out) == (2, False, 1)
    assert reading.nonfinite == ["a/loss" if bad == "loss" else "gradient_norm"]
    one_step(guard, layer, optimizer, 3)
    assert guard.left_out == 0
    assert not torch.equal(everything(layer, optimizer)[0], before[0])


def test_sound_steps_are_those_without_a_guard():
    (layer, optimizer), (twin, plain) = problem(), problem()
    guard = Guard(["a"], leave_out_spikes=True, window=8)
    for number in range(1, 20):
        one_step(guard, layer, optimizer, number)
        twin(torch.full((2, 3), float(number))).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        plain.step()
        plain.zero_grad()
    assert all(reading.taken for reading in guard.readings())
    assert all(map(torch.equal, everything(layer, optimizer), everything(twin, plain)))


def judged(guard, losses, begin=1):
    taken = []
    for step, loss in enumerate(losses, begin):
        taken.append(bool(guard.judge(step, {"a": {"loss": torch.tensor(loss)}}, torch.tensor(1.0))))
        guard.settle()
    return taken


CALM = [2.0 + 0.01 * (n % 7) for n in range(40)]


@pytest.mark.parametrize("leave_out", [True, False])
def test_a_spike_is_told_from_noise_and_left_out_if_asked(leave_out):
    guard = Guard(["a"], window=32, leave_out_spikes=leave_out)
    taken = judged(guard, [*CALM, 9.0, 2.03])
    assert taken == [True] * 40 + [not leave_out, True]
    readings = guard.readings()
    assert [reading.step for reading in readings if reading.above] == [41]
    assert set(readings[40].above) == {"a/loss"}
    assert 2 < readings[40].above["a/loss"] < 3


def test_spikes_are_not_judged_where_they_are_off():
    guard = Guard(["a"], window=32, spikes=False, leave_out_spikes=True)
    assert all(judged(guard, [*CALM, 9e9]))


def test_a_resumed_guard_decides_as_one_that_was_never_stopped():
    losses = [*CALM, 2.5, 2.6, 2.02, 9.0, 9.0, 2.0]
    for cut in (35, 41, 44, 45):
        straight, first = (Guard(["a"], window=32, leave_out_spikes=True) for _ in range(2))
        again = Guard(["a"], window=32, leave_out_spikes=True)
        expected = judged(straight, losses)
        judged(first, losses[:cut])
        again.restore(first.state())
        assert judged(again, losses[cut:], cut + 1) == expected[cut:]
        assert again.state() == straight.state()


def seen(readings):
    return [(one.step, one.nonfinite, one.above, one.taken, one.left_out, one.risen) for one in readings]


@pytest.mark.parametrize("cut", range(40, 47))
def test_what_nobody_was_handed_before_a_stop_is_handed_out_behind_it(cut):
    """As on CUDA, where a step is read when the next one is judged: one of them may ask for an answer."""
    losses = [*CALM, 9.0, 9.0, math.nan, 9.0, 9.0, 2.0]

    def handed(guard, begin, end):
        found = []
        for step in range(begin, end):
            found += seen(guard.readings())
            guard.judge(step, {"a": {"loss": torch.tensor(losses[step - 1])}}, torch.tensor(1.0))
        return found

    straight, first, again = (Guard(["a"], window=32) for _ in range(3))
    expected = handed(straight, 1, 47)
    told = handed(first, 1, cut + 1)
    again.restore(json.loads(as_json(first.state())))
    told += handed(again, cut + 1, 47)
    straight.settle()
    again.settle()
    assert str(told + seen(again.readings())) == str(expected + seen(straight.readings()))  # a NaN is not itself
    assert again.state() == straight.state()


def test_a_state_of_before_and_one_of_other_tasks_hold_nothing_to_hand_out():
    guard = Guard(["a"], window=32)
    guard.judge(1, {"a": {"loss": torch.tensor(2.0)}}, torch.tensor(1.0))
    state = guard.state()
    other = Guard(["b"], window=32)
    other.restore(state)
    assert other.readings() == []
    del state["unread"]
    guard.restore(state)
    assert guard.readings() == []


def test_only_fused_adam_leaves_out_by_itself():
    assert leaves_out_itself(problem(fused=True)[1])
    assert not leaves_out_itself(problem()[1])
    assert not leaves_out_itself(problem(torch.optim.SGD)[1])


def test_the_fused_kernel_leaves_out_what_is_asked(monkeypatch):
    """The way taken on CUDA, with the kernel of the host: nothing is read."""
    (layer, optimizer), (twin, plain) = problem(fused=True), problem(fused=True)
    for number, sick in enumerate([False, True, False], 1):
        for model in (layer, twin):
            model(torch.full((2, 3), float(number))).square().mean().backward()
            if sick and model is layer:
                model.weight.grad.fill_(math.nan)
        optimizer.found_inf = torch.tensor(float(sick))
        optimizer.step()
        optimizer.zero_grad()
        if not sick:
            plain.step()
        plain.zero_grad()
    assert all(map(torch.equal, everything(layer, optimizer), everything(twin, plain)))


def test_unsound_state_is_refused_by_name():
    sound = {"big": torch.full((9,), 3e38), "half": torch.full((99,), 6e4).half(), "count": torch.tensor(3)}
    refuse_unsound(sound, 5)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(RunError, match=r"^step 5: 'w' in the state holds numbers that are not finite"):
            refuse_unsound(sound | {"w": torch.tensor([0.0, bad])}, 5)
