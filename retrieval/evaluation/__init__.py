"""What the command `evaluate` does: a protocol, what answers its queries, the result's file.

Read `request` first, then `measurement`. Imports `search` and what is below. The formulas of a query's average
precision are in `metrics`.
"""
