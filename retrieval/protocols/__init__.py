"""Protocols: one file each, from somebody's ground truth to a `Benchmark`.

`benchmark` says what a protocol gives, `by_name` lists them all and says how a new one is added.
Imports `metrics` and `photos`.
"""
