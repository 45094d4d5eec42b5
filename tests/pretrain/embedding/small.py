"""A run of all three encoders at the smallest sizes, with random weights, published as a checkpoint."""

from tests.pretrain.export.families import composed, published, sizes

SMALL = [
    "experiment=grounded_tiny",
    "encoders.text.vocab_size=320",
    *(f"encoders.{name}.{key}" for name in ("text", "image", "audio") for key in ("width=16", "depth=2", "heads=2")),
    "encoders.audio.channels=8",
    "encoders.image.image_size=16",
    "encoders.image.patch_size=8",
    "embed_dim=12",
    *(f"tasks.wav2vec.objective.{key}" for key in ("latent_vars=8", "latent_dim=8", "final_dim=8")),
]

__all__ = ["SMALL", "composed", "published", "sizes"]


def run(folder, tokenizer, average=False):
    """RUN with a checkpoint of step 7; returns the model as well."""
    return published(folder, tokenizer, SMALL, average=average)
