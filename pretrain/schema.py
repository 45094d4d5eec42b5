"""The shape of a run's config: which keys there are and of which type. Values stand in ``conf/``, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pretrain.optim.weights import check_weight


def at_least(least: float, default: Any = MISSING) -> Any:
    """A number that may not be smaller; it must be given where there is no default."""
    return field(default=default, metadata={"least": least})


def one_of(*choices: str) -> Any:
    """A word that must be given and be one of ``choices``."""
    return field(default=MISSING, metadata={"choices": choices})


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
    """Factor of the task's loss: a number, or ``{from: 0, to: 1, steps: 1000}``."""
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
    strategy: str = one_of("auto", "ddp")
    precision: str = one_of("32-true", "bf16-mixed", "bf16-true", "64-true")
    threads: int | None = at_least(1)
    """CPU threads of a process; null for the cores it may use. Another number gives other roundings."""
    deterministic: bool = MISSING
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
class CheckpointConfig:
    """When checkpoints are published and how many are kept."""

    every_n_steps: int = at_least(1)
    keep_last: int = at_least(1)


@dataclass
class EvaluateConfig:
    """Held-out measurements during the run and at its end."""

    every_n_steps: int = at_least(1)
    samples: int = at_least(1)
    batch_size: int = at_least(1)
    ema: bool = MISSING
    """Measure the averaged weights instead of the trained ones."""


@dataclass
class EmaConfig:
    """A moving average of the weights; see :class:`pretrain.optim.ema.Ema`."""

    decay: float | None = field(default=MISSING, metadata={"above": 0})
    every_n_steps: int = at_least(1)


@dataclass
class QuarantineConfig:
    """How many unusable samples a run survives."""

    max_share: float = at_least(0)
    min_count: int = at_least(0)


@dataclass
class RunConfig:
    """Everything a run is made from."""

    name: str = MISSING
    run_dir: str = MISSING
    seed: int = at_least(0)
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
    data: Any = MISSING
    encoders: dict[str, Any] = MISSING
    tasks: dict[str, TaskConfig] = MISSING
    evaluators: dict[str, Any] = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    ema: EmaConfig = MISSING
    alarms: dict[str, Any] = MISSING
    """Name -> ``_target_`` node of a callback that watches the run's metrics."""
    gradient_clip_norm: float | None = field(default=MISSING, metadata={"above": 0})
    trainer: TrainerConfig = MISSING
    order: OrderConfig = MISSING
    loader: LoaderConfig = MISSING
    cache: CacheConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    evaluate: EvaluateConfig = MISSING
    quarantine: QuarantineConfig = MISSING
    logger: dict[str, Any] = MISSING
    log_every_n_steps: int = at_least(1)
