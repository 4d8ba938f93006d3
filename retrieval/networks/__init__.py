"""A network: backbone, pooling, whitening layer; its description, weights and checkpoint.

Read `network` and `description` first, then `by_name`, `choice` (what a command's flags ask for) and `checkpoints`.
`interpolation` has what lies between two networks; `plain_layers` and `numpy_forward` do without torch.
`backbones/` has one file a family, `poolings/` one a pooling. Imports `whitening` and `photos`.
"""
