"""Loose photos to COLMAP models, and models of poses to models with tracks: each step resumable.

Read `reconstruction` first (the steps, one after the other), then `options`. `photo_table`, `cameras` and
`focal_lengths` say which photos there are, `descriptions` and `pairs` which of them are compared. `features` and
`verification` fill `database`, `mapping` runs pycolmap's mapper, `unregistered` lists what is in no model. `work` and
`summary` are what lies in the folder, and `progress` says how far a step is. `triangulation` is the road where poses
are known: `known_poses` says which photos take part, `frusta` which are compared, `point_triangulation` runs pycolmap,
`model_files` writes the model. `apart` is how pycolmap gets a process of its own.
Imports `descriptors` and `local_features`.
"""
