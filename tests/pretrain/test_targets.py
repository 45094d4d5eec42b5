"""What other packages' factories are not given from a config, at any depth."""

from __future__ import annotations

from typing import Any

import pytest

from data.errors import InputError
from pretrain.build import make

CONFIG = "transformers.CLIPConfig"


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("attn_implementation", {"attn_implementation": "evil/kernel"}),
        ("text_config.attn_implementation", {"text_config": {"attn_implementation": "evil/kernel"}}),
        ("attn_implementation.text_config", {"attn_implementation": {"text_config": "evil/kernel"}}),
        ("vision_config.auto_map", {"vision_config": {"auto_map": {"AutoModel": "modeling.Evil"}}}),
        ("vision_config.model_args.checkpoint_path", {"vision_config": {"model_args": {"checkpoint_path": "a.pth"}}}),
        (
            "vision_config.model_args[0].trust_remote_code",
            {"vision_config": {"model_args": [{"trust_remote_code": 1}]}},
        ),
        ("vision_config.backbone", {"vision_config": {"backbone": " Local-Dir:/evil"}}),
    ],
)
def test_what_loads_from_elsewhere_is_refused_where_it_stands(place: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        make({"_target_": CONFIG, **arguments}, "encoders.x")
    assert str(refused.value).startswith(f"encoders.x.{place}")
    assert str(refused.value).endswith("it loads what lies elsewhere")


def test_what_does_not_is_given() -> None:
    node = {"_target_": CONFIG, "text_config": {"num_hidden_layers": 1, "attn_implementation": "eager"}}
    found = make(node, "encoders.x")
    assert found.text_config.num_hidden_layers == 1
