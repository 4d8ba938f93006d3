"""SIFT, visual words and geometric verification: what the BoW teacher is made of.

Read `feature_extraction` first, then `vocabulary`, `bag_of_words`, `hamming` and `spatial_verification`. The teacher
itself ranks, and lives in `search`. Imports `photos` and `whitening`.
"""
