"""What ``_target_`` in a config may name: an allowlist, checked on the object that the name leads to.

A config is often somebody else's. What it may build are the parts of a run: classes and factories of this framework,
modules and optimizers of torch, models and transforms of the packages around it, and what lies in packages that the
user names on the command line. Not by any path: loaders, hubs, compilers, methods, modules, or what the modules of an
allowed package happen to have imported.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from data.errors import InputError, choices

_OWN = (
    "modalities",
    "pretrain.callbacks",
    "pretrain.demo",
    "pretrain.evaluation.kinds",
    "pretrain.optim",
    "pretrain.trackers",
)
# Where classes of others may be defined, and the bases (or, for plain transforms, the place) that make them parts.
_CLASSES = (
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
    "torchaudio.models",
    "torchaudio.transforms",
    "transformers",
    "timm",
)
_BASES = (
    "torch.nn.Module",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "transformers.PretrainedConfig",
)
_PLAIN = ("torchvision.transforms",)
# Functions of others that build a model; a registry or list of the package itself must know them.
_FUNCTIONS = ("torchvision.models", "torchaudio.models", "timm.models")
ROOTS = (*_OWN, *_CLASSES)
# However far the user's trust goes, these packages are not opened beyond what is above.
_CLOSED = {name.partition(".")[0] for name in ROOTS} | {"data", "conf"}
# Keys that let a run execute what is not its own. A config file is often somebody else's: it cannot permit itself that.
COMMAND_LINE = (
    *("trusted_roots", "cache.allowed_pipes"),
    *("launcher.options", "launcher.srun_options", "launcher.setup"),
)
# Arguments of others' factories that load code or pickles from a place that the config names.
_REFUSED_ARGUMENTS = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "trust_remote_code", "auto_map")
_REFUSED_PREFIXES = ("hf_hub:", "hf-hub:", "local-dir:", "local_dir:")


def locate(name: str, where: str, roots: tuple[str, ...] = ()) -> Any:
    """The class or function with the dotted ``name``.

    Args:
        name: as in the config.
        where: place in the config, for messages.
        roots: packages that the user trusts (``trusted_roots`` on the command line).

    Raises:
        InputError: it is nothing that a config may build (also by way of an alias), or does not exist.
    """
    trusted = ROOTS + tuple(root for root in roots if root.partition(".")[0] not in _CLOSED)
    if not _below(name, trusted):
        raise InputError(
            f"{where}._target_ '{name}' is not below a trusted root (trusted_roots adds more); "
            f"choices: {', '.join(trusted)}"
        )
    parts = name.split(".")
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        raise InputError(f"{where}._target_ '{name}' is no public dotted name")
    found = _import(parts, where)
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if not _defined(found) or not _below(home, trusted) or not _allowed(found, home):
        what = home.strip(".") or type(found).__name__
        raise InputError(f"{where}._target_ '{name}' is {what}, which is not to be built from a config")
    return found


def check_trust(config: Mapping[Any, Any], overrides: Sequence[str]) -> None:
    """Checks whom the user trusts: on the command line alone, whatever config files give themselves.

    Args:
        config: resolved.
        overrides: of the command line.

    Raises:
        InputError: a config file lets itself run code, or a trusted root is no package of the user's.
    """
    said = {override.partition("=")[0].lstrip("+") for override in overrides}
    for key in COMMAND_LINE:
        node: Any = config
        for part in key.split("."):
            node = node.get(part, {})  # a launcher of another kind lacks some
        if node and key not in said:
            given = ",".join(f"'{one}'" for one in node)
            raise InputError(
                f"{key} is set by a config file to [{given}]; what may run code is for the command line alone to say: "
                f"{key}=[...]"
            )
    for root in config["trusted_roots"]:
        if not all(part.isidentifier() for part in root.split(".")):
            raise InputError(f"trusted_roots: '{root}' is no name of a package")
        if root.partition(".")[0] in sys.stdlib_module_names:
            raise InputError(f"trusted_roots: '{root}' is part of Python; name packages of your own")


def check_arguments(target: Any, arguments: Mapping[str, Any], where: str) -> None:
    """Checks what another package's factory is given.

    Raises:
        InputError: an argument makes it load code or pickles from a place that the config names.
    """
    if _below(str(getattr(target, "__module__", "")), _CLASSES):
        _check_argument(arguments, where, "")


def _check_argument(value: Any, where: str, keys: str) -> None:
    """Also what lies within: factories pass parts of a mapping on to others (``model_args``, ``text_config``)."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name in _REFUSED_ARGUMENTS:
                raise InputError(f"{where}.{name} is not to be set from a config: it loads what lies elsewhere")
            _check_argument(inner, f"{where}.{name}", f"{keys}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_argument(inner, f"{where}[{number}]", keys)
    elif isinstance(value, str):
        remote_kernel = "implementation" in keys and "/" in value
        if value.strip().lower().startswith(_REFUSED_PREFIXES) or remote_kernel:
            raise InputError(f"{where}='{value}' is not to be built from a config: it loads what lies elsewhere")


def _import(parts: list[str], where: str) -> Any:
    name = ".".join(parts)
    for split in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:split])
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (module_name + ".").startswith(error.name + "."):
                continue
            raise InputError(
                f"{where}._target_ '{name}' needs the package '{error.name}', which is not installed"
            ) from None
        for number, part in enumerate(parts[split:]):
            if not hasattr(found, part):
                public = [n for n in vars(found) if not n.startswith("_")]
                place = ".".join(parts[: split + number])
                raise InputError(f"{where}._target_: '{place}' has no '{part}'; {choices(part, public)}")
            found = getattr(found, part)
        return found
    raise InputError(f"{where}._target_ '{name}': no module '{parts[0]}'")


def _defined(found: Any) -> bool:
    """Whether it is a class or function that its module has under its own name: no method, no stand-in, no alias."""
    if not inspect.isclass(found) and not inspect.isfunction(found):
        return False
    module = sys.modules.get(found.__module__)
    return "." not in found.__qualname__ and getattr(module, found.__qualname__, None) is found


def _allowed(found: Any, home: str) -> bool:
    if home.partition(".")[0] not in _CLOSED:
        return True  # below a root that the user named
    if _below(home, _OWN):
        return True
    if inspect.isclass(found):
        return _below(home, _CLASSES) and (_below(home, _PLAIN) or issubclass(found, _bases()))
    return _below(home, _FUNCTIONS) and _listed(found)


def _bases() -> tuple[type, ...]:
    found = []
    for name in _BASES:
        package, _, kind = name.rpartition(".")
        if package.partition(".")[0] in sys.modules:  # what was never imported has no subclasses
            found.append(getattr(import_module(package), kind))
    return tuple(found)


def _listed(function: Any) -> bool:
    """Whether the package itself counts the function among its model builders."""
    package, name = function.__module__.partition(".")[0], function.__name__
    if package == "torchvision":
        from torchvision import models

        # Whichever has a set of published weights or a name in the registry; not what looks these up.
        return name in models.list_models() and models.get_model_builder(name) is function
    if package == "torchaudio":
        from torchaudio import models as audio

        return name in audio.__all__ and getattr(audio, name) is function
    import timm

    return function is timm.create_model or (timm.is_model(name) and timm.model_entrypoint(name) is function)


def _below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)
