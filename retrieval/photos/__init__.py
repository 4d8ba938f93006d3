"""Photos: where they lie, how they are decoded, made smaller, packed and augmented; their labels.

Read `decoding` first (its options are in `choices`), then `sources` (which photos a command means) and `tuple_photos`
(the photos of a tuple file). `origins` tells descriptors of one index from those of another. Imports `sfm2tuples`.
"""
