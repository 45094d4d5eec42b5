"""Weights leave for ``transformers``, and come in from there (docs/export.md)."""
