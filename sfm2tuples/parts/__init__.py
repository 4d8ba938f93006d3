"""Long work in parts: each part is one file that a worker wrote whole, and an interrupted command goes on from them.

`part_files` is what such a file begins with and how it is found torn, `work_folder` where the parts of an output lie
and who may write there. What is in a part is known by its users: `sfm2tuples.ingest` and `retrieval.descriptors`.
Imports `files` and `compute`.
"""
