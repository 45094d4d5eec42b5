"""A run directory as a run writes it, with what it saw: without training."""

import numpy as np

from data.order.order import Ordering
from data.stream import Stream
from pretrain import ledger
from pretrain.run import METRICS, RunDirectory

ORDER = {"window": 256, "streams": 4}
SIZES = {"mlm": 4, "clip": 2}


def stream_of(task, source):
    return Stream(task, source, 0, Ordering(**ORDER))


class Run:
    """A run directory in which ``steps`` steps were done, recorded by ``ranks`` ranks."""

    def __init__(self, path, sources, steps=6, ranks=2, record=True, bad=()):
        self.path, self.sources = path, sources
        self.directory = RunDirectory(str(path), 0)
        self.streams = {task: stream_of(task, source) for task, source in sources.items()}
        self.seen = {}
        self.start(0, dict.fromkeys(sources, 0))
        for step in range(1, steps + 1):
            self.step(step, step - 1, dict.fromkeys(sources, 0), ranks, record, bad)

    def start(self, step, positions):
        config = {
            "name": "own",
            "seed": 0,
            "max_steps": 9,
            "order": ORDER,
            "tasks": {
                task: {"source": source, "batch_size": SIZES[task], "weight": 1.0}
                for task, source in self.sources.items()
            },
        }
        segments = {}
        for task, stream in self.streams.items():
            stream.adopt([], positions[task])
            segments[task] = [segment.as_json() for segment in stream.segments]
        sizes = {task: SIZES[task] for task in self.sources}
        where = {"step": step, "positions": positions, "batch_sizes": sizes, "segments": segments}
        self.directory.freeze_config(config, where)

    def step(self, step, done, begins, ranks, record, bad):
        self.directory.append(METRICS, {"step": step, "loss": 1.0})
        for task, stream in self.streams.items():
            size = SIZES[task]
            base = begins[task] + done * size
            positions = stream.arrange(np.arange(base, base + size))
            places = stream.locate(positions)
            for i, position in enumerate(positions.tolist()):
                if (task, position) in bad:
                    shard, key = stream.identity(places[i])
                    row = {"step": step, "task": task, "position": position, "shard": shard, "key": key}
                    self.directory.append("quarantine.jsonl", {**row, "reason": "broken"})
                    places[i] = stream.replacement(places[i], position, 0)
                self.seen[step, task, position] = stream.identity(places[i])
            pairs = np.array([[place.source, place.number] for place in places])
            share = size // ranks
            for rank in range(ranks if record else 0):
                row = {"step": step, "task": task, "position": base}
                part = ledger.packed(pairs[rank * share : (rank + 1) * share])
                self.directory.append(f"ledger/rank-{rank:05d}.jsonl", row | part)
