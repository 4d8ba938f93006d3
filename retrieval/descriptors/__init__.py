"""Photos through a network to descriptors.

Read `extraction` first, then `described_photos` (any list of photos), `query_crops` and `receptive_fields`. Imports
`networks`, `whitening` and `photos`.
"""
