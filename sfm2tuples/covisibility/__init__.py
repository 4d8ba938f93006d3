"""Which images of a model see the same points: shared points, scale change, viewing angle.

Read `graph` first, then `pair_loops` (the compiled pass over tracks), `tracks` and `shared_points`; from an index,
`shared_observations` says where two images see the same points. Imports `index`, `readers`, `files` and `compute`.
"""
