"""The shape of a run's config: which keys there are and of which type. Values stand in ``conf/``, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from data.errors import InputError
from pretrain.optim.weights import check_weight
from pretrain.soundness.policies import OFF, POLICIES


def at_least(least: float, default: Any = MISSING) -> Any:
    """A number that may not be smaller; it must be given where there is no default."""
    return field(default=default, metadata={"least": least})


def one_of(*choices: str) -> Any:
    """A word that must be given and be one of ``choices``."""
    return field(default=MISSING, metadata={"choices": choices})


def check_deterministic(value: Any, where: str) -> None:
    """Raises an InputError unless ``value`` is one of those of ``trainer.deterministic``."""
    if value not in (True, False, "exact"):
        raise InputError(f"{where} '{value}' is not there; choices: true, false, exact")


@dataclass
class TaskConfig:
    """One objective fed by one source; see ``conf/task``."""

    source: Any = MISSING
    """Pattern, list of patterns, or mapping name -> {pattern, weight}."""
    alpha: float | None = at_least(0, None)
    """Draws sources in proportion to weight times (number of samples) ** alpha; null: to weight alone."""
    heldout: Any = None
    """The same for held-out data; null evaluates nothing."""
    batch_size: int = at_least(1)
    """Global batch: samples of a step on all devices together."""
    micro_batch_size: int | None = at_least(1, None)
    """Most samples a device computes at once; null for its whole share. Changes memory, not results."""
    weight: Any = field(default=MISSING, metadata={"check": check_weight})
    """Factor of the task's loss: a number, or ``{from: 0, to: 1, steps: 1000}``, or with ``samples`` of the task."""
    encoders: dict[str, str] = MISSING
    """Side of the objective -> name under ``encoders``."""
    prepare: Any = MISSING
    """``_target_`` node: sample -> tensors."""
    objective: Any = MISSING
    """``_target_`` node: features -> loss."""


@dataclass
class TrainerConfig:
    """Where and how it is computed; nothing here changes which samples are seen."""

    accelerator: str = MISSING
    devices: int = at_least(1)
    num_nodes: int = at_least(1)
    strategy: str = one_of("auto", "ddp", "fsdp", "hsdp")
    """How several devices share a model: ``ddp`` each has all of it, ``fsdp`` each a part, ``hsdp`` a part in each of
    several copies; ``auto`` is ddp."""
    shard_size: int | None = at_least(2)
    """Of hsdp: devices that hold one copy together."""
    precision: str = one_of("32-true", "bf16-mixed", "bf16-true", "64-true")
    threads: int | None = at_least(1)
    """CPU threads of a process; null for the cores it may use. Another number gives other roundings."""
    compile: bool = MISSING
    """Compile the blocks of all trunks; rounds and draws dropout otherwise."""
    checkpoint_blocks: str | int | None = MISSING
    """Blocks that keep only their input and are computed again: ``none``, ``all``, k for every k-th; null: as each
    encoder's own ``trunk.checkpoint_blocks`` says. Changes memory and time, not results."""
    deterministic: bool | str = field(default=MISSING, metadata={"check": check_deterministic})
    """``exact``: also the same bits on any number of devices, see :mod:`pretrain.exact`."""
    exact_micro_batch_size: int = at_least(1)
    """Of ``deterministic=exact``: samples that are computed together, whatever ``micro_batch_size`` says."""
    timeout_s: int = at_least(1)


@dataclass
class LoaderConfig:
    """Worker processes that prepare samples."""

    workers: int = at_least(0)
    prefetch: int = at_least(1)
    warn_after_s: float = MISSING
    """How long a step may be waited for before a warning says which worker is late, with which sample."""
    deadline_s: float = MISSING
    """How long until the run ends with that message; less than ``trainer.timeout_s``, which names nothing."""


@dataclass
class OrderConfig:
    """How samples are shuffled; see :class:`data.order.order.Ordering`."""

    window: int = at_least(1)
    streams: int = at_least(1)


@dataclass
class CacheConfig:
    """Where remote and packed shards are kept; see :class:`data.store.store.Store`."""

    folder: str | None = None
    max_size: str = MISSING
    """Such as ``50GB``, or a number of bytes."""
    deadline_s: float = field(default=MISSING, metadata={"above": 0})
    allowed_pipes: list[str] = MISSING


@dataclass
class BestConfig:
    """Which checkpoints are the best ones."""

    count: int = at_least(0)
    metric: str | None = MISSING
    """Held-out metric, as the table at the end of a run names it."""
    mode: str = one_of("min", "max")


@dataclass
class CheckpointConfig:
    """When checkpoints are published and how many are kept."""

    every_n_steps: int = at_least(1)
    keep_last: int = at_least(1)
    keep_every_n_steps: int | None = at_least(1)
    """Those of steps that it divides stay for good; null: none."""
    keep_best: BestConfig = MISSING
    asynchronous: bool = MISSING
    """Training waits for a copy in host memory only."""


@dataclass
class EvaluateConfig:
    """Held-out measurements during the run and at its end."""

    every_n_steps: int = at_least(1)
    samples: int = at_least(1)
    batch_size: int = at_least(1)
    ema: bool = MISSING
    """Measure the averaged weights instead of the trained ones."""
    untrained: bool = MISSING
    """Measure before the first step too: what training has added."""


@dataclass
class EmaConfig:
    """A moving average of the weights; see :class:`pretrain.optim.ema.Ema`."""

    decay: float | None = field(default=MISSING, metadata={"above": 0})
    every_n_steps: int = at_least(1)


@dataclass
class LoraConfig:
    """Low-rank updates beside frozen weights of all encoders; see :mod:`modalities.lora`."""

    rank: int | None = at_least(1)
    alpha: float = field(default=MISSING, metadata={"above": 0})
    layers: list[str] = MISSING
    """Last names of the linear layers that get one."""


@dataclass
class InterruptionConfig:
    """Signals, processes that are lost, and deaths that come back."""

    requeue: bool = MISSING
    silence_s: float = field(default=MISSING, metadata={"above": 0})
    """See :class:`pretrain.lifeline.Lifeline`."""
    attempts: int | None = at_least(1, None)
    """See :class:`pretrain.attempts.Attempts`."""


@dataclass
class QuarantineConfig:
    """How many unusable samples a run survives."""

    max_share: float = at_least(0)
    min_count: int = at_least(0)


@dataclass
class RewindConfig:
    """Where a run goes back to, and what it leaves out then; see :mod:`pretrain.soundness.decisions`."""

    steps_back: int = at_least(1)
    """The checkpoint lies at least so many steps before the sick one."""
    skip_beyond: int = at_least(0)
    """Batches behind the sick one that are left out too."""
    at_most: int = at_least(0)
    """So often in a run; then it ends."""


@dataclass
class SickConfig:
    """What is done about losses and gradients that are no numbers, and about spikes; see ``docs/reliability.md``."""

    nonfinite: str = one_of(*POLICIES)
    spike: str = one_of(OFF, *POLICIES)
    window: int = at_least(8)
    """Steps whose median and spread say what a spike is."""
    factor: float = field(default=MISSING, metadata={"above": 0})
    """Robust standard deviations above the median that are still believed."""
    patience: int = at_least(1)
    """Steps in a row before a spike is answered by rewind or stop."""
    max_skips: int = at_least(0)
    """Updates left out in a row by ``skip``; one more ends the run."""
    rewind: RewindConfig = MISSING


@dataclass
class ReportConfig:
    """The page that shows the run; see :class:`pretrain.callbacks.report.Report`."""

    enabled: bool = MISSING
    every_s: float = field(default=MISSING, metadata={"above": 0})
    samples: int = at_least(0)


@dataclass
class RunConfig:
    """Everything a run is made from."""

    name: str = MISSING
    """Of the experiment; the run's directory is called so unless ``run_dir`` says otherwise."""
    run_dir: str = MISSING
    seed: int = at_least(0)
    """Of everything that is drawn at random: initial weights, order of the data, crops, masks, dropout."""
    max_steps: int = at_least(1)
    embed_dim: int = at_least(1)
    """Size of the joint space that contrastive tasks and evaluators share."""
    micro_batch_size: int | None = at_least(1, None)
    resume: str = MISSING
    init_from: Any = None
    """A run, a checkpoint or a folder of ``transformers``; or a mapping from encoders to such folders."""
    allow_changes: list[str] = MISSING
    trusted_roots: list[str] = MISSING
    ledger: bool = MISSING
    tokenizer: str | None = None
    """Path of the ``tokenizer.json`` that all texts are read with."""
    data: Any = MISSING
    """Which shards there are for which kind of task; see ``conf/data``."""
    encoders: dict[str, Any] = MISSING
    """Name -> ``_target_`` node of an encoder; tasks share those that they name alike."""
    tasks: dict[str, TaskConfig] = MISSING
    """Name -> task."""
    evaluators: dict[str, Any] = MISSING
    """Name -> ``_target_`` node of what measures embeddings of held-out samples."""
    optimizer: Any = MISSING
    schedule: Any = MISSING
    ema: EmaConfig = MISSING
    lora: LoraConfig = MISSING
    alarms: dict[str, Any] = MISSING
    """Name -> ``_target_`` node of a callback that watches the run's metrics."""
    gradient_clip_norm: float | None = field(default=MISSING, metadata={"above": 0})
    sick: SickConfig = MISSING
    trainer: TrainerConfig = MISSING
    launcher: Any = MISSING
    """Who starts the run's processes; its keys are those of :mod:`pretrain.launchers.options`."""
    sweeper: Any = MISSING
    """Which runs ``-m`` makes; its keys are those of :mod:`pretrain.sweeps.options`."""
    order: OrderConfig = MISSING
    loader: LoaderConfig = MISSING
    cache: CacheConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    evaluate: EvaluateConfig = MISSING
    interruption: InterruptionConfig = MISSING
    quarantine: QuarantineConfig = MISSING
    report: ReportConfig = MISSING
    logger: dict[str, Any] = MISSING
    log_every_n_steps: int = at_least(1)
