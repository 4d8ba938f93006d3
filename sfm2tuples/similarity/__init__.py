"""The exact most similar rows of a pool of descriptors.

Read `exact_search` first, then `best_rows` (the decision in double precision), `rows` (pools larger than memory) and
`ivf_search` (inverted lists). Imports `files` and `compute`.
"""
