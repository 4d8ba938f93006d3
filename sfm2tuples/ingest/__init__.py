"""Models to an index: resumable, in processes or on many machines.

Read `options` and `build` first, then `jobs` (what a worker does), `part_building` and `part_files` (what it leaves),
`merging` (parts to one file) and `room_for_parts`. Imports everything below but `mining`.
"""
