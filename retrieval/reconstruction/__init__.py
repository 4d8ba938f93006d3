"""Loose photos to COLMAP models: photos, pairs, features, verification, mapping, each step resumable.

Read `reconstruction` first (the steps, one after the other), then `options`. `photo_table`, `cameras` and
`focal_lengths` say which photos there are, `descriptions` and `pairs` which of them are compared. `features` and
`verification` fill `database`, `mapping` runs pycolmap's mapper, `unregistered` lists what is in no model. `work` and
`summary` are what lies in the folder, and `progress` says how far a step is.
Imports `descriptors` and `local_features`.
"""
