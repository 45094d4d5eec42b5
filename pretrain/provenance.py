"""What a start of a run was made with: command, code and package versions, machine."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pretrain.host import began, cores
from pretrain.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "pytorch-lightning",
    "numpy",
    "pillow",
    "soundfile",
    "tokenizers",
    "webdataset",
)


def provenance(overrides: list[str], file: str | None = None) -> dict[str, Any]:
    """A row for ``starts.jsonl``.

    Args:
        overrides: of the command line.
        file: the whole config that they changed (``--config FILE``); None: they say everything.
    """
    import torch

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "began": round(began(), 3),
        "overrides": overrides,
        "file": None if file is None else os.path.abspath(os.path.expanduser(file)),
        "version": __version__,
        "code": code_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "folder": _folder(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "executable": sys.executable,
    }


def _folder() -> str | None:
    """Where relative names are taken from; None where it was removed meanwhile."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def submission() -> dict[str, Any]:
    """A row for ``submitted.jsonl``: what a run is launched with, whenever and wherever it will start."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "code": code_version(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "host": socket.gethostname(),
        "folder": os.getcwd(),
    }


def installed() -> str:
    """The packages of this environment, one ``name==version`` a line."""
    found = {f"{one.name}=={one.version}" for one in metadata.distributions()}
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def code_version() -> str | None:
    """The git commit of an editable checkout, with ``+`` where it has changes; None for an installed package."""
    home = Path(__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(home)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
