"""``pretrain checkpoints``: list, verify, prune, diagnose and digest what a run has published."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError, RunError
from pretrain.verbs import options

if TYPE_CHECKING:
    from pretrain.checkpoint.inspection import Finding
    from pretrain.checkpoint.retention import Retention


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain checkpoints", description="Look at the checkpoints of a run.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (
        ("list", "steps, sizes, held-out values, and whether each is sound"),
        ("verify", "exit code 0 if every checkpoint is sound, 1 if one is damaged"),
        ("prune", "remove what the run's config (or the options) does not keep; only while no run is going"),
        ("doctor", "why bad ones are bad and what a start would do; exit code 1 if there is anything to see to"),
        ("digest", "one JSON line: step and SHA-256 of the newest sound checkpoint's logical content"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("run", metavar="RUN", help="run directory" + ("" if name == "prune" else ", or one step-*"))
        if name != "digest":
            options.add_json(verb)
        if name == "prune":
            add = verb.add_argument
            add("--keep-last", metavar="N", type=int, help="the newest N (default: as the config says; so are all)")
            add("--keep-every", metavar="N", type=int, help="those of steps that N divides; 0: none")
            add("--keep-best", metavar="N", type=int, help="the best N by --metric")
            add("--metric", metavar="NAME", help="held-out metric")
            add("--mode", choices=("min", "max"), help="which values are good")
            add("--dry-run", action="store_true", help="say only what would go")
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: RUN does not exist, holds no checkpoint, or is in use (prune).
        RunError: one could not be removed (prune).
    """
    arguments = parser().parse_args(argv)
    from pretrain import checkpoint
    from pretrain.checkpoint.inspection import SOUND, diagnosis, inspect, inspect_all, survey

    run = Path(arguments.run).expanduser()
    if not run.exists():
        raise InputError(f"'{run}' does not exist (a run directory or a step-XXXXXXXX folder is expected)")
    if arguments.verb == "digest":
        content = checkpoint.find(run)
        print(json.dumps({"step": content.step, "sha256": checkpoint.digest(content)}))
        return 0
    single = run.name.startswith("step-") and run.is_dir()
    root = run.parent if single else run / "checkpoints"
    if arguments.verb == "prune":
        if single:
            raise InputError(f"'{run}' is one checkpoint; prune takes the run directory, '{root.parent}'")
        return _prune(run, root, arguments)
    if arguments.verb == "doctor":
        findings = [inspect(run)] if single else survey(root)
    else:
        findings = [inspect(run)] if single else inspect_all(checkpoint.published(root))
    if not findings and not (arguments.verb == "doctor" and root.is_dir()):
        raise InputError(f"'{run}' holds no checkpoint (a run directory or a step-XXXXXXXX folder is expected)")
    advice = diagnosis(root, findings) if arguments.verb == "doctor" and not single else []
    _show(findings, advice, arguments.json)
    bad = any(one.state != SOUND for one in findings)
    return 1 if bad and arguments.verb != "list" else 0


def _prune(run: Path, root: Path, arguments: argparse.Namespace) -> int:
    from pretrain import checkpoint
    from pretrain.run import RunDirectory

    if not root.is_dir():
        raise InputError(f"'{run}' holds no checkpoint (a run directory is expected)")
    directory = RunDirectory(str(run))  # refuses if a run is going
    retention = _retention(directory.frozen_config(), arguments)
    sizes = {path: sum(f.stat().st_size for f in path.iterdir()) for path in checkpoint.published(root)}
    try:
        removed = checkpoint.prune(root, retention, dry=arguments.dry_run)
    except OSError as error:
        raise RunError(f"'{root}' cannot be pruned: {error}") from None
    names, freed = [path.name for path in removed], sum(sizes[path] for path in removed)
    if arguments.json:
        kept = [path.name for path in sizes if path not in removed]
        print(json.dumps({"removed": names, "kept": kept, "bytes": freed, "dry_run": arguments.dry_run}))
    else:
        verb = "would go" if arguments.dry_run else "removed"
        print("\n".join([*(f"{name}  {verb}" for name in names), f"{freed / 1e6:.1f} MB {verb}"]))
    return 0


def _retention(config: Mapping[str, Any] | None, arguments: argparse.Namespace) -> Retention:
    from pretrain.checkpoint.retention import retention_of
    from pretrain.soundness.policies import rewinds_by

    found = (config or {}).get("checkpoint", {})
    best = found.get("keep_best", {})
    given = {
        "keep_last": (arguments.keep_last, found.get("keep_last")),
        "keep_every_n_steps": (arguments.keep_every, found.get("keep_every_n_steps")),
        "count": (arguments.keep_best, best.get("count", 0)),
        "metric": (arguments.metric, best.get("metric")),
        "mode": (arguments.mode, best.get("mode", "min")),
    }
    values = {name: option if option is not None else frozen for name, (option, frozen) in given.items()}
    if values["keep_last"] is None or values["keep_last"] < 1:
        raise InputError(f"--keep-last {values['keep_last']} is not 1 or more, and the run's config does not say")
    for option, value in (("--keep-every", values["keep_every_n_steps"] or 0), ("--keep-best", values["count"])):
        if value < 0:
            raise InputError(f"{option} {value} is not 0 or more")
    return retention_of(
        {
            "every_n_steps": found.get("every_n_steps"),
            "keep_last": values["keep_last"],
            "keep_every_n_steps": values["keep_every_n_steps"] or None,
            "keep_best": {name: values[name] for name in ("count", "metric", "mode")},
        },
        rewinds_by(config) if config is not None and arguments.keep_last is None else None,
    )


def _show(findings: list[Finding], advice: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"checkpoints": [one.as_json() for one in findings], "advice": advice}))
        return
    width = max((len(one.name) for one in findings), default=0)
    for one in findings:
        values = "  ".join(f"{name} {value:.4g}" for name, value in one.held_out.items() if isinstance(value, float))
        verdict = f"{one.state}: {one.why}" if one.why else one.state
        print(f"{one.name:<{width}}  {one.bytes / 1e6:8.1f} MB  {verdict}{values and '  ' + values}")
    print("\n".join(advice), end="\n" if advice else "")
