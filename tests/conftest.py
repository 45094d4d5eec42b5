import io
import logging
import os

# A cache of another project or run must not answer for the code under test; subprocesses of tests inherit this.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["WANDB_MODE"] = "disabled"  # somebody who is logged in does not mean to see the runs of tests there

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from PIL import Image

from data.write import write
from modalities.text import tokenizer
from modalities.text.tokenizer import TextTokenizer

torch.set_num_threads(1)
# Autograd makes its threads at its first use, one for each device that there seems to be. Tensors without contents seem
# to be on one more, and a process with such a thread can fork none that trains: so the first use is here.
torch.ones((), requires_grad=True).backward()
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")

WORDS = ("a the red blue green circle square star above below left of near small large and one two three").split()  # noqa: SIM905


def sentence(number, words=None):
    """Text number ``number``: the same at every call."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, size=words or int(rng.integers(3, 25))))


def png(number, side=20):
    rng = np.random.default_rng(number)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def wav(number, samples=6000):
    rng = np.random.default_rng(number)
    file = io.BytesIO()
    soundfile.write(file, 0.1 * rng.standard_normal(samples).astype(np.float32), 16000, format="WAV")
    return file.getvalue()


MEMBERS = {"txt": lambda n: sentence(n).encode(), "png": png, "wav": wav}


@pytest.fixture(autouse=True)
def _one_thread():
    """A verb that an earlier test called in this process computes with as many threads as there are cores.

    What is computed with two differs by its last bits from what a process of one thread finds.
    """
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nobodys_log():
    """A run that an earlier test made in this process has sent the messages to its own ``log.txt``."""
    log = logging.getLogger("pretrain")
    log.propagate = True
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


@pytest.fixture
def shards(tmp_path):
    """Writes ``count`` samples as PREFIX-*.tar below tmp_path; those numbered in ``broken`` hold ``bad``."""

    def make(prefix="own", count=23, members=("txt",), max_bytes=20 * 1024, broken=(), bad=b"\xff\xfe broken", start=0):
        samples = (
            (f"{prefix}-{n:05d}", {m: bad if n in broken else MEMBERS[m](n) for m in members})
            for n in range(start, start + count)
        )
        write(samples, tmp_path / "shards", prefix, max_bytes)
        return str(tmp_path / "shards" / f"{prefix}-*.tar")

    return make


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.train((sentence(n) for n in range(200)), 300).save(str(path))
    return str(path)


@pytest.fixture(scope="session")
def vocab_size(tokenizer_path):
    return TextTokenizer(tokenizer_path).size
