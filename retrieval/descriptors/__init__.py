"""Photos through a network to descriptors.

Read `extraction` first, then `described_photos` (any list of photos), `query_crops` and `receptive_fields`. On many
machines: `shards` (what a worker does), `shard_parts` (what it leaves) and `on_cluster` (all of them to one stream).
Imports `networks`, `whitening` and `photos`.
"""
