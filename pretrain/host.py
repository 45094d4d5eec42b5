"""Settings of the process that make arithmetic on a CPU fast; to be applied before torch is imported."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from pathlib import Path

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OPEN_FILES = 65536


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def began() -> float:
    """When this process began, in seconds since 1970: before Python and its imports."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    except (OSError, AttributeError):  # not Linux
        return time.time() - time.process_time()


def tune() -> None:
    """Applies them, unless the environment says otherwise.

    An OpenMP thread without work spins a moment and then sleeps. The default is to spin for long, which makes a step 10
    to 50 times slower as soon as loader workers or anything else need the core; not to spin at all costs a third of the
    speed where nothing does. Freed blocks up to 32 MiB (the most glibc allows) stay with the process, which saves
    faulting in the pages of each step's temporaries anew; for tensors of 2 MiB and more torch asks for large pages,
    2 to 8 % of a step of wav2vec 2.0 on CPU. Shards stay open while they are shuffled together, several hundred of
    them: the limit of open files is raised as far as the host allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # glibc only
            mallopt(_MMAP_THRESHOLD, 32 * 2**20)
            mallopt(_TRIM_THRESHOLD, 512 * 2**20)
