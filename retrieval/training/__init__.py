"""Training: the loop and what it needs.

Read `loop` first, then `state`, `steps`, `losses`, `recipes`, `remining`, `run_folder`, `last_round` and `curves`. A
new loss is a module and a line of `losses_by_name`. `adaptation/` says which weights learn, and what is kept of them.
Imports `search`, `descriptors`, `networks` and what is below.
"""
