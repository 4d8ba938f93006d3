"""From a map of features to one vector: one file a pooling.

`pooling` says what each must be; `rmac_grid` is the grid of R-MAC and of `projected_regions`. Imports the
description of networks.
"""
