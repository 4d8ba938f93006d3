"""The built-in world: buildings to photograph, their photos, and the models made from them.

Read `synthetic` first: it writes a world. Imports `files` and `compute`.
"""
