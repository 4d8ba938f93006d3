"""Training: the loop and what it needs.

Read `loop` first, then `state`, `steps`, `losses`, `recipes`, `remining` and `run_folder`. A new loss is a module and a
line of `losses_by_name`. Imports `search`, `descriptors`, `networks` and what is below.
"""
