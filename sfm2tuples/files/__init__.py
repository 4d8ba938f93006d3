"""One way in and out of a file.

Read `container` first (how an HDF5 file of ours is opened and made), then `columns` and `tables` (what lies in it),
`new_file` (written by HDF5, safe on a full disk), `atomic` (write beside, then rename by `renames`), `descriptors` and `descriptor_settings`. `lazy_file` reads by rows, `safe_pickle`
reads other people's pickles and calls nothing. Imports `compute`.
"""
