"""The command of torch's own launcher, with or without a number of hosts that may change."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import InputError
from pretrain.ranks import check_spread
from pretrain.version import __version__

SCRIPT = "torchrun.sh"


def script(config: Mapping[str, Any], run: Sequence[str]) -> str:
    """The text of a script that starts this host's processes, and waits for them.

    Args:
        config: of the run, resolved; its ``launcher`` is of kind torchrun.
        run: the command of a process; its first words start Python.

    Raises:
        InputError: hosts are not told where they meet, or some number of them cannot share a batch.
    """
    options, trainer = config["launcher"], config["trainer"]
    most, least = trainer["num_nodes"], options["min_nodes"] or trainer["num_nodes"]
    if least > most:
        raise InputError(
            f"launcher.min_nodes={least} is more than trainer.num_nodes={most}, which is the most there are"
        )
    if most > 1 and options["rendezvous"] is None:
        raise InputError(
            f"launcher=torchrun with trainer.num_nodes={most} needs launcher.rendezvous=HOST:PORT, the "
            "same on each host"
        )
    for nodes in range(least, most + 1):
        check_spread(config, trainer["devices"] * nodes)
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    torchrun.append(f"--nnodes={least}:{most}" if least < most else f"--nnodes={most}")
    torchrun += [f"--nproc-per-node={trainer['devices']}", f"--max-restarts={options['max_restarts']}"]
    if options["rendezvous"] is None:
        torchrun.append("--standalone")
    else:
        torchrun += ["--rdzv-backend=c10d", f"--rdzv-endpoint={options['rendezvous']}"]
        torchrun.append(f"--rdzv-id={config['name']}")
    process = shlex.join(run)
    if least < most:  # how many hosts there are is known only once they have met
        process = shlex.join(["bash", "-c", f"exec {process} trainer.num_nodes=$GROUP_WORLD_SIZE"])
    return "\n".join(
        [
            "#!/bin/bash",
            f"# Written by pretrain {__version__}; the same on each host. Start it again, and the run goes on.",
            "# Without this, a host that takes the place of a lost one waits for the others for ever (torch 2.13).",
            "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
            f"exec {shlex.join(torchrun)} --no-python \\\n  {process}",
            "",
        ]
    )
