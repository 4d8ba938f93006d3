"""A network for programs that are not ours: each file of it is read without this one.

Read `self_contained` (what is written of a network), then `safetensors_files` (weights and their description) or
`onnx_files` (the whole computation). Imports `networks` and `whitening`.
"""
