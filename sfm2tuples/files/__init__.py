"""One way in and out of a file.

Read `container` first (how an HDF5 file of ours is opened and made; `opening` opens anybody's), then `columns` and
`tables` (what lies in it), `rules` and `checked_columns` (what a format promises of its columns, and holding a file to
it), `plain_items` (finding datasets without following links), `text_heaps` (text that has no end), `new_file` (HDF5
that survives a full disk), `atomic` and `renames` (write beside, then rename), `descriptors`, `descriptor_checks` and
`descriptor_settings`.
`plain_fields` looks at the values of headers and checkpoints. `lazy_file` reads by rows, `safe_pickle` reads other
people's pickles and calls nothing, `text` reads lists and tables.
`remote/` reads what lies on other machines.
`regular_files` refuses pipes before they are opened; `room` asks for room before long work. Imports `compute`.
"""
