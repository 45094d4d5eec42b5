"""How a graph is used: the Python that runs it, and its inputs and outputs in words."""

from __future__ import annotations

from pretrain.export.graph import Made
from pretrain.export.plan import Plan
from pretrain.export.signature import MEANINGS


def table(made: Made) -> list[str]:
    """Markdown of the inputs and outputs."""
    signature = made.signature
    rows = ["| | name | sizes | |", "|---|---|---|---|"]
    for name, dims in signature.inputs.items():
        rows.append(f"| input | `{name}` | {' x '.join(str(dim) for dim in dims)} | {MEANINGS[name]} |")
    rows += [f"| output | `{name}` | | {MEANINGS[name]} |" for name in signature.outputs]
    limits = [
        f"{name} {least} or more" + (f", {signature.most[name]} at most" if name in signature.most else "")
        for name, least in signature.least.items()
    ]
    return [*rows, "", f"Sizes: {'; '.join(limits)}."]


def snippet(made: Made, plan: Plan, folder: str) -> str:
    """Python that loads the graph and computes something; what it prepares inputs with is no part of the graph."""
    onnx = made.file.endswith(".onnx")
    helper = plan.processor or ("AutoTokenizer" if plan.text else None)
    lines = ["import onnxruntime" if onnx else "import torch"]
    lines += [f"from transformers import {helper}  # prepares inputs; the graph does not need it"] if helper else []
    lines += [
        "",
        f'session = onnxruntime.InferenceSession("{folder}/{made.file}")'
        if onnx
        else f'graph = torch.export.load("{folder}/{made.file}").module()',
    ]
    if helper:
        kind = "np" if onnx else "pt"
        names = ", ".join(f'"{name}"' for name in made.signature.inputs)
        given = _given(plan)
        lines.append(f'prepare = {helper}.from_pretrained("{folder}")')
        lines.append(f'made = prepare({given}, return_tensors="{kind}")')
        lines.append(f"inputs = {{name: made[name] for name in ({names},)}}")
        outputs = ", ".join(made.signature.outputs)
        lines.append(f"[{outputs}] = session.run(None, inputs)" if onnx else f"outputs = graph(**inputs)  # {outputs}")
    return "\n".join(lines)


def _given(plan: Plan) -> str:
    if plan.processor is None:
        return '["a text", "another"], padding=True'
    if plan.processor == "Wav2Vec2FeatureExtractor":
        return f"wave, sampling_rate={plan.files['preprocessor_config.json']['sampling_rate']}"
    texts = 'text=["a text", "another"], padding=True, ' if plan.text else ""
    return f"{texts}images=[picture]"
