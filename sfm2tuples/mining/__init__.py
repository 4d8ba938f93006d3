"""Queries, positives and negatives; tuples and their file.

Read `rounds` first (one round: a plan, then the choice), then `queries`, `positives` (m1, m2, m3), `negatives` (N1,
N2), `options`, `photo_table`, `photo_keys` and `tuple_file`. Imports `index`, `places`, `similarity`, `files` and
`compute`.
"""
