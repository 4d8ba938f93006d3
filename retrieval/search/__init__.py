"""Ranked lists of a database: by descriptors or by visual words, expanded, re-ranked, verified.

Read `options` first (what a search may be asked), then `ranked_lists` (the steps), `ranked_search` and `engines`, then
`query_expansion`, `window_search` (the best window of a photo), `feature_verifier` (geometry) and `teacher` (words).
Imports `descriptors`, `local_features` and what is below.
"""
