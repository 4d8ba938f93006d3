"""Pages and summaries for people.

`report` writes pages, `inspection` says what is in a file. Imports everything below.
"""
