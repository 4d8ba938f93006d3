"""Well-known retrievers by name: their weights' addresses, licences and photo sizes, and how their files are told.

Read `table` (the names), then `their_files` (from parameter names to a description and our names) and `by_name`.
`dirtorch_checkpoints` has AP-GeM's files. Imports the other rooms of `networks`.
"""
