"""A trained text encoder and a labelled set at the smallest sizes, and the command that brings them together."""

from data.write import write
from tests.conftest import sentence
from tests.pretrain.export.families import OVERRIDES, published

LABELS = ("cold", "dry", "wet")
QUICK = [
    "max_steps=8",
    "checkpoint.every_n_steps=3",
    "evaluate.every_n_steps=4",
    "schedule.warmup_steps=2",
    "trainer.threads=1",
    "loader.workers=0",
    "logger=none",
    "report.enabled=false",
]


def origin(folder, tokenizer, family="bert"):
    """RUN with a checkpoint of step 7; random weights."""
    published(folder / "origin", tokenizer, OVERRIDES[family])
    return str(folder / "origin")


def labelled(folder, count=12, labels=LABELS, prefix="own", **members):
    """Shards PREFIX-train-*.tar and PREFIX-val-*.tar of texts with a class each."""
    for split, begin, size in (("train", 0, count), ("val", count, 6)):
        samples = (
            (
                f"{split}-{n:04d}",
                {"txt": sentence(n).encode(), "cls": labels[n % len(labels)].encode()}
                | {name: make(n) for name, make in members.items()},
            )
            for n in range(begin, begin + size)
        )
        write(samples, folder / "shards", f"{prefix}-{split}", 100_000)
    return str(folder / "shards")


def command(run, shards, run_dir, *more):
    """An adaptation that takes a second."""
    sizes = ["tasks.label.batch_size=4", "tasks.label.prepare.input.max_tokens=24"]
    return ["adapt", run, f"data.folder={shards}", f"run_dir={run_dir}", *QUICK, *sizes, *more]
