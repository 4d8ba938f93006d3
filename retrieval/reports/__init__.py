"""Pages and summaries for people.

`report` writes a page: a head and `sections`, whose form `page` says. `index_page`, `tuple_page`, `run_page` and
`evaluation_page` read what is shown; `plan_views`, `matrices`, `curves`, `pair_drawings` and `drawings` draw.
`inspection` says what is in a file, `verification` whether it is still what was written. Imports everything below.
"""
