"""The model card: what was trained, on what, for how long, how well, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretrain.export.check import Parity
from pretrain.export.origin import Origin
from pretrain.export.plan import Plan
from pretrain.version import __version__

NOT_STATED = "not stated"


def card(origin: Origin, plan: Plan, name: str, task: str | None, parity: Parity | None, licence: str | None) -> str:
    """README.md of an exported folder, with the header that model hubs read."""
    title = f"{origin.frozen().get('name', 'run')}: {plan.architecture} of encoder `{name}`"
    head = ["---", "library_name: transformers", f"license: {licence or 'unknown'}", "tags: [pretrain]", "---", ""]
    parts = [
        [f"# {title}", "", *_use(plan), ""],
        ["## Model", "", *_model(origin, plan, name, task), ""],
        ["## Data and training", "", *_training(origin, name), ""],
        ["## Held-out results", "", *_results(origin), ""],
        ["## Parity", "", *_parity(plan, parity), ""],
        ["## Licence", "", f"{licence or NOT_STATED.capitalize()}.", ""],
        ["## Limits", "", *_limits(origin, plan), ""],
    ]
    return "\n".join([*head, *(line for part in parts for line in part)])


def snippet(plan: Plan, folder: str) -> str:
    """Python that loads the folder and computes something."""
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


def _use(plan: Plan) -> list[str]:
    return ["```python", snippet(plan, "."), "```"]


def _model(origin: Origin, plan: Plan, name: str, task: str | None) -> list[str]:
    kind = "moving average of the weights" if origin.averaged else "weights as trained"
    lines = [
        f"- class: `{plan.architecture}`, {plan.parameters:,} numbers, float32",
        f"- of: encoder `{name}`" + (f" with the head of task `{task}`" if task else ", without a head"),
        f"- {kind}, step {origin.content.step:,}",
        f"- written by pretrain {__version__}",
    ]
    return [*lines, *(f"- {note}" for note in plan.notes)]


def _training(origin: Origin, name: str) -> list[str]:
    lines = []
    for task, spec in origin.config["tasks"].items():
        if name not in spec["encoders"].values():
            continue
        seen = origin.content.state["positions"].get(task, 0)
        objective = str(spec["objective"].get("_target_", "")).rpartition(".")[2]
        lines.append(f"- task `{task}`: {objective}, {seen:,} samples seen, {spec['batch_size']} a step")
        lines += [f"  - source {source}" for source in _sources(spec.get("source"))]
    steps = origin.frozen().get("max_steps")
    lines.append(
        f"- {origin.content.step:,} steps" + (f" of {steps:,}" if steps else "") + f", seed {origin.config['seed']}"
    )
    lines.append("- a data card of the run is written by `pretrain shards card --run RUN`")
    return lines


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
    rows = ["| metric | value | chance |", "|---|---|---|"]
    for name, score in results["metrics"].items():
        chance = f"{score['chance']:.4g}" if "chance" in score else ""
        rows.append(f"| {name} | {score['value']:.4g} | {chance} |")
    return [f"At step {results['step']:,}, on held-out samples of the run's own sources:", "", *rows]


def _parity(plan: Plan, parity: Parity | None) -> list[str]:
    if parity is None:
        return ["Not checked (`--no-check`): the folder was not loaded with transformers."]
    lines = [f"- {name}: {value:.1e}" for name, value in parity.outputs.items()]
    if parity.tokens is not None:
        lines.append(f"- tokenizer: the same ids on {parity.tokens} texts")
    head = (
        f"`{plan.architecture}` of transformers {parity.version} against the trained model on a probe batch, largest "
    )
    return [f"{head}difference as a share of the largest number:", "", *lines]


def _limits(origin: Origin, plan: Plan) -> list[str]:
    lines = ["- Evaluated on the sources above only; nothing is known of other domains, and no test for bias was made."]
    if origin.content.state["step"] < origin.frozen().get("max_steps", 0):
        lines.append("- The run had not come to its end.")
    if plan.causal:
        lines.append("- A base model: it continues texts, and follows no instructions.")
    if "preprocessor_config.json" in plan.files and plan.processor != "Wav2Vec2FeatureExtractor":
        lines.append(
            "- Its image processor resizes before it crops, training crops before it resizes: edges differ by a pixel."
        )
    return lines
