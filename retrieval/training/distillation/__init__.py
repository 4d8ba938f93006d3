"""Distillation: a large network teaches the one that is trained, by the distances that it finds between photos.

Read `relational` (the loss) first, then `teacher` (where its descriptors come from), `teaching` (what a run has of
them), `photo_batches`, `loose_photos` and `agreement`. No label is needed. Imports what `training` does.
"""
