"""Pages and summaries for people.

`report` writes a page: a head and `sections`, whose form `page` says. `tuple_page` and `evaluation_page` read what is
shown. `inspection` says what is in a file. Imports everything below.
"""
