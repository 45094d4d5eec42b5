"""Which process of how many this is, before any process group exists: under torchrun, srun, or alone."""

from __future__ import annotations

import os


def global_rank() -> int:
    """This process's rank, from the launcher's environment."""
    if "SLURM_PROCID" in os.environ and "SLURM_STEP_ID" in os.environ and "RANK" not in os.environ:
        return int(os.environ["SLURM_PROCID"]) if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 else 0
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("NODE_RANK", "0")) * 10_000 + int(os.environ.get("LOCAL_RANK", "0"))
