"""Where a run stands: its own newest sound checkpoint, another run's, other weights, or the beginning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.stream import Stream
from modalities.lora import is_update, merged
from pretrain import checkpoint, listings, resume
from pretrain.export import incoming
from pretrain.export.initialise import initialise
from pretrain.model import Model, tokenizers
from pretrain.redaction import redacted
from pretrain.run import METRICS, STARTS, RunDirectory, is_start
from pretrain.sharding.restoring import load_weights
from pretrain.soundness import decisions

log = logging.getLogger("pretrain")


@dataclass
class Start:
    """Where a run goes on.

    Attributes:
        step: optimizer updates done.
        positions: task -> samples consumed.
        segments: task -> what its stream was and is made of; see :class:`data.order.history.Segment`.
        decisions: to leave samples out, those that hold for this run; see :mod:`pretrain.soundness.decisions`.
        sickness: what a spike is judged by, as :meth:`pretrain.soundness.guard.Guard.state` gave it.
        before: where this process came from when it jumped here, which is how steps before the jump are still counted.
    """

    step: int
    positions: dict[str, int]
    segments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    sickness: dict[str, Any] | None = None
    before: Start | None = None

    def position(self, task: str, step: int, batch_size: int) -> int:
        """Samples of ``task`` consumed after ``step``, with a global batch of ``batch_size`` since this start."""
        if step < self.step and self.before is not None:
            return self.before.position(task, step, batch_size)
        return self.positions[task] + (step - self.step) * batch_size


def place(
    config: Mapping[str, Any], directory: RunDirectory, found: checkpoint.Reader | None, streams: Mapping[str, Stream]
) -> Start:
    """Puts the run's files and streams where ``found`` was published, or at the beginning. For rank 0.

    Args:
        config: of the run, resolved.
        directory: of the run; rows of later steps are dropped.
        found: the checkpoint that the run goes on from, if any.
        streams: task -> its stream; goes on from what the checkpoint says it was made of.

    Raises:
        InputError: a file of the run directory is damaged, or a stream cannot go on.
    """
    start = Start(0, dict.fromkeys(config["tasks"], 0))
    past: dict[str, Any] = {}
    if found is not None:
        start.step = found.step
        start.positions |= {task: p for task, p in found.state["positions"].items() if task in start.positions}
        past = found.state.get("segments", {})
        start.sickness = found.state.get("soundness")
    start.decisions = decisions.adopt(directory, found.state if found is not None else None)
    directory.rewind(start.step)
    for task, stream in streams.items():
        for line in stream.adopt(past.get(task, []), start.positions[task]):
            log.info("from position %d of task %s on: %s", start.positions[task], task, line)
        start.segments[task] = [segment.as_json() for segment in stream.segments]
    listings.keep(directory.path, streams)
    return start


def facts_of(config: Mapping[str, Any], model: Model, streams: Mapping[str, Stream]) -> dict[str, Any]:
    """What decides whether a checkpoint fits: the config of model and data order, digests of shards and tokenizers."""
    return {
        "config": redacted({key: config[key] for key in ("seed", "order", "encoders", "tasks")}),
        "data": {name: digest for stream in streams.values() for name, digest in stream.fingerprint().items()},
        "tokenizers": tokenizers(model),
    }


def find_start(
    config: Mapping[str, Any], directory: RunDirectory, facts: Mapping[str, Any], streams: Mapping[str, Stream]
) -> checkpoint.Reader | None:
    """The checkpoint to go on from: the run's own newest sound one, else the one ``resume`` names, else None.

    For rank 0; what a killed process left half-done among the checkpoints is removed.

    Raises:
        InputError: all of the run's checkpoints are damaged, or config, data or tokenizer changed too much.
    """
    checkpoint.sweep(directory.checkpoints)
    decisions.finish(directory)
    allowed = config["allow_changes"]
    place, found, damaged = directory.path, None, []
    for path, reader in checkpoint.newest_sound(directory.checkpoints):
        if isinstance(reader, checkpoint.Damaged):
            log.warning("checkpoint %s is damaged: %s", path.name, reader)
            damaged.append(path)
        else:
            found = reader
    if found is None:
        # All stay what they are: where none can be read, the disk may be to blame, and be well again at the next start.
        refuse_to_begin_anew(directory)
    for path in damaged:
        log.warning("%s is set aside as %s", path.name, checkpoint.set_aside(path).name)
    frozen = directory.frozen_config() or {}
    for word in ("resume", "init_from"):
        if found is not None and config[word] not in ("auto", None):
            log.info("%s=%s counted for the run's first step alone; it has come further", word, config[word])
    if found is None and config["resume"] != "auto":
        place, frozen = config["resume"], {}
        found = checkpoint.find_reader(place)
    if found is not None:
        # The checkpoint's own word counts; the frozen config adds the keys that change neither model nor order.
        old = frozen | found.state["config"]
        for line in resume.check_config(old, {key: config[key] for key in old if key in config}, allowed):
            log.info(line)
        resume.check_tokenizers(str(place), found.state["tokenizers"], facts["tokenizers"], allowed)
        digests, roots = found.state["data"], (directory.path, Path(place), Path(place).parent.parent)
        resume.check_data(digests, facts["data"], allowed, lambda name: differs(name, digests, streams, roots))
        log.info("going on from step %d of %s", found.step, place)
    return found


def differs(
    name: str, digests: Mapping[str, str], streams: Mapping[str, Stream], roots: tuple[Path, ...]
) -> str | None:
    """How the shards of source ``name`` differ from those of the run, whose lists lie below one of ``roots``."""
    now = [source for stream in streams.values() for source in stream.sources if source.name == name]
    old = [listing for root in roots if (listing := listings.kept(root, name, digests[name])) is not None]
    return listings.difference(old[0], now[0].listing()) if old and now else None


def refuse_to_begin_anew(directory: RunDirectory) -> None:
    """Stops a run that has come further than its first checkpoint from starting over without a word.

    Raises:
        InputError: its checkpoints are damaged or gone.
    """
    frozen = directory.frozen_config()
    reached = max((row["step"] for row in directory.rows(METRICS, damaged=True)), default=0)
    starts = [row["step"] for row in filter(is_start, directory.rows(STARTS, damaged=True))]
    lost = False
    if frozen is not None and starts:
        # A second save waits for the first, which is published or ends the run. A run that goes on from another one
        # (resume=...) begins at that one's step.
        every = frozen["checkpoint"]["every_n_steps"]
        lost = reached > (starts[0] // every + 2) * every or max(starts) > starts[0]
    lost = lost or checkpoint.ever_published(directory.checkpoints)
    if checkpoint.damaged(directory.checkpoints) or lost:
        raise InputError(
            f"'{directory.path}' has come to step {reached}, but no sound checkpoint is left; put one back, or "
            "give another run_dir to begin anew"
        )


def initialise_from(config: Mapping[str, Any], model: Model, digests: Mapping[str, str]) -> None:
    """Begins ``model`` with the weights that ``init_from`` names, of a run or of a folder of ``transformers``.

    Args:
        config: of the run, resolved.
        model: changed in place.
        digests: encoder -> SHA-256 of its tokenizer.

    Raises:
        InputError: what is there does not fit.
    """
    if incoming.concerns(config["init_from"]):
        initialise(config, model)
    else:
        _from_run(config, model, digests)


def _from_run(config: Mapping[str, Any], model: Model, digests: Mapping[str, str]) -> None:
    """Takes the weights whose names and shapes fit, and says which did not.

    Of an objective that was made for something else nothing is taken.

    Raises:
        InputError: nothing fits, a tensor of an encoder has another shape, or its tokenizer is another one.
    """
    place = config["init_from"]
    found = checkpoint.find_reader(place)
    resume.check_tokenizers(place, found.state["tokenizers"], digests, config["allow_changes"])
    own, there = model.state_dict(), found.shapes("model")
    common = sorted(name for name in own.keys() & there.keys() if not is_update(name))
    for task in config["tasks"]:
        parts = [name for name in common if name.startswith(f"objectives.{task}.")]
        if parts and (why := _made_for_else(task, config, found, {name: tuple(own[name].shape) for name in parts})):
            common = [name for name in common if name not in parts]
            log.info("objectives.%s begins anew: %s", task, why)
    for name in common:
        if tuple(own[name].shape) != there[name]:
            sizes = f"{there[name]} there and {tuple(own[name].shape)} in this model"
            raise InputError(f"init_from '{place}': '{name}' is {sizes}")
    if not common:
        raise InputError(f"init_from '{place}' has no parameter in common with this model")
    updates = [name for name in there if is_update(name)]
    tensors = merged({name: found.tensor("model", name) for name in [*common, *updates]})
    load_weights(model, {name: tensors[name] for name in common})
    new = sorted(own.keys() - set(common))
    log.info("weights from step %d of %s: %d tensors taken", found.step, place, len(common))
    if new:
        log.info("%d tensors begin anew (%s, ...)", len(new), new[0])


def _made_for_else(
    task: str, config: Mapping[str, Any], found: checkpoint.Reader, shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    """Why the weights of a task's objective in ``found`` mean something else than here; None if they do not.

    Args:
        task: its name.
        config: of the run that begins.
        found: what it begins with.
        shapes: of the objective's tensors in this model, those that are there too.
    """
    # A checkpoint's config holds no credentials, and other ones are no change.
    before, now = (redacted(one["tasks"].get(task, {})) for one in (found.state["config"], config))
    labels = [one.get("objective", {}).get("labels") for one in (before, now)]
    if labels[0] != labels[1]:
        return f"it is for other labels than those of '{config['init_from']}'"
    there = found.shapes("model")
    name = next((name for name, shape in shapes.items() if there[name] != shape), None)
    return None if name is None else f"'{name}' is {there[name]} there and {shapes[name]} in this model"
