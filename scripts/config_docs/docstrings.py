"""What the code says about its arguments: docstrings of classes and functions, fields of the config's schema."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

from omegaconf import MISSING

OWN = ("modalities.", "pretrain.", "data.")
# Arguments that a run gives by itself; a config never does.
GIVEN = ("parameters", "device", "max_steps", "samples_a_step", "directory", "metrics", "incidents")
_SECTION = re.compile(r"^(Args|Attributes):$")
_SEE = re.compile(r"^see\s+:class:`([\w.]+)`\.?$")


@dataclass(frozen=True)
class Argument:
    """An argument that a config can give; ``default`` is None where it must."""

    name: str
    default: str | None
    text: str


def locate(name: str) -> Any:
    """The class or function with the dotted ``name``."""
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


def about(target: Any) -> str:
    """The first paragraph of its docstring."""
    return " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())


def arguments(target: Any) -> list[Argument]:
    """What a config can give it, in the order of the signature."""
    texts = _texts(target)
    found = []
    for name, parameter in inspect.signature(target).parameters.items():
        if name in GIVEN or parameter.kind is parameter.VAR_KEYWORD:
            continue
        default = None if parameter.default is parameter.empty else _yaml(parameter.default)
        found.append(Argument(name, default, re.sub(r"\bNone\b", "null", texts.get(name, ""))))
    return found


def _texts(target: Any) -> dict[str, str]:
    """Argument -> what is said of it, by the target itself or by what it refers to (``see :class:`X```)."""
    found: dict[str, str] = {}
    for kind in reversed(inspect.getmro(target)) if inspect.isclass(target) else (target,):
        if kind is object or not f"{kind.__module__}.".startswith(OWN):
            continue
        for name, text in _listed(inspect.cleandoc(kind.__doc__ or "")).items():
            seen = _SEE.match(text)
            found[name] = _texts(_referred(seen[1], kind)).get(name, text) if seen else text
    return found


def _referred(name: str, kind: Any) -> Any:
    return locate(name) if "." in name else getattr(import_module(kind.__module__), name)


def _listed(doc: str) -> dict[str, str]:
    """Name -> text, of the sections with arguments in a docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in doc.splitlines():
        if line and not line.startswith(" "):
            inside = bool(_SECTION.match(line))
        elif inside and re.match(r" {4}\S", line):
            left, _, text = line.strip().partition(":")
            names = [name.strip() for name in left.split(",")]
            # What is said of several together makes sense beside their names alone.
            alike = len(names) > 1 and not text.strip().startswith("see ")
            shown = ", ".join(f"`{name}`" for name in names) + ": " if alike else ""
            found |= dict.fromkeys(names, shown + text.strip())
        elif inside and line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _yaml(value: Any) -> str:
    """A default as one would write it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str | int | float):
        return str(value) if value != "" else "''"
    raise ValueError(f"the default {value!r} cannot be written in YAML")


@dataclass(frozen=True)
class Field:
    """A key of the schema: what may stand there, and what is said of it; ``inner`` where it has keys of its own."""

    kind: str
    text: str
    default: str | None
    inner: type | None


def schema(of: type) -> dict[str, Field]:
    """Key -> what the dataclass says of it."""
    texts, hints = _field_texts(of), typing.get_type_hints(of)
    found = {}
    for entry in fields(of):
        hint = hints[entry.name]
        inner = hint if is_dataclass(hint) else None
        default = None if entry.default is MISSING else _yaml(entry.default)
        found[entry.name] = Field(_kind(hint, entry.metadata), texts.get(entry.name, ""), default, inner)
    return found


def _field_texts(of: type) -> dict[str, str]:
    """Field -> the string that stands below it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0].body
    found = {}
    for one, following in pairwise(body):
        if isinstance(one, ast.AnnAssign) and isinstance(following, ast.Expr):
            found[one.target.id] = " ".join(inspect.cleandoc(following.value.value).split())
    return found


_NAMES = {str: "text", int: "integer", float: "number", bool: "true, false", type(None): "null", list: "list"}


def _kind(hint: Any, limits: typing.Mapping[str, Any]) -> str:
    if "choices" in limits:
        return ", ".join(limits["choices"])
    if hint is Any or is_dataclass(hint):
        return ""
    union = isinstance(hint, types.UnionType)
    kinds = [typing.get_origin(one) or one for one in (typing.get_args(hint) if union else (hint,))]
    words = [_NAMES[kind] for kind in kinds if kind is not dict and kind is not type(None)]
    words += [f"at least {limits['least']:g}"] if "least" in limits else []
    words += [f"above {limits['above']:g}"] if "above" in limits else []
    return ", ".join([*words, *(["null"] if type(None) in kinds else [])])
