"""What the command `evaluate` does: a protocol, rankings of any kind, the result's file.

Read `measurement` first. Imports `search` and what is below.
"""
