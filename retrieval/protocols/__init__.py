"""Protocols: one file each, from somebody's ground truth to a `Benchmark`.

`by_name` has them all, `benchmark` says what a protocol gives. Imports `metrics` and `photos`.
"""
