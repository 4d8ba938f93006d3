"""The formulas of a ranking.

Read `ground_truth` and `average_precision` first, then `ranking` and `results`. Imports `sfm2tuples`.
"""
