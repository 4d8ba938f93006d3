"""Which images of a model see the same points: shared points, scale change, viewing angle.

Read `graph` first, then `pair_loops` (the compiled pass over tracks), `tracks` and `shared_points`. Imports `index`,
`readers`, `files` and `compute`.
"""
