"""Files of other programs: cirtorch's pickles, anybody's descriptors, graphs.

One module a format. Imports everything below.
"""
