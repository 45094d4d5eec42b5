"""What a run is launched from: its config as it was then, below its directory, and the command that starts it there.

Who edits ``conf/`` after that changes no run that waits in a queue, or is started again by a scheduler.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from pretrain.checkpoint.disk import make
from pretrain.grammar import key_of
from pretrain.launch import PRETRAIN
from pretrain.launchers.options import LOCAL
from pretrain.provenance import installed, submission
from pretrain.redaction import redact, redacted
from pretrain.sweeps.options import GRID
from pretrain.targets import COMMAND_LINE
from pretrain.whole import whole

FOLDER, CONFIG = "launch", "config.yaml"
SUBMITTED, PACKAGES = "submitted.jsonl", "environment.txt"


def folder_of(run_dir: str | Path) -> Path:
    """Where what a run, or a sweep, was launched from is kept; an absolute path."""
    return Path(run_dir).expanduser().absolute() / FOLDER


def freeze(config: Mapping[str, Any], written: Callable[[], DictConfig]) -> Path:
    """Keeps the config in the run directory, as one that trains where it is started; the file.

    Credentials are not kept: where one came from the environment, the reference to it is.

    Args:
        config: of the run, resolved.
        written: gives the same with its references; see :func:`pretrain.config.written`.

    Raises:
        InputError: it cannot be written, or holds a credential itself.
    """
    kept = {**config, "launcher": {"kind": LOCAL}, "sweeper": {"kind": GRID}}
    secret = redacted(kept) != kept
    source = OmegaConf.to_container(written(), resolve=False) if secret else kept
    path = folder_of(config["run_dir"]) / CONFIG
    put(path, OmegaConf.to_yaml(OmegaConf.create(_without_credentials(kept, source, "") if secret else _literal(kept))))
    return path


def settle(run_dir: Path) -> None:
    """Makes what :func:`freeze` wrote say where it lies now: a directory may have been moved or copied since.

    Otherwise a start from there would work in the former place, and of a copy in the directory of the original.

    Args:
        run_dir: absolute.

    Raises:
        InputError: it cannot be written.
    """
    path, place = run_dir / FOLDER / CONFIG, _literal(str(run_dir))
    try:
        kept = whole(str(path), str(path))
    except InputError:  # not there yet, or damaged: who starts from it says so
        return
    found = OmegaConf.to_container(kept, resolve=False)
    assert isinstance(found, dict)
    if found.get("run_dir") != place:
        kept["run_dir"] = place
        put(path, OmegaConf.to_yaml(kept))


def _without_credentials(value: Any, source: Any, place: str) -> Any:
    if redacted(value, place.rpartition(".")[2]) == value:
        return _literal(value)
    if not isinstance(source, Mapping) and "${" in str(source) and redact(str(source)) == str(source):
        return source
    if isinstance(value, Mapping):
        inner = source if isinstance(source, Mapping) else {}
        return {
            key: _without_credentials(each, inner.get(key), f"{place}.{key}".lstrip(".")) for key, each in value.items()
        }
    raise InputError(
        f"{place} holds a credential, and a run that is launched or swept keeps its config on disk; leave it to the "
        "environment: a value that is ${oc.env:NAME} and nothing else, or where the store or tracker looks for it"
    )


def _literal(value: Any) -> Any:
    """``value`` with what looks like a reference, and is none any more, written so that it stays as it is."""
    if isinstance(value, Mapping):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    # Backslashes in front of a reference are halved when it is read, and the last of them tells that it is none.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def command(config: str, overrides: Sequence[str]) -> list[str]:
    """The command line that starts what :func:`freeze` wrote.

    Args:
        config: the file.
        overrides: of the command line now; those that say whom the user trusts are said again.
    """
    trust = [one for one in overrides if key_of(one) in COMMAND_LINE and not key_of(one).startswith("launcher.")]
    return [*PRETRAIN, "--config", config, *(one.lstrip("+") for one in trust)]


def record(folder: Path, **about: Any) -> None:
    """Notes a launch from ``folder``: what about it, the code, the environment.

    Raises:
        InputError: it cannot be written.
    """
    put(folder / PACKAGES, installed())
    path = folder / SUBMITTED
    try:
        with open(path, "a") as file:
            file.write(json.dumps(redacted({**submission(), **about})) + "\n")
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror}") from None


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file as a whole; several hosts may do so at the same time.

    Raises:
        InputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        make(path.parent)
        with open(partial, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, mode)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror}") from None
