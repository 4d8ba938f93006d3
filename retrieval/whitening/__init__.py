"""Whitening: L_w and PCA_w.

Read `learning` first, then `projection` (file and use), `shrinkage`, `matching_pairs`, `options` and `linear_algebra`.
Imports `metrics` and `photos`.
"""
