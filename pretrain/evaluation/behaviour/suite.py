"""A suite: a YAML file of tests, each a name and what must be (docs/evaluation.md says how one is written)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from data.errors import InputError, choices
from pretrain.evaluation.behaviour.changes import Changes

INVARIANCE, DIRECTION, ABILITY = KINDS = ("invariance", "direction", "ability")
ORIGINAL, PAIR, MASKED = OF = ("original", "pair", "masked")
HOLE = "[MASK]"
_KEYS = {
    INVARIANCE: ("change", "cosine", "top", "same_class"),
    DIRECTION: ("of", "change", "than", "expect", "margin", "cases"),
    ABILITY: ("of", "top", "cases"),
}
_COMMON = ("kind", "allowed", "about")
_SUITES = resources.files("pretrain.evaluation.behaviour") / "suites"


@dataclass(frozen=True)
class Case:
    """A text with a hole that is not from the source: ``text`` and ``word`` of the hole; ``changed`` of a direction."""

    text: str
    word: str
    changed: str | None = None


@dataclass(frozen=True)
class Test:
    """One test.

    Attributes:
        name: its key in the suite.
        kind: ``invariance``, ``direction`` or ``ability``.
        of: what is looked at: similarity to the ``original``, to the other half of a ``pair``, or a ``masked`` word.
        change: what is done to a sample; None where nothing is.
        than: what the direction is compared with; None: the sample as it is.
        higher: which way the direction goes.
        margin: by how much at least, of a cosine or of the log of a probability.
        cosine: an invariant embedding's similarity to its original at least.
        top: an invariant embedding has its original among so many nearest; a masked word is among so many likeliest.
        same_class: the nearest class's centre stays.
        cases: texts of its own instead of the source's.
        allowed: share of failures that still passes.
        about: what it is for, in words.
    """

    name: str
    kind: str
    of: str = ORIGINAL
    change: Changes | None = None
    than: Changes | None = None
    higher: bool = True
    margin: float = 0.0
    cosine: float | None = None
    top: int | None = None
    same_class: bool = False
    cases: tuple[Case, ...] = ()
    allowed: float = 0.0
    about: str = ""

    @property
    def asks(self) -> str:
        """What must be, in words."""
        if self.kind == ABILITY:
            return f"{self.about or _ABILITIES[self.of]}" + (f", among {self.top}" if self.of == MASKED else "")
        changed = self.change.text if self.change else "the other text"
        if self.kind == INVARIANCE:
            if self.same_class:
                return f"{changed}: the nearest class stays"
            return f"{changed}: " + (
                f"cosine >= {self.cosine:g}" if self.top is None else f"original in top {self.top}"
            )
        way = "higher" if self.higher else "lower"
        return f"{_LIKENESS[self.of]}: {changed} {way} than {self.than.text if self.than else 'as it is'}"


_ABILITIES = {MASKED: "finds a hidden word", PAIR: "nearer to its own other half than to another's"}
_LIKENESS = {ORIGINAL: "likeness to the original", PAIR: "likeness to the other half", MASKED: "a word's probability"}


def read_suite(place: str, modality: str) -> list[Test]:
    """The tests of a packaged suite, or of a file.

    Args:
        place: ``text``, ``image``, ``audio``, or the path of a YAML file.
        modality: of what is changed.

    Raises:
        InputError: there is no such suite, or something of it is not what it should be, with its place.
    """
    packaged = sorted(one.name.removesuffix(".yaml") for one in _SUITES.iterdir() if one.name.endswith(".yaml"))
    file = _SUITES / f"{place}.yaml" if place in packaged else Path(place).expanduser()
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"suite '{place}' is neither a file nor a packaged one; {choices(place, packaged)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"suite '{place}' cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"suite '{place}' is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"suite '{place}' has no tests; it must be a mapping of NAME: {{kind: ..., ...}}")
    return [_test(str(name), spec, modality, f"suite '{place}', test '{name}'") for name, spec in content.items()]


def _test(name: str, spec: Any, modality: str, where: str) -> Test:
    if not isinstance(spec, Mapping):
        raise InputError(f"{where}: it is {spec!r}, not a mapping")
    if not name or "/" in name or any(sign.isspace() for sign in name):
        raise InputError(f"{where}: a name has no blanks and no slashes")
    kind = spec.get("kind")
    if kind not in KINDS:
        raise InputError(f"{where}: kind '{kind}' is unknown; {choices(str(kind), KINDS)}")
    keys = _COMMON + _KEYS[kind]
    for key in spec:
        if key not in keys:
            raise InputError(f"{where}: {kind} has no key '{key}'; {choices(str(key), keys)}")
    try:
        found = _filled(name, kind, spec, modality)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return found


def _filled(name: str, kind: str, spec: Mapping[str, Any], modality: str) -> Test:
    if kind == INVARIANCE:
        more = _invariance(spec)
    else:
        of = str(spec.get("of"))
        known = OF if kind == DIRECTION else (PAIR, MASKED)
        if of not in known:
            raise InputError(f"of '{of}' is unknown; {choices(of, known)}")
        if of == MASKED and modality != "text":
            raise InputError(f"of 'masked' is for texts, not for {modality}")
        if "cases" in spec and of != MASKED:
            raise InputError("cases are texts with a hidden word: of must be 'masked'")
        more = {"of": of} | (_direction(spec, of) if kind == DIRECTION else _ability(spec, of))
    cases = _cases(spec.get("cases"), kind == DIRECTION)
    change, than = (Changes(spec[key], modality) if key in spec else None for key in ("change", "than"))
    if kind != ABILITY and (change is None) == (not cases):
        raise InputError("it needs change" + (", or cases, but not both" if kind == DIRECTION else ""))
    about, allowed = str(spec.get("about", "")), _number(spec, "allowed", 0.0, 0.0, 1.0)
    return Test(name, kind, change=change, than=than, cases=cases, allowed=allowed, about=about, **more)


def _invariance(spec: Mapping[str, Any]) -> dict[str, Any]:
    given = [key for key in ("cosine", "top", "same_class") if key in spec]
    if len(given) != 1:
        raise InputError("invariance needs one of cosine, top and same_class")
    if "same_class" in spec:
        if spec["same_class"] is not True:
            raise InputError(f"same_class={spec['same_class']!r} is not true")
        return {"same_class": True}
    return {"cosine": _number(spec, "cosine", 0, -1.0, 1.0)} if "cosine" in spec else {"top": _count(spec)}


def _direction(spec: Mapping[str, Any], of: str) -> dict[str, Any]:
    expect = spec.get("expect")
    if expect not in ("higher", "lower"):
        raise InputError(f"expect '{expect}' is unknown; {choices(str(expect), ('higher', 'lower'))}")
    if of == ORIGINAL and "than" not in spec:
        raise InputError("nothing is more like the original than itself; than names the change to compare with")
    if "than" in spec and "cases" in spec:
        raise InputError("cases say themselves what is compared; leave than out")
    return {"higher": expect == "higher", "margin": _number(spec, "margin", 0.0, 0.0, float("inf"))}


def _ability(spec: Mapping[str, Any], of: str) -> dict[str, Any]:
    if of == MASKED:
        return {"top": _count(spec)}
    if "top" in spec:
        raise InputError("top is for masked words; of a pair one of two must be nearer")
    return {}


def _cases(given: Any, changed: bool) -> tuple[Case, ...]:
    if given is None:
        return ()
    keys = {"text", "word"} | ({"changed"} if changed else set())
    if not isinstance(given, list) or not given:
        raise InputError("cases is not a list of {text: ..., word: ...}")
    found = []
    for number, one in enumerate(given):
        if not isinstance(one, Mapping) or set(one) != keys or not all(isinstance(v, str) for v in one.values()):
            raise InputError(f"cases[{number}] is not {{{', '.join(sorted(keys))}}}, each a text")
        for key in keys - {"word"}:
            if one[key].count(HOLE) != 1:
                raise InputError(f"cases[{number}].{key} '{one[key]}' must have {HOLE} once")
        found.append(Case(**one))
    return tuple(found)


def _count(spec: Mapping[str, Any]) -> int:
    top = spec.get("top")
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise InputError(f"top={top!r} is not a whole number of 1 or more")
    return top


def _number(spec: Mapping[str, Any], key: str, default: float, least: float, most: float) -> float:
    value = spec.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"{key}={value!r} is not a number from {least:g} to {most:g}")
    return float(value)
