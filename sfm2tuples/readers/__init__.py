"""Sparse models of other programs, as columns.

Read `sparse_model` first (what every reader gives), then `model_kinds` (the table of readers, where a new one gets its
line), `any_kind` (reads a model of any kind), `discover` (where models lie) and one reader, such as `colmap_binary`.
Formats that are made around poses are in `posed/`. `records` are what a reader fills, `assembly` checks and joins them,
`kernels` are its compiled loops. Imports `files` and `compute`.
"""
