"""Training: the loop and what it needs.

Read `loop` first, then `steps`, `losses`, `recipes`, `remining` and `run_folder`. Imports `descriptors`, `networks` and
what is below.
"""
