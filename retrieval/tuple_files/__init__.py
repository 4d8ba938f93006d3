"""Photos and a network to a tuple file, and out of it.

`mining` makes one from an index, `cirtorch_import` from cirtorch's, `cirtorch_export` gives it back. Imports
`descriptors`, `networks` and what is below.
"""
