"""Held-out measurements, during a run and of its checkpoints (docs/evaluation.md)."""
