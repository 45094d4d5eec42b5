"""Evaluators that a config may name."""
