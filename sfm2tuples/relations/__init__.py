"""What a model proves: which images of one place cannot have seen the same, and which parts of it see the same.

Read `model_relations` first: the relations of one model. It uses `pictures` (what a camera can see), `frusta` (where
each image looks), `point_tree`, `projections` (the compiled count of points in pictures) and `unknown_pairs`. Then
`spots`, `louvain`, `held_out` (the split inside a place), and `site`, which answers for an opened index. Imports
`covisibility`, `index`, `readers`, `files` and `compute`.
"""
