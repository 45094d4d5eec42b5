"""The shape of a run's config: which keys there are and of which type. Values stand in ``conf/``, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass
class TaskConfig:
    """One objective fed by one source; see ``conf/task``."""

    source: Any = MISSING
    """Pattern, list of patterns, or mapping name -> {pattern, weight}."""
    heldout: Any = None
    """The same for held-out data; null evaluates nothing."""
    batch_size: int = MISSING
    """Global batch: samples of a step on all devices together."""
    micro_batch_size: int | None = None
    """Most samples a device computes at once; null for its whole share. Changes memory, not results."""
    weight: float = MISSING
    """Factor of the task's loss."""
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
    devices: int = MISSING
    num_nodes: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    threads: int | None = MISSING
    """CPU threads of a process; null for the cores it may use. Another number gives other roundings."""
    deterministic: bool = MISSING
    timeout_s: int = MISSING


@dataclass
class LoaderConfig:
    """Worker processes that prepare samples."""

    workers: int = MISSING
    prefetch: int = MISSING


@dataclass
class CheckpointConfig:
    """When checkpoints are published and how many are kept."""

    every_n_steps: int = MISSING
    keep_last: int = MISSING


@dataclass
class EvaluateConfig:
    """Held-out measurements during the run and at its end."""

    every_n_steps: int = MISSING
    samples: int = MISSING
    batch_size: int = MISSING


@dataclass
class QuarantineConfig:
    """How many unusable samples a run survives."""

    max_share: float = MISSING
    min_count: int = MISSING


@dataclass
class RunConfig:
    """Everything a run is made from."""

    name: str = MISSING
    run_dir: str = MISSING
    seed: int = MISSING
    max_steps: int = MISSING
    micro_batch_size: int | None = None
    resume: str = MISSING
    init_from: str | None = None
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
    gradient_clip_norm: float | None = MISSING
    trainer: TrainerConfig = MISSING
    loader: LoaderConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    evaluate: EvaluateConfig = MISSING
    quarantine: QuarantineConfig = MISSING
    logger: dict[str, Any] = MISSING
    log_every_n_steps: int = MISSING
