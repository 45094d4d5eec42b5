"""One loader in a process of its own: requests as JSON lines on standard input, an answer to each on standard output.

So that no loader pays for the modules, threads and memory of another. Which one, and the data, are its arguments. Each
measurement is taken in a child of it, as a run takes place in a process that has done nothing before: one that has made
and thrown away ten tokenizers reads 8 % slower with the eleventh, from memory in pieces.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from data_bench import kinds, measure
from data_bench.decoding import Block, Decode, Lists
from data_bench.peers import PEERS, Loader

from pretrain.host import tune


def _loader(name: str, form: str, kind: kinds.Kind, data: Path, workers: int, window: int | None) -> Loader:
    tokenizer = kind.folder(data) / "tokenizer" / "tokenizer.json"
    if name == "ours":
        from data_bench import ours

        from data.order.order import Ordering

        loader = ours.Ours(kind, data, ours.prepare_of(form, kind, tokenizer), workers)
        if window is not None:
            loader.ordering = Ordering(window=window)
        return loader
    decode = Decode(kind.name, tokenizer).ready() if form == "decoded" else None
    return PEERS[name](kind, data, Block(kind.field) if form == "block" else Lists(kind.field, decode), workers)


def _answer(name: str, request: dict[str, Any], data: Path, kind: kinds.Kind) -> dict[str, Any]:
    what = request["what"]
    if what == "make":
        kinds.make(data, kind, request["formats"])
        return {}
    if name == "bounds":
        from data_bench import bounds

        return bounds.measure(request, kind, data)
    loader = _loader(name, request["form"], kind, data, request["workers"], request.get("window"))
    if what == "resume":
        return measure.resume(loader, repeats=request["repeats"])
    if what == "mixing":
        return measure.mixing(loader)
    return measure.rate(loader, request["seconds"])


def _measured(*given: Any) -> dict[str, Any]:
    """The answer of a child of this process, which has its modules and none of its past."""
    context = multiprocessing.get_context("fork")
    come, out = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(out, *given))
    process.start()
    out.close()  # so that the end of a child that fails is the end of its pipe
    try:
        answer: dict[str, Any] = come.recv()
    except EOFError:
        process.join()
        answer = {"error": f"the process ended: {process.exitcode}"}
    process.join()
    return answer


def _child(out: Any, *given: Any) -> None:
    try:
        answer = _answer(*given)
    except Exception as error:  # noqa: BLE001 - a loader that cannot do a case is a result, of any library's making
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    out.send(answer)


def main() -> None:
    name, data, size = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    answers = os.fdopen(os.dup(1), "w")  # what a library prints goes elsewhere
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    tune()  # as every run does; for the peers, too: it is the allocator that gains
    torch.set_num_threads(1)
    # Imports are not part of the first batch of any loader.
    modules = {"ours": ["data_bench.ours"], "bounds": ["data_bench.bounds"], "arrow": ["datasets", "torchdata"]}
    for module in modules.get(name, [PEERS[name].needs] if name in PEERS else []):
        importlib.import_module(module)
    if name == "arrow":
        importlib.import_module("torchdata.stateful_dataloader.sampler")
    gc.collect()
    gc.freeze()  # later collections see only what the loader makes
    for line in sys.stdin:
        request = json.loads(line)
        kind = (kinds.QUICK if size == "quick" else kinds.FULL)[request["kind"]]
        print(json.dumps(_measured(name, request, data, kind)), file=answers, flush=True)


if __name__ == "__main__":
    main()
