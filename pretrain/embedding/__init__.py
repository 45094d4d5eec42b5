"""Embeddings of samples by a trained encoder: made, kept, read again (docs/embeddings.md)."""
