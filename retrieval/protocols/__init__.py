"""Protocols: one file each, from somebody's ground truth to a `Benchmark`.

`benchmark` says what a protocol gives, `by_name` lists them all. A new one is a file with a `make_benchmark` and a line
there. Imports `metrics` and `photos`.
"""
