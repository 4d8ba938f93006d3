"""SIFT, visual words, the BoW teacher and geometric verification.

Read `feature_extraction` first, then `vocabulary`, `bag_of_words`, `hamming`, `spatial_verification` and `teacher`.
Imports `photos` and `metrics`.
"""
