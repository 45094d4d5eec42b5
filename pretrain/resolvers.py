"""What ``${...:}`` in the packaged configs may compute; all of it is data, none of it runs what a config says."""

from __future__ import annotations

import glob
import json
import os
import sys
from pathlib import Path

from omegaconf import OmegaConf

from data.demo.version import VERSION
from data.store.cache import usual_folder


def register() -> None:
    """Makes them known to OmegaConf."""
    OmegaConf.register_new_resolver("cache_dir", cache_dir, replace=True)
    OmegaConf.register_new_resolver("below", below, replace=True)
    OmegaConf.register_new_resolver("vocab_size", vocab_size, replace=True)
    OmegaConf.register_new_resolver("python_version", python_version, replace=True)
    OmegaConf.register_new_resolver("demo_version", demo_version, replace=True)


def cache_dir() -> str:
    """Where data made by the framework itself is kept: $PRETRAIN_CACHE or the user's cache folder."""
    return os.environ.get("PRETRAIN_CACHE") or usual_folder()


def python_version() -> str:
    """``3.11``."""
    return "{}.{}".format(*sys.version_info)


def demo_version() -> str:
    """Version of the embedded data set: ``demo-v1``."""
    return VERSION


def below(folder: str | None, name: str) -> str | None:
    """``folder/name``, where ``name`` may be a pattern and the folder's is none; None where there is no folder."""
    if folder is None:
        return None
    known = glob.has_magic(name) and os.path.isdir(os.path.expanduser(folder))
    return os.path.join(glob.escape(folder) if known else folder, name)


def vocab_size(tokenizer: str | None) -> int | None:
    """One more than the highest id of a ``tokenizer.json``; None where there is none, as in runs without text."""
    path = Path(tokenizer or "").expanduser()
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        vocab = content["model"]["vocab"]  # Unigram's is a list, by its ids
        numbers = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
        return 1 + max([*numbers, *(token["id"] for token in content["added_tokens"])])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # what is wrong with the file is said by whoever uses it
