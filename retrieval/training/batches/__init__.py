"""Training on batches of places: all pairs of a batch, of which a mask says what they are.

Read `steps` first, then `described`, `pair_losses` and `loss_table`. A new loss is a function and a line of
`loss_table`. Which photos a batch has is chosen in `mining`. Imports what `training` does.
"""
