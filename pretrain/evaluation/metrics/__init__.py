"""Measures of embeddings: functions of arrays, which know of no data, no model and no run."""
