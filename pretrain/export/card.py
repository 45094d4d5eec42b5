"""The model card: what was trained, on what, for how long, how well, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretrain.export import usage
from pretrain.export.check import Parity
from pretrain.export.graph import Made
from pretrain.export.origin import Origin
from pretrain.export.plan import Plan
from pretrain.report import listing
from pretrain.run import SPEED, STARTS, is_start
from pretrain.version import __version__

NOT_STATED = "not stated"
DATA_CARD = "DATA_CARD.md"
OBJECTIVES = {
    "MaskedLM": "masked language modelling",
    "CausalLM": "causal language modelling",
    "Contrastive": "contrastive learning of pairs (CLIP, CLAP)",
    "SigLIP": "contrastive learning of pairs by the sigmoid loss (SigLIP)",
    "Wav2Vec2": "contrastive prediction of quantised frames (wav2vec 2.0)",
}
"""Class of an objective -> what it is called."""
DETAILS = {
    "mlm_probability": "share of tokens chosen:",
    "masking": "by",
    "mask_prob": "share of frames masked:",
    "mask_length": "frames a mask:",
    "max_tokens": "tokens at most:",
    "max_seconds": "seconds at most:",
}
"""Key of a preparation -> how the card says it."""


def card(
    origin: Origin,
    plan: Plan,
    name: str,
    task: str | None,
    parity: Parity | None,
    licence: str | None,
    made: Made | None = None,
) -> str:
    """README.md of an exported folder, with the header that model hubs read."""
    title = f"{origin.frozen().get('name', 'run')}: {plan.architecture} of encoder `{name}`"
    library = "transformers" if made is None else "pytorch" if made.file.endswith(".pt2") else "onnx"
    head = ["---", f"library_name: {library}", f"license: {licence or 'unknown'}", "tags: [pretrain]", "---", ""]
    parts = [
        [f"# {title}", "", *_use(plan, made), ""],
        ["## Model", "", *_model(origin, plan, name, task, made), ""],
        ["## Objective and data", "", *_training(origin, plan, name), ""],
        ["## Compute", "", *_compute(origin), ""],
        ["## Held-out results", "", *_results(origin), ""],
        *_tables(origin),
        ["## Parity", "", *_parity(plan, parity, made), ""],
        ["## Licence", "", f"{licence or NOT_STATED.capitalize()}.", ""],
        ["## Limits", "", *_limits(origin, plan), ""],
    ]
    return "\n".join([*head, *(line for part in parts for line in part)])


def snippet(plan: Plan, folder: str, made: Made | None = None) -> str:
    """Python that loads the folder and computes something."""
    if made is not None:
        return usage.snippet(made, plan, folder)
    lines = [
        f"from transformers import {', '.join(_names(plan))}",
        "",
        f'model = {plan.architecture}.from_pretrained("{folder}").eval()',
    ]
    if plan.processor is not None:
        lines.append(f'processor = {plan.processor}.from_pretrained("{folder}")')
    elif plan.text is not None:
        lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{folder}")')
        lines.append('outputs = model(**tokenizer(["a text"], return_tensors="pt"))')
    return "\n".join(lines)


def _names(plan: Plan) -> list[str]:
    helper = plan.processor or ("AutoTokenizer" if plan.text else None)
    return [plan.architecture, *([helper] if helper else [])]


def _use(plan: Plan, made: Made | None) -> list[str]:
    table = [] if made is None else ["", *usage.table(made)]
    return ["```python", snippet(plan, ".", made), "```", *table]


def _model(origin: Origin, plan: Plan, name: str, task: str | None, made: Made | None) -> list[str]:
    numbers = "int8 in matrices and embeddings" if made is not None and made.exact is not None else "float32"
    kind = "moving average of the weights" if origin.averaged else "weights as trained"
    lines = [
        f"- class: `{plan.architecture}`, {plan.parameters:,} numbers, {numbers}",
        f"- of: encoder `{name}`" + (f" with the head of task `{task}`" if task else ", without a head"),
        f"- {kind}, step {origin.content.step:,}",
        f"- written by pretrain {__version__}",
    ]
    return [*lines, *(f"- {note}" for note in plan.notes)]


def _training(origin: Origin, plan: Plan, name: str) -> list[str]:
    lines = []
    for task, spec in origin.config["tasks"].items():
        if name not in spec["encoders"].values():
            continue
        seen = origin.content.state["positions"].get(task, 0)
        kind = str(spec["objective"].get("_target_", "")).rpartition(".")[2]
        objective = OBJECTIVES.get(kind, kind) + _details(spec["prepare"])
        lines.append(f"- task `{task}`: {objective}; {seen:,} samples seen, {spec['batch_size']} a step")
        lines += [f"  - source {source}" for source in _sources(spec.get("source"))]
    steps = origin.frozen().get("max_steps")
    lines.append(
        f"- {origin.content.step:,} steps" + (f" of {steps:,}" if steps else "") + f", seed {origin.config['seed']}"
    )
    if DATA_CARD in plan.files:
        lines.append(f"- the data: [{DATA_CARD}]({DATA_CARD})")
    else:
        lines.append("- no data card was given (`pretrain shards card --run RUN --out FILE`, then `--data-card FILE`)")
    return lines


def _details(prepare: Mapping[str, Any]) -> str:
    """What of the preparation belongs to the objective."""
    given = [f"{text} {prepare[key]}" for key, text in DETAILS.items() if key in prepare]
    return f" ({', '.join(given)})" if given else ""


def _compute(origin: Origin) -> list[str]:
    """From the run's own record of its steps and starts, up to this checkpoint."""
    run, step = origin.run, origin.content.step
    steps = [row for row in run.rows(SPEED) if row["step"] <= step] if run else []
    starts = [row for row in filter(is_start, run.rows(STARTS)) if row["step"] < step] if run else []
    if not steps or not starts:
        return [f"{NOT_STATED.capitalize()}: the run's directory is not there, or has no record."]
    seconds = sum(row["seconds"] for row in steps)
    machines = {f"{row['device']}, {row['cores']} cores" for row in starts}
    devices = origin.frozen().get("trainer", {}).get("devices", 1)
    last = starts[-1]
    return [
        f"- {seconds / 60:,.1f} minutes of steps ({len(steps):,} recorded), in {len(starts)} "
        f"{'start' if len(starts) == 1 else 'starts'}",
        f"- on: {'; '.join(sorted(machines))}; {devices} {'process' if devices == 1 else 'processes'} a host",
        f"- torch {last['packages']['torch']}, pretrain {last['version']}, Python {last['python']}",
    ]


def _sources(source: Any) -> list[str]:
    """File names of shards, without the folders of the machine they lay on."""
    if isinstance(source, Mapping):
        found = []
        for name, part in source.items():
            pattern = part.get("pattern") if isinstance(part, Mapping) else part
            weight = f", weight {part['weight']}" if isinstance(part, Mapping) and "weight" in part else ""
            found += [f"`{name}`: {one}{weight}" for one in _sources(pattern)]
        return found
    if isinstance(source, list):
        return [one for part in source for one in _sources(part)]
    return [f"`{str(source).rstrip('/').rpartition('/')[2]}`"]


def _results(origin: Origin) -> list[str]:
    results = origin.results()
    if results is None:
        return [f"None were measured at step {origin.content.step}."]
    began = origin.baseline()
    more = (" untrained |", "---|") if began else ("", "")
    rows = [f"| metric | value | chance |{more[0]}", f"|---|---|---|{more[1]}"]
    for name, score in results["metrics"].items():
        chance = f"{score['chance']:.4g}" if "chance" in score else ""
        before = (f" {began[name]:.4g} |" if name in began else " |") if began else ""
        rows.append(f"| {name} | {score['value']:.4g} | {chance} |{before}")
    return [f"At step {results['step']:,}, on held-out samples of the run's own sources:", "", *rows]


def _tables(origin: Origin) -> list[list[str]]:
    """Sections that there are only where something was measured."""
    found = []
    for kind, title in (("behaviour", "## Behavioural tests"), ("groups", "## Coverage")):
        tables = list(listing.all_of(origin.results(), (kind,)))
        if tables:
            found.append([title, ""])
            found += [[f"{table['title']}:", "", *listing.markdown(table), ""] for table in tables]
    return found


def _parity(plan: Plan, parity: Parity | None, made: Made | None) -> list[str]:
    if parity is None:
        return ["Not checked (`--no-check`): the folder was not loaded with transformers."]
    lines = [f"- {name}: {value:.1e}" for name, value in parity.outputs.items()]
    if parity.tokens is not None:
        lines.append(f"- tokenizer: the same ids on {parity.tokens} texts")
    head = (
        f"`{plan.architecture}` of transformers {parity.version} against the trained model on a probe batch, largest "
    )
    lines += [f"- {line}" for line in made.lines] if made else []
    return [f"{head}difference as a share of the largest number:", "", *lines]


def _limits(origin: Origin, plan: Plan) -> list[str]:
    tested = any(listing.all_of(origin.results(), ("behaviour",)))
    without = "tests for bias" if tested else "behavioural tests or tests for bias"
    lines = [
        "- Evaluated on the sources above only; nothing is known of other domains.",
        f"- No {without} are part of this card, nor other downstream tasks than those above.",
    ]
    groups = [(one["columns"][0], len(one["rows"])) for one in listing.all_of(origin.results(), ("groups",))]
    lines += [f"- Measured for {count} values of `{name}`; of others nothing is known." for name, count in groups]
    if origin.content.state["step"] < origin.frozen().get("max_steps", 0):
        lines.append("- The run had not come to its end.")
    if plan.causal:
        lines.append("- A base model: it continues texts, and follows no instructions.")
    if "preprocessor_config.json" in plan.files and plan.processor != "Wav2Vec2FeatureExtractor":
        lines.append(
            "- Its image processor resizes before it crops, training crops before it resizes (both bilinearly): of "
            "pictures that are not square the crop lies up to about a pixel elsewhere."
        )
    return lines
