"""Photos and a network to a tuple file, and out of it.

`mining` begins with an index, `cirtorch_import` with cirtorch's pickle; `readable_photos` is the road that both take.
`cirtorch_export` gives cirtorch its files back, `torch_dataset` gives tuples to loops of one's own. Imports `search`,
`descriptors`, `networks` and what is below.
"""
