"""docs/config.md, from ``conf/``, the schema and docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from config_docs import docstrings, files
from config_docs.docstrings import Field
from config_docs.files import Entry, File

from pretrain import composition, schema
from pretrain.launchers import options as launchers
from pretrain.sweeps import options as sweepers

CONF = Path(__file__).parents[2] / "conf"
TRUNK = "modalities.transformer.Transformer"
INTRO = Path(__file__).with_name("intro.md")
GROUPS = {
    "experiment": "whole runs: tasks, encoders, data and rates that belong together",
    "task": "objectives, at `tasks.NAME`: `+task@tasks.NAME=OPTION` adds one to an experiment",
    "encoder": "at `encoders.NAME`: `encoder@encoders.NAME=OPTION`",
    "evaluator": "at `evaluators.NAME`: `+evaluator@evaluators.NAME=OPTION` ([evaluation.md](evaluation.md))",
    "alarm": "at `alarms.NAME`: `+alarm@alarms.NAME=OPTION`",
}
FIRST = ("experiment", "data", "task", "encoder", "optimizer", "schedule", "trainer")


def page() -> str:
    """The whole of it.

    Raises:
        ValueError: something in ``conf/`` is not said anywhere, or in a way that cannot be read.
    """
    groups = composition.groups()
    order = [*FIRST, *(name for name in groups if name not in FIRST)]
    parts = [INTRO.read_text(encoding="utf-8"), _train(groups), _task(), "## Groups and their options\n"]
    named: set[str] = set()
    for group in order:
        found = {option: files.read(CONF / group / f"{option}.yaml") for option in groups[group]}
        parts.append(_group(group, found))
        named |= {target for file in found.values() for target in file.targets.values()}
    parts.append(_targets({name for name in named if name.startswith(docstrings.OWN)} | {TRUNK}))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _train(groups: dict[str, list[str]]) -> str:
    file, fields = files.read(CONF / "train.yaml"), docstrings.schema(schema.RunConfig)
    written = {entry.key for entry in file.entries}
    chosen = [re.match(r"(?:optional )?(\w+): (\w+)", line) for line in file.defaults]
    rows = [f"| `{m[1]}` | `{m[2]}` | {', '.join(f'`{o}`' for o in groups[m[1]])} |" for m in chosen if m is not None]
    apart = list(dict.fromkeys(entry.key.partition(".")[0] for entry in file.entries if entry.value is None))
    sections = ["## conf/train.yaml\n\nWhat every run has. Of each group one option:\n"]
    sections.append("| group | default | choices |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    given = {*written, *(m[1] for m in chosen if m is not None)}
    left = [Entry(key, "???") for key in fields if key not in given]
    top = [entry for entry in file.entries if entry.key.partition(".")[0] not in apart]
    sections.append("### Keys of their own\n\n" + _table([*left, *top], fields, {}))
    for name in apart:
        own = [entry for entry in file.entries if entry.key.startswith(f"{name}.")]
        head = next(entry.comment for entry in file.entries if entry.key == name) or fields[name].text
        head = head or docstrings.about(fields[name].inner)
        sections.append(f"### {name}\n\n{_sentence(_prose(head))}\n\n" + _table(own, fields, {}))
    return "\n".join(sections)


def _task() -> str:
    fields = docstrings.schema(schema.TaskConfig)
    rows = [Entry(key, field.default or "???") for key, field in fields.items()]
    return (
        "## Keys of a task\n\nAt `tasks.NAME`, whatever its objective; the options of the group [task](#task) give "
        "most of them.\n\n" + _table(rows, fields, {})
    )


def _group(group: str, found: dict[str, File]) -> str:
    where = GROUPS.get(group, f"`{group}=OPTION`")
    links = ", ".join(f"[`{option}`](#{_anchor(f'{group} {option}')})" for option in found)
    lines = [f"### {group}\n", f"{_sentence(where)}\n", f"Options: {links}"]
    for option, file in found.items():
        targets = _inherited(option, found)
        lines += ["", f"#### {group}: {option}", ""]
        lines += [*_head(file.about), ""] if file.about else []
        if parents := [one for one in file.defaults if one != "_self_"]:
            lines += [f"Made of {', '.join(f'`{one}`' for one in parents)}.", ""]
        of = {"trainer": schema.TrainerConfig, "task": schema.TaskConfig}.get(group)
        of = launchers.kind_of({"kind": option}) if group == "launcher" else of
        of = sweepers.kind_of({"kind": option}) if group == "sweeper" else of
        of = schema.RunConfig if file.everywhere else of
        if file.entries:
            lines.append(_table(file.entries, docstrings.schema(of) if of else {}, targets).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _head(about: list[str]) -> list[str]:
    """The comment at a file's head; commands among its lines are code."""
    return [f"`{line}`\n" if line.startswith("pretrain") else _prose(line) for line in about]


def _inherited(option: str, found: dict[str, File]) -> dict[str, str]:
    """The targets of an option and of those of its group that it is made of."""
    targets: dict[str, str] = {}
    for parent in found[option].defaults:
        targets |= _inherited(parent, found) if parent in found else {}
    return targets | found[option].targets


def _table(entries: Iterable[Entry], fields: dict[str, Field], targets: dict[str, str]) -> str:
    rows = []
    typed = any(_field(entry.key, fields) for entry in entries)
    for entry in entries:
        field = _field(entry.key, fields)
        text = entry.comment or (field.text if field else "") or _argument(entry.key, targets)
        if field and field.inner and not text:
            text = docstrings.about(field.inner)
        if entry.key.rpartition(".")[2] == "_target_" and entry.value.startswith(docstrings.OWN):
            text = text or f"[its arguments](#{_anchor(entry.value)})"
        kind = f" {_cell(field.kind) if field else ''} |" if typed else ""
        rows.append(f"| `{entry.key}` | {_code(entry.value)} |{kind} {_cell(text)} |")
    head = "| key | value | may be | |\n|---|---|---|---|" if typed else "| key | value | |\n|---|---|---|"
    return head + "\n" + "\n".join(rows) + "\n"


def _field(key: str, fields: dict[str, Field]) -> Field | None:
    first, _, rest = key.partition(".")
    field = fields.get(first)
    if field is None or not rest:
        return field
    return _field(rest, docstrings.schema(field.inner)) if field.inner else None


def _argument(key: str, targets: dict[str, str]) -> str:
    """What the node that ``key`` is an argument of says of it."""
    place, _, name = key.rpartition(".")
    target = targets.get(place)
    if target is None and place.rpartition(".")[2] == "trunk":
        target = TRUNK
    if target is None or not target.startswith(docstrings.OWN):
        return ""
    return next((one.text for one in docstrings.arguments(docstrings.locate(target)) if one.name == name), "")


def _targets(names: set[str]) -> str:
    lines = ["## Arguments of what `_target_` names", ""]
    lines += [
        "Those that a run gives by itself are left out. What other packages' classes take, their documentation says.",
        "",
    ]
    for name in sorted(names):
        target = docstrings.locate(name)
        lines += [f"### {name}", "", _cell(docstrings.about(target)), ""]
        if found := docstrings.arguments(target):
            lines += ["| argument | default | |", "|---|---|---|"]
            lines += [f"| `{a.name}` | {_code(a.default) or 'must be given'} | {_cell(a.text)} |" for a in found]
            lines.append("")
    return "\n".join(lines)


def _code(value: str | None) -> str:
    return "" if value is None else "`" + value.replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    """Markdown for what is written in a comment or a docstring."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return "`".join(part if number % 2 else _plain(part) for number, part in enumerate(text.split("`")))


def _plain(text: str) -> str:
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text.replace("<", "&lt;"))
    return text.replace("*", "\\*")


def _sentence(text: str) -> str:
    return (text[:1].upper() + text[1:]).rstrip(".") + "."


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
