"""One decode function for every loader, and the two forms in which undecoded batches travel."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

IMAGE_SIZE = 112


class Decode:
    """Members of a sample -> tensors: RandomResizedCrop and ToTensor, token ids, float32 waveform.

    The text of a picture or a clip stays text, as the peers' pipelines leave it; that of ``text`` becomes ids.
    """

    def __init__(self, kind: str, tokenizer: Path) -> None:
        self.kind, self.tokenizer = kind, tokenizer
        self._ready: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ready": None}

    def ready(self) -> Decode:
        """Loads what it needs, before processes are forked and clocks started."""
        if self._ready is None and self.kind == "image":
            from torchvision import transforms

            crop = transforms.RandomResizedCrop(IMAGE_SIZE, scale=(0.5, 1.0), antialias=True)
            self._ready = transforms.Compose([crop, transforms.ToTensor()])
        elif self._ready is None and self.kind == "text":
            from tokenizers import Tokenizer

            self._ready = Tokenizer.from_file(str(self.tokenizer))
        elif self._ready is None:
            import soundfile

            self._ready = soundfile.read
        return self

    def __call__(self, content: bytes) -> torch.Tensor:
        ready = self.ready()._ready
        if self.kind == "image":
            from PIL import Image

            return ready(Image.open(io.BytesIO(content)).convert("RGB"))
        if self.kind == "text":
            return torch.tensor(ready.encode(content.decode(), add_special_tokens=False).ids)
        return torch.from_numpy(ready(io.BytesIO(content), dtype="float32")[0])


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


class Lists:
    """A dict of lists, the peers' usual batch: text as str, the other member as bytes, or as tensors once decoded."""

    def __init__(self, field: str | None, decode: Decode | None = None) -> None:
        self.field, self.decode = field, decode

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        texts = [value if isinstance(value := sample["txt"], str) else bytes(value).decode() for sample in samples]
        batch: dict[str, Any] = {"txt": texts, "size": len(samples)}
        if self.decode is not None:
            content = self.field or "txt"
            decoded = [self.decode(_bytes(sample[content])) for sample in samples]
            batch[content] = torch.stack(decoded) if self.decode.kind == "image" else decoded
        elif self.field:
            batch[self.field] = [_bytes(sample[self.field]) for sample in samples]
        return batch


class Block:
    """All members of a batch in one uint8 tensor, and where each begins: our form, offered to the peers too."""

    def __init__(self, field: str | None) -> None:
        self.members = ("txt", *([field] if field else []))

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        parts = [_bytes(sample[member]) for sample in samples for member in self.members]
        edges = torch.from_numpy(np.cumsum([0, *map(len, parts)]))
        return {
            "bytes": torch.frombuffer(bytearray().join(parts), dtype=torch.uint8),
            "edges": edges,
            "size": len(samples),
        }
