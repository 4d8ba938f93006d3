"""Networks and what is done with them: photos, descriptors, search, training, evaluation, pages.

In the order of the data: `photos`, `networks`, `descriptors`, `whitening`, `search`, `tuple_files`, `training`,
`protocols`, `metrics`, `evaluation`, `reports`, `site`; `local_features` holds the BoW teacher. Imports `sfm2tuples`,
which needs no torch.
"""
