"""Evaluation protocols: one file a protocol."""
