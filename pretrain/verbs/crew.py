"""Work on many shards by several processes, with a bar on a terminal that says how far it is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.errors import RunError

Unit = TypeVar("Unit")
Result = TypeVar("Result")

_AHEAD = 4  # units a process may have waiting
_REFRESH_SECONDS = 0.1


def work(
    function: Callable[[Unit], Result],
    units: Iterable[Unit],
    workers: int,
    title: str,
    total: int,
    size: Callable[[Unit], int] = lambda unit: 1,
) -> Iterator[tuple[Unit, Result]]:
    """Each unit with ``function`` of it, in the order of the units.

    Args:
        function: called in other processes, unless ``workers`` is 0; what it keeps between calls stays in its process.
            Units and results must be picklable.
        units: what there is to do; looked at no further ahead than the processes need.
        workers: how many processes.
        title: what the bar says.
        total: of the sizes of all units.
        size: how far a unit moves the bar.

    Raises:
        RunError: a process died.
    """
    console = Console(stderr=True)
    # The bar is drawn here and not by a thread of its own: processes are forked from this one.
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        auto_refresh=False,
    )
    results = _several(function, units, workers) if workers else ((unit, function(unit)) for unit in units)
    with bar:
        task, shown = bar.add_task(title, total=total), 0.0
        bar.refresh()
        for unit, result in results:
            bar.advance(task, size(unit))
            if time.monotonic() - shown > _REFRESH_SECONDS:
                bar.refresh()
                shown = time.monotonic()
            yield unit, result


def _several(function: Callable[[Unit], Result], units: Iterable[Unit], workers: int) -> Iterator[tuple[Unit, Result]]:
    # Forked, so that what is imported here is not imported again by each.
    pool = ProcessPoolExecutor(workers, get_context("fork"), _begin, (function, os.getpid()))
    waiting: deque[tuple[Unit, Future[Result]]] = deque()
    try:
        for unit in units:
            waiting.append((unit, pool.submit(_call, unit)))
            if len(waiting) >= workers * _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool:
        raise RunError("a worker process died (killed, out of memory?); try fewer --workers") from None
    except BaseException:
        for process in list(pool._processes.values()):  # else what they are at, a transfer perhaps, is waited for
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable[..., Any]


def _begin(function: Callable[..., Any], parent: int) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if torch := sys.modules.get("torch"):  # threads do not outlive a fork: an operation spread over them waits for ever
        torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _call(unit: Any) -> Any:
    return _function(unit)


def _end_with(parent: int) -> None:
    # A pool's processes wait for ever for work if their parent is killed.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
