"""Ranked lists of descriptor files: search, expansion, re-ranking, verification.

Read `ranked_search` first, then `engines`, `query_expansion`, `window_search` (the best window of a photo) and
`verified_lists` (geometry). Imports `descriptors`, `local_features` and what is below.
"""
