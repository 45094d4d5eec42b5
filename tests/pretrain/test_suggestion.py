"""Names of settings in other frameworks."""

from __future__ import annotations

import pytest

from data.errors import InputError, choices
from pretrain import config
from pretrain.suggestion import FAMILIAR

COMPOSED = config.load(["experiment=mlm_tiny", "data=shards"])


def holds(key):
    node = COMPOSED
    for part in key.split("."):
        if part not in node:
            return False
        node = node[part]
    return True


def test_each_setting_that_is_proposed_is_there():
    plain = {key for key in FAMILIAR if key not in ("tasks.TASK.batch_size", "encoder@encoders.NAME")}
    assert [key for key in plain if not holds(key)] == []
    assert "batch_size" in COMPOSED["tasks"]["mlm"]
    names = [name for names in FAMILIAR.values() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("max_grad_norm=1", "gradient_clip_norm"),
        ("num_train_epochs=3", "max_steps"),
        ("batch_size=8", "tasks.TASK.batch_size"),
        ("optimizer.learning_rate=1", "optimizer.lr"),
        ("accum_freq=4", "micro_batch_size"),
        ("model=vit", "encoder@encoders.NAME"),
        ("trainer.max_steps=4", "max_steps"),
        ("lr=1", "optimizer.lr"),
    ],
)
def test_a_familiar_name_is_answered_with_ours(override, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        config.load(["experiment=mlm_tiny", override])


def test_all_that_a_value_may_be_the_beginning_of():
    with pytest.raises(InputError, match="'bf16' is not there; did you mean 'bf16-mixed' or 'bf16-true'"):
        config.load(["experiment=mlm_tiny", "trainer.precision=bf16"])
    assert choices("", ["a", "ab"]) == "choices: a, ab"
