"""Search in folders of embeddings: exact neighbours, and a page that shows them (docs/embeddings.md)."""
