"""Behavioural tests of trained encoders (CheckList, Ribeiro et al. 2020; docs/evaluation.md)."""
