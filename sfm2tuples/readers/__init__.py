"""Sparse models of other programs, as columns.

Read `sparse_model` first (what every reader gives), then `any_kind` (reads them all), `discover` (where models lie) and
one reader, such as `colmap_binary`. `assembly` checks and joins what a reader found, `kernels` are its compiled loops.
Imports `files` and `compute`.
"""
