"""Where a query's camera stands, by the photos that were found for it: hloc's steps, with pycolmap's PnP.

Read `options` first, then `localisation` (the steps, one after the other). `lifting` brings keypoints to 3D points,
`absolute_poses` is what a worker process does for one query, `features_cache` keeps what was done.
Imports `reconstruction` and `local_features`.
"""
