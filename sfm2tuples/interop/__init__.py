"""Files of other programs: cirtorch's pickles, anybody's descriptors, graphs and lists of pairs.

One module a format. Imports everything below.
"""
